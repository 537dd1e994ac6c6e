//! Memory of the kernel's maps in ours.
//!
//! The kernel maps all pages of such a mapping at once, used or not (`remap_vmalloc_range`, kernel/bpf/arraymap.c and
//! ringbuf.c). So whoever needs only a part of a map at a time lets only that be shown.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{NonNull, null_mut},
};

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE,
};

/// What may be done with what is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read = PROT_READ as isize,
    Write = (PROT_READ | PROT_WRITE) as isize,
}

/// A range of addresses in which maps are shown. Where nothing is, nobody can read.
pub(super) struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: a range of addresses belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; what is behind it is the business of those who read it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// A range that shows nothing yet.
    pub(super) fn empty(length: usize) -> io::Result<Self> {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(null_mut(), length, PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, length })
    }

    /// A range that shows a map's first bytes.
    pub(super) fn of(map: BorrowedFd<'_>, length: usize, access: Access) -> io::Result<Self> {
        let mapping = Self::empty(length)?;
        mapping.show(0, map, 0, length, access)?;
        Ok(mapping)
    }

    /// Shows `length` bytes of the map from `offset` on at the place `at`, where something else may have been shown. Both
    /// are multiples of a page.
    ///
    /// # Errors
    ///
    /// Those of mmap(2); nothing is shown there then.
    pub(super) fn show(
        &self,
        at: usize,
        map: BorrowedFd<'_>,
        offset: usize,
        length: usize,
        access: Access,
    ) -> io::Result<()> {
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let offset = offset.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = MAP_SHARED | MAP_FIXED;
        // SAFETY: it replaces what is mapped in a part of our own range; that nobody reads it meanwhile who expects
        // something else is promised by those who have the mapping to themselves.
        let shown = unsafe {
            let place = self.base.as_ptr().add(at);
            libc::mmap(place.cast(), length, access as i32, flags, map.as_raw_fd(), offset)
        };
        if shown == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: a range of our own, to which no borrow is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}
