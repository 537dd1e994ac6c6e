//! Programs that do nothing, or nothing but what can't be done without: the floors that nothing attached to these hooks
//! can go below. Nothing of them stands in the agent's object.

use std::{
    ffi::c_long,
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use podwitness::kernel::Btf;

use crate::smallest_program::{BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, NOTHING, READS_CLOCK, bpf, load};

// Commands of include/uapi/linux/bpf.h.
const BPF_RAW_TRACEPOINT_OPEN: c_long = 17;
const BPF_ENABLE_STATS: c_long = 32;

#[repr(C)]
#[derive(Default)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

#[repr(C)]
struct EnableStats {
    kind: u32,
    padding: u32,
}

/// Has the kernel count the runs of all programs, as long as this is open: each of them takes a little longer then.
pub(crate) fn count_runs() -> Result<OwnedFd> {
    const BPF_STATS_RUN_TIME: u32 = 0;
    let attributes = EnableStats { kind: BPF_STATS_RUN_TIME, padding: 0 };
    bpf(BPF_ENABLE_STATS, &attributes).context("count the runs of programs")
}

/// How often each program has run that a process holds, while runs were counted (`bpf_prog_show_fdinfo`,
/// kernel/bpf/syscall.c).
pub(crate) fn runs_of(pid: u32) -> Result<Vec<u64>> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may be closed by now.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("run_cnt:"));
        runs.extend(count.and_then(|count| count.trim().parse::<u64>().ok()));
    }
    Ok(runs)
}

/// A program for one BTF-typed tracepoint, on its hook or not.
pub(crate) struct Floor {
    program: OwnedFd,
    link: Option<OwnedFd>,
    hook: &'static str,
}

impl Floor {
    /// Does nothing.
    pub(crate) fn empty(hook: &'static str, btf: &Btf) -> Result<Self> {
        Self::load(NOTHING, hook, btf)
    }

    /// Reads the precise clock, once.
    pub(crate) fn reading_clock(hook: &'static str, btf: &Btf) -> Result<Self> {
        Self::load(READS_CLOCK, hook, btf)
    }

    fn load(instructions: &[u64], hook: &'static str, btf: &Btf) -> Result<Self> {
        let program = load(instructions, BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, btf.tracepoint_id(hook)?)
            .with_context(|| format!("load a floor for {hook}"))?;
        Ok(Self { program, link: None, hook })
    }

    /// Hangs it on its hook, or takes it away.
    pub(crate) fn switch(&mut self, on: bool) -> Result<()> {
        self.link = None;
        if on {
            let program = self.program.as_raw_fd().cast_unsigned();
            let attributes = RawTracepointOpen { program, ..RawTracepointOpen::default() };
            let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &attributes);
            self.link = Some(link.with_context(|| format!("attach a floor to {}", self.hook))?);
        }
        Ok(())
    }
}
