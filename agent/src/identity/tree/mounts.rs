//! Where hierarchies are mounted, out of the texts that the kernel shows.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// Root within the hierarchy and mount point of each cgroup v2 mount in the text of `/proc/PID/mountinfo`.
pub(super) fn cgroup2_mounts(mountinfo: &[u8]) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    mounts(mountinfo, |kind, _| kind == b"cgroup2")
}

/// The same of the v1 memory controller.
pub(super) fn memory_mounts(mountinfo: &[u8]) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    mounts(mountinfo, |kind, options| {
        kind == b"cgroup" && options.split(|b| *b == b',').any(|option| option == b"memory")
    })
}

/// Number of the v1 hierarchy that has the memory controller in the text of `/proc/self/cgroup`: `8:memory:/`.
pub(super) fn memory_hierarchy(cgroups: &str) -> Option<u32> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == "memory").then(|| id.parse().ok())?
    })
}

/// `31 23 0:28 ROOT MOUNT-POINT OPTIONS [OPTIONAL…] - TYPE SOURCE SUPER-OPTIONS`.
fn mounts(
    mountinfo: &[u8],
    wanted: impl Fn(&[u8], &[u8]) -> bool,
) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    mountinfo.split(|b| *b == b'\n').filter_map(move |line| {
        let mut fields = line.split(|b| *b == b' ');
        let root = unescape(fields.nth(3)?);
        let directory = unescape(fields.next()?);
        fields.find(|field| *field == b"-")?;
        // A root outside of this process's cgroup namespace reads `/..`: where that is can't be told.
        let root = if root.starts_with(b"/..") { b"/".to_vec() } else { root };
        let (kind, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        wanted(kind, options).then(|| (to_path(root), to_path(directory)))
    })
}

/// Resolves the octal escapes (`\040` for a space) that the kernel writes into mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn to_path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
