//! What this machine lets us do.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::smallest_program::{self, BPF_PROG_TYPE_RAW_TRACEPOINT, NOTHING};
use crate::steps::Failure;

const BTF: &str = "/sys/kernel/btf/vmlinux";

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Whether the kernel will take our programs; the error says why not and what to do. What to do about
/// missing privilege depends on who asks.
pub(crate) fn can_load(to_get_privilege: &str) -> Result<()> {
    let capabilities = Capabilities::of_this_process()?;
    if !capabilities.suffice() {
        return Err(Failure::error(
            "loading eBPF programs needs root, or the capabilities CAP_BPF and CAP_PERFMON",
            to_get_privilege,
        ));
    }
    if !Path::new(BTF).exists() {
        return Err(Failure::error(
            format!("this kernel does not describe its types: {BTF} is missing"),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' kernels are",
        ));
    }
    smallest_program::load(NOTHING, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0).map(drop).map_err(|error| {
        Failure::error(
            format!("this kernel refuses even the smallest eBPF program: {error}"),
            "look for a seccomp profile or a security module that forbids bpf(), \
             as containers without --privileged have",
        )
    })
}

pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// On a build server nothing may be skipped silently.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

struct Capabilities(u64);

impl Capabilities {
    fn of_this_process() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
        Self::in_status(&status).context("/proc/self/status shows no effective capabilities")
    }

    fn in_status(status: &str) -> Option<Self> {
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(Self)
    }

    fn suffice(&self) -> bool {
        let has = |capability: u32| self.0 & (1 << capability) != 0;
        has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON))
    }
}

#[cfg(test)]
mod tests {
    use super::Capabilities;

    fn suffices(mask: &str) -> bool {
        let status = format!("Name:\tcat\nCapInh:\t0\nCapEff:\t{mask}\nCapBnd:\tffffffffffffffff\n");
        Capabilities::in_status(&status).unwrap().suffice()
    }

    #[test]
    fn root_or_both_capabilities_suffice() {
        assert!(suffices("000001ffffffffff"));
        assert!(suffices("000000c000000000"));
        assert!(suffices("0000000000200000"));
    }

    #[test]
    fn one_of_both_does_not() {
        assert!(!suffices("0000008000000000"));
        assert!(!suffices("0000004000000000"));
        assert!(!suffices("0000000000000000"));
    }
}
