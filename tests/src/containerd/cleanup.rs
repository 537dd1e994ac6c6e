//! What a containerd leaves behind that has ended: shims, mounts, cgroups.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::kernel::kill;

/// Shims that serve the containerd in this directory.
pub(super) fn shims(mark: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_shim = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("containerd-shim") && line.contains(mark)
    };
    numbers.filter(is_shim).collect()
}

/// A pod's directory in every hierarchy.
pub(super) fn cgroups_of(uid: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let pod = format!("kubepods/burstable/pod{uid}");
    std::iter::once(top.to_owned())
        .chain(below)
        .map(|root| root.join(&pod))
        .filter(|path| path.is_dir())
        .collect()
}

/// Ends who is left inside, and removes it.
pub(super) fn clear(directory: &Path) {
    let inner = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    for inner in inner.filter(|path| path.is_dir()) {
        clear(&inner);
    }
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != 0) {
        let _ = kill(pid, libc::SIGKILL);
    }
    for _ in 0..50 {
        if fs::remove_dir(directory).is_ok() || !directory.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("the cgroup {} is left behind: somebody is still in it", directory.display());
}

pub(super) fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mark = directory.display().to_string();
    let inside =
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&mark));
    for at in inside {
        let _ = Command::new("umount").args(["-l", at]).status();
    }
}
