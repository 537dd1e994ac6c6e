//! Memory of the kernel's maps in ours.
//!
//! The kernel maps all pages of a mapping at once, used or not (`remap_vmalloc_range`, kernel/bpf/arraymap.c and
//! ringbuf.c), and takes about half a microsecond for each. So a map is shown by windows, each when it is first needed.

use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::{NonNull, null_mut},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE,
};

/// Times that a window could not be shown.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// How often a part of a map could not be mapped. Whoever needed it goes without: what a table counts there is missing from
/// a page, or records wait in their ring.
pub fn windows_refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// What may be done with what is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read,
    Write,
}

/// Bytes of a window, and of what longer ones are multiples of: of the sizes that a page can have, the largest.
const WINDOW: usize = 64 << 10;
/// Windows of one mapping at most. A process may have 65,530 mappings (vm.max_map_count), and tables may be large.
const WINDOWS: usize = 4096;

/// A part of a map's memory, in a range of addresses of its own.
pub(super) struct Mapping {
    base: NonNull<u8>,
    length: usize,
    map: OwnedFd,
    /// Where in the map it begins.
    offset: usize,
    access: Access,
    /// Bytes of a window.
    window: usize,
    /// Window by window, whether it is shown; where it isn't, nobody can read.
    shown: Box<[AtomicBool]>,
}

// SAFETY: a range of addresses belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; what is behind it is the business of those who read it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// So many bytes of a map from `offset` on, which is a multiple of a page. The first window is shown at once: where the
    /// kernel refuses that, it refuses all.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub(super) fn new(map: BorrowedFd<'_>, offset: usize, length: usize, access: Access) -> io::Result<Self> {
        let map = map.try_clone_to_owned()?;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(null_mut(), length, PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let window = window(length);
        let shown = (0..length.div_ceil(window)).map(|_| AtomicBool::new(false)).collect();
        let mapping = Self { base, length, map, offset, access, window, shown };
        mapping.show(0, window.min(length))?;
        Ok(mapping)
    }

    /// Where its first byte is.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The windows in which these bytes lie, from the beginning of the first to the end of the last one.
    pub(super) fn around(&self, begin: usize, length: usize) -> Range<usize> {
        begin / self.window * self.window..(begin + length).next_multiple_of(self.window)
    }

    /// Shows the windows in which these bytes lie, as far as they aren't. If two threads do that at once, both show the
    /// same.
    ///
    /// # Errors
    ///
    /// Those of mmap(2), and bytes beyond the end.
    #[inline]
    pub(super) fn show(&self, begin: usize, length: usize) -> io::Result<()> {
        for window in begin / self.window..(begin + length).div_ceil(self.window) {
            let Some(shown) = self.shown.get(window) else { return Err(io::ErrorKind::InvalidInput.into()) };
            if !shown.load(Ordering::Acquire) {
                let place = self.place(window);
                let protection = match self.access {
                    Access::Read => PROT_READ,
                    Access::Write => PROT_READ | PROT_WRITE,
                };
                let offset = i64::try_from(self.offset + place.0).map_err(io::Error::other)?;
                self.replace(place, protection, MAP_SHARED, self.map.as_raw_fd(), offset)
                    .inspect_err(|_| _ = REFUSED.fetch_add(1, Ordering::Relaxed))?;
                shown.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Shows nothing any more.
    ///
    /// # Errors
    ///
    /// Those of mmap(2); what comes behind is still shown then.
    pub(super) fn hide(&mut self) -> io::Result<()> {
        for window in 0..self.shown.len() {
            if *self.shown[window].get_mut() {
                let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
                self.replace(self.place(window), PROT_NONE, flags, -1, 0)?;
                *self.shown[window].get_mut() = false;
            }
        }
        Ok(())
    }

    /// Begin and length of a window.
    fn place(&self, window: usize) -> (usize, usize) {
        let begin = window * self.window;
        (begin, self.window.min(self.length - begin))
    }

    fn replace(
        &self,
        (begin, length): (usize, usize),
        protection: i32,
        flags: i32,
        map: i32,
        offset: i64,
    ) -> io::Result<()> {
        // SAFETY: it replaces what is mapped in a part of our own range, where either nothing is shown, so that nobody
        // reads, or what will be there again, or what nobody else has borrowed (`hide` is for the one who has all of it).
        let address = unsafe {
            let place = self.base.as_ptr().add(begin).cast();
            libc::mmap(place, length, protection, flags | MAP_FIXED, map, offset)
        };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// How long the windows of so many bytes are.
fn window(length: usize) -> usize {
    length.div_ceil(WINDOWS).next_multiple_of(WINDOW).max(WINDOW)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: a range of our own, to which no borrow is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, FromRawFd as _};

    use super::*;

    #[test]
    fn what_cannot_be_shown_is_counted() {
        // SAFETY: a name that ends with a zero, and no flags.
        let file = unsafe { libc::memfd_create(c"windows".as_ptr(), 0) };
        // SAFETY: the descriptor is new and nobody else knows it.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        // SAFETY: the descriptor is open.
        assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), 3 * WINDOW as i64) }, 0);
        let mut mapping = Mapping::new(file.as_fd(), 0, 3 * WINDOW, Access::Read).unwrap();
        mapping.show(WINDOW, 1).unwrap();
        // What can't be mapped at all.
        mapping.map = io::pipe().unwrap().0.into();
        let before = windows_refused();
        mapping.show(0, 2 * WINDOW).unwrap();
        mapping.show(0, 2 * WINDOW + 1).unwrap_err();
        assert_eq!(windows_refused() - before, 1);
    }

    #[test]
    fn large_tables_have_long_windows_and_not_too_many() {
        for length in [1, 4096, WINDOW, WINDOW + 1, WINDOWS * WINDOW] {
            assert_eq!(window(length), WINDOW, "{length}");
        }
        for length in [WINDOWS * WINDOW + 1, 16 << 30] {
            let window = window(length);
            assert!(window > WINDOW && window.is_multiple_of(WINDOW), "{length}: {window}");
            assert!(length.div_ceil(window) <= WINDOWS, "{length}: {window}");
        }
    }
}
