//! What this machine allows, and the few calls that std has no words for.

use std::{fs, io, path::Path};

/// Leaves the test with a sentence when this machine can't load BPF programs. Where `CI` is set that is a
/// failure: there the proof has to take place.
#[macro_export]
macro_rules! require_kernel {
    () => {
        if let Err(reason) = $crate::kernel::available() {
            assert!(!$crate::kernel::on_ci(), "this test can't run here: {reason}");
            eprintln!("not run: {reason}");
            return;
        }
    };
}

/// Leaves the test with a sentence unless the machine is one of `cargo xtask vm`, made for this test alone.
#[macro_export]
macro_rules! require_vm {
    () => {
        if !$crate::kernel::is_vm() {
            eprintln!("not run: it would harm this machine; `cargo xtask vm` has machines for it");
            return;
        }
    };
}

/// Whether the machine was booted for the tests.
pub fn is_vm() -> bool {
    std::env::var_os("PODWITNESS_VM").is_some()
}

/// Whether a build server runs the tests: there the proof has to take place.
pub fn on_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"))
}

/// Says why a test proves nothing here: `cargo xtask test` counts it as not run. Where `CI` is set that is a failure, but
/// for emulated machines, which have less. What a machine need not have, a test leaves out with a sentence of its own
/// instead, and says there why.
#[track_caller]
pub fn not_run(reason: impl std::fmt::Display) {
    must_not_lack(&reason);
    eprintln!("not run: {reason}");
}

/// The same of a part of a test that proves the rest: it counts as passed.
#[track_caller]
pub fn left_out(reason: impl std::fmt::Display) {
    must_not_lack(&reason);
    eprintln!("left out: {reason}");
}

#[track_caller]
fn must_not_lack(reason: &impl std::fmt::Display) {
    assert!(is_vm() || !on_ci(), "this test can't run here: {reason}");
}

/// Capability numbers of include/uapi/linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Whether the agent can load programs here and the harness can make cgroups and network namespaces.
pub fn available() -> Result<(), String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc: {error}"))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0);
    for (bit, name) in [(CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")] {
        if effective >> bit & 1 == 0 {
            return Err(format!("{name} is missing (run the tests as root)"));
        }
    }
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        return Err("this kernel has no bpf(2)".into());
    }
    if crate::cgroup::hierarchies().is_empty() {
        return Err("no cgroup2 file system is mounted".into());
    }
    Ok(())
}

/// Whether there are MPTCP sockets.
pub fn has_mptcp() -> bool {
    Path::new("/proc/sys/net/mptcp/enabled").exists()
}

/// The two first numbers of the running kernel's release.
pub fn release() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Sends a signal to one process that this harness started.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    check(unsafe { libc::kill(pid.cast_signed(), signal) }.into())
}

/// Sends a signal to one thread of a process that this harness started.
pub fn kill_thread(pid: u32, tid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: tgkill(2) takes three numbers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) })
}

/// The letter of a process' state (`R`, `S`, `T`, …), or `None` if there is no such process.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may contain any character, a closing one too.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Bytes of anonymous memory that a process has resident: heap and stacks, without what is mapped from files.
#[track_caller]
pub fn anonymous_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process' status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kibibytes * 1024
}

/// Bytes of the kernel's maps that are mapped into a process.
#[track_caller]
pub fn mapped_maps(pid: u32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the process' mappings");
    let (mut is_map, mut kibibytes) = (false, 0);
    for line in smaps.lines() {
        match line.strip_prefix("Rss:") {
            Some(rss) if is_map => {
                kibibytes += rss.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB");
            }
            Some(_) => {}
            // The first line of a mapping has addresses, and what is mapped at its end.
            None if line.split(' ').next().is_some_and(|first| first.contains('-')) => {
                is_map = line.ends_with("anon_inode:bpf-map");
            }
            None => {}
        }
    }
    kibibytes * 1024
}

/// The threads of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// The number of the system call that a thread is blocked in.
pub fn blocked_in(pid: u32, tid: u32) -> Option<i64> {
    let line = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    line.split(' ').next()?.parse().ok()
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
