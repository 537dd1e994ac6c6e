//! Puts arrays that can be mapped in the place of the globals that programs share with user space.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Ebpf, maps::Map};

use super::LoadError;

/// What the sections of these globals are called, before the name of the array.
const SECTION: &str = ".bss.";

/// The instructions of the programs have the global's map by the number of its descriptor, until they are loaded: by
/// then the number stands for the array.
///
/// # Errors
///
/// There is no such array, or the kernel refuses the number.
pub(super) fn put_in_place(ebpf: &Ebpf) -> Result<(), LoadError> {
    for (section, global) in ebpf.maps() {
        let Some(name) = section.strip_prefix(SECTION) else { continue };
        let (Map::Array(global), Some(Map::Array(array))) = (global, ebpf.map(name)) else {
            return Err(LoadError::NoArray(section.to_owned()));
        };
        let (from, to) = (array.fd().as_fd().as_raw_fd(), global.fd().as_fd().as_raw_fd());
        // Of one that has many elements the kernel gives no address, so it is looked up.
        if array.info()?.max_entries() > 1 {
            continue;
        }
        // SAFETY: both are open, and belong to aya, which closes either number once; nobody has mapped the global.
        if unsafe { libc::dup3(from, to, libc::O_CLOEXEC) } < 0 {
            return Err(LoadError::Place(section.to_owned(), io::Error::last_os_error()));
        }
    }
    Ok(())
}
