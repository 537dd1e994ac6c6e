//! What the kernel keeps of an agent: programs, maps and links, by id.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// A kind of object and its number. Numbers are given out in rising order, so that one that was freed does not
/// come back during a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    Program(u32),
    Map(u32),
    Link(u32),
}

/// The objects that a process holds by its descriptors.
pub fn held_by(pid: u32) -> BTreeSet<Object> {
    let object = |(key, id): (String, u32)| match key.as_str() {
        "prog_id" => Some(Object::Program(id)),
        "map_id" => Some(Object::Map(id)),
        "link_id" => Some(Object::Link(id)),
        _ => None,
    };
    told_of(pid).filter_map(object).collect()
}

/// The types of the maps that a process holds (`enum bpf_map_type`, include/uapi/linux/bpf.h).
pub fn map_types_of(pid: u32) -> BTreeSet<u32> {
    told_of(pid).filter(|(key, _)| key == "map_type").map(|(_, kind)| kind).collect()
}

/// What the kernel tells of a process's descriptors in numbers.
fn told_of(pid: u32) -> impl Iterator<Item = (String, u32)> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = descriptors.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default());
    let number = |line: &str| {
        let (key, value) = line.split_once(':')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    texts.flat_map(move |text| text.lines().filter_map(number).collect::<Vec<_>>())
}

impl Object {
    /// Whether the kernel still has it.
    pub fn exists(self) -> bool {
        self.open().is_some()
    }

    /// Its descriptor, if the kernel still has it.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        // Commands of bpf(2), include/uapi/linux/bpf.h.
        let (command, id) = match self {
            Self::Program(id) => (13, id),
            Self::Map(id) => (14, id),
            Self::Link(id) => (30, id),
        };
        // The id is the first field of what BPF_*_GET_FD_BY_ID takes; all others are 0.
        let mut attributes = [0_u32; 32];
        attributes[0] = id;
        // SAFETY: the kernel reads no more than the size says, and all of it is initialised.
        let fd =
            unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
        let Ok(fd @ 0..) = i32::try_from(fd) else {
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{self:?}: {error}");
            return None;
        };
        // SAFETY: the descriptor is new and nobody else knows it; dropping it closes it.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// All that is pinned under /sys/fs/bpf.
pub fn pinned() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/bpf"), &mut found);
    found
}

fn walk(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        found.insert(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}
