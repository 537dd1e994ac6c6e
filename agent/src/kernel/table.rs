//! Array maps of the kernel half, mapped into our memory: reading one costs no system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{NonNull, null_mut},
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

/// An array map whose elements are `T`, seen as words of 64 bits that the kernel may change at any time.
pub struct Table<T> {
    base: NonNull<AtomicU64>,
    bytes: usize,
    entries: u32,
    element: PhantomData<fn() -> T>,
}

// SAFETY: the mapping is shared memory that is only ever accessed as atomic words.
unsafe impl<T> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Table<T> {}

impl<T> Table<T> {
    /// Words per element: the kernel rounds elements up to 8 bytes (`array_map_alloc`, kernel/bpf/arraymap.c).
    pub const WORDS: usize = size_of::<T>().div_ceil(8);

    /// Maps an array map that was made with `BPF_F_MMAPABLE`.
    pub fn map(fd: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let bytes = entries as usize * Self::WORDS * 8;
        // SAFETY: a new mapping at an address of the kernel's choice; it refuses a length beyond the map's.
        let base = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, bytes, entries, element: PhantomData })
    }

    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Bytes of kernel memory behind the table.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The words of one element; none past the end of the table.
    pub fn words(&self, index: u32) -> &[AtomicU64] {
        if index >= self.entries {
            return &[];
        }
        // SAFETY: index < entries, so the element lies inside of the mapping, which lives as long as `self`; the
        // base is aligned to a page; shared memory accessed as atomics may change under us.
        unsafe { slice::from_raw_parts(self.base.as_ptr().add(index as usize * Self::WORDS), Self::WORDS) }
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

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, to which no borrow is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
