//! Array maps of the kernel half, mapped into our memory: reading one costs no system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    slice,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::mapping::{Access, Mapping};

/// An array map whose elements are `T`, seen as words of 64 bits that the kernel may change at any time.
pub struct Table<T> {
    mapping: Mapping,
    entries: u32,
    /// None where all of it is shown.
    windows: Option<Windows>,
    element: PhantomData<fn() -> T>,
}

/// Parts of a table that are shown when somebody first reads in them.
struct Windows {
    map: OwnedFd,
    shown: Box<[AtomicBool]>,
}

/// Bytes of a window: as much as a page has at most.
const WINDOW: usize = 64 << 10;

impl<T> Table<T> {
    /// Words per element: the kernel rounds elements up to 8 bytes (`array_map_alloc`, kernel/bpf/arraymap.c).
    pub const WORDS: usize = size_of::<T>().div_ceil(8);

    /// Maps an array map that was made with `BPF_F_MMAPABLE`.
    pub fn map(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let mapping = Mapping::of(map, Self::bytes_of(entries), Access::Write)?;
        Ok(Self { mapping, entries, windows: None, element: PhantomData })
    }

    /// The same of one of which only a part is in use: no more of it than somebody reads takes room in our memory.
    pub fn map_by_windows(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let bytes = Self::bytes_of(entries);
        let mapping = Mapping::empty(bytes)?;
        let shown = (0..bytes.div_ceil(WINDOW)).map(|_| AtomicBool::new(false)).collect();
        let windows = Windows { map: map.try_clone_to_owned()?, shown };
        windows.show(&mapping, 0, bytes.min(WINDOW))?;
        Ok(Self { mapping, entries, windows: Some(windows), element: PhantomData })
    }

    fn bytes_of(entries: u32) -> usize {
        entries as usize * Self::WORDS * 8
    }

    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Bytes of kernel memory behind the table.
    pub fn bytes(&self) -> usize {
        self.mapping.length()
    }

    /// The words of one element; none past the end of the table, or if the kernel doesn't show it.
    pub fn words(&self, index: u32) -> &[AtomicU64] {
        if index >= self.entries {
            return &[];
        }
        let (begin, length) = (Self::bytes_of(index), Self::bytes_of(1));
        if let Some(windows) = &self.windows
            && let Err(error) = windows.show(&self.mapping, begin, length)
        {
            tracing::error!(%error, "a part of a table of counters can't be read: raise vm.max_map_count");
            return &[];
        }
        // SAFETY: index < entries, so the element lies inside of the mapping, which lives as long as `self`; all of it is
        // shown, and stays where it is; the base is aligned to a page; shared memory accessed as atomics may change
        // under us.
        unsafe { slice::from_raw_parts(self.mapping.base().as_ptr().add(begin).cast(), Self::WORDS) }
    }

    /// One word of one element; 0 past the end.
    pub fn load(&self, index: u32, word: usize) -> u64 {
        self.words(index).get(word).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    pub fn store(&self, index: u32, word: usize, value: u64) {
        if let Some(word) = self.words(index).get(word) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Zeroes an element that no program writes to any more.
    pub fn clear(&self, index: u32) {
        for word in self.words(index) {
            word.store(0, Ordering::Relaxed);
        }
    }
}

impl Windows {
    /// Shows those in which these bytes lie. If two threads do that at once, both show the same.
    fn show(&self, mapping: &Mapping, begin: usize, length: usize) -> io::Result<()> {
        for window in begin / WINDOW..(begin + length).div_ceil(WINDOW) {
            if !self.shown[window].load(Ordering::Acquire) {
                let at = window * WINDOW;
                mapping.show(at, self.map.as_fd(), at, WINDOW.min(mapping.length() - at), Access::Write)?;
                self.shown[window].store(true, Ordering::Release);
            }
        }
        Ok(())
    }
}
