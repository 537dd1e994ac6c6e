//! Array maps of the kernel half, mapped into our memory: reading one costs no system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::BorrowedFd,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use super::mapping::{Access, Mapping};

/// An array map whose elements are `T`, seen as words of 64 bits that the kernel may change at any time. Of a large table
/// of which a part is in use, no more takes room in our memory.
pub struct Table<T> {
    mapping: Mapping,
    entries: u32,
    element: PhantomData<fn() -> T>,
}

impl<T> Table<T> {
    /// Words per element: the kernel rounds elements up to 8 bytes (`array_map_alloc`, kernel/bpf/arraymap.c).
    pub const WORDS: usize = size_of::<T>().div_ceil(8);

    /// Maps an array map that was made with `BPF_F_MMAPABLE`.
    pub fn map(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let mapping = Mapping::new(map, 0, Self::bytes_of(entries), Access::Write)?;
        Ok(Self { mapping, entries, element: PhantomData })
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
        let begin = Self::bytes_of(index);
        if let Err(error) = self.mapping.show(begin, Self::bytes_of(1)) {
            tracing::error!(%error, "a part of a table can't be read: is vm.max_map_count reached?");
            return &[];
        }
        // SAFETY: index < entries, so the element lies inside of the mapping, which lives as long as `self`; it is shown,
        // and stays so, as nobody hides parts of a table; the base is aligned to a page; shared memory accessed as
        // atomics may change under us.
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

    /// Zeroes an element that no program writes to any more; false if the kernel doesn't show it.
    pub fn clear(&self, index: u32) -> bool {
        let words = self.words(index);
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        !words.is_empty()
    }
}
