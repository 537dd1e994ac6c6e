//! Bytes that are written one behind the other: spans, and requests of them.

use std::{fmt, mem};

use bytes::Bytes;

/// Bytes behind a place that may be written with it.
pub(crate) const SLACK: usize = 16;

/// Bytes that are written one behind the other. The memory behind them is there already, filled with zeros: so what has a
/// known length is written by plain stores, where a `Vec` would ask for room before each piece.
#[derive(Default)]
pub(crate) struct Writer {
    memory: Vec<u8>,
    length: usize,
}

impl Writer {
    /// With room for so many bytes, in memory that is used once more.
    pub(crate) fn written_in(mut memory: Vec<u8>, bytes: usize) -> Self {
        let least = bytes + SLACK;
        if memory.capacity() < least {
            // Memory that is new may be zero already.
            memory = vec![0; least];
        }
        memory.resize(least.max(memory.len()), 0);
        Self { memory, length: 0 }
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    pub(crate) fn written_from(&mut self, begin: usize) -> &mut [u8] {
        &mut self.memory[begin..self.length]
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// What is written, and no more memory than that.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        self.memory.truncate(self.length);
        self.memory.into()
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// The next so many bytes, to be written.
    #[inline(always)]
    pub(crate) fn room(&mut self, length: usize) -> &mut [u8] {
        let (begin, end) = (self.length, self.length + length);
        if end > self.memory.len() {
            *self = mem::take(self).grown(end);
        }
        self.length = end;
        &mut self.memory[begin..end]
    }

    /// The same, and [`SLACK`] behind it, which is written once more by what comes next: to store a fixed length takes an
    /// instruction or two, where one that is counted out takes a call.
    #[inline(always)]
    pub(crate) fn room_and_slack(&mut self, length: usize) -> &mut [u8] {
        let (begin, end) = (self.length, self.length + length);
        if end + SLACK > self.memory.len() {
            *self = mem::take(self).grown(end + SLACK);
        }
        self.length = end;
        &mut self.memory[begin..end + SLACK]
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    /// Takes no reference: nobody but itself knows where a writer is, so that it can stay in registers.
    #[cold]
    #[inline(never)]
    fn grown(mut self, least: usize) -> Self {
        self.memory.resize(least.next_power_of_two().max(64), 0);
        self
    }
}

/// As long as what is written, because it may stay for a while.
impl Clone for Writer {
    fn clone(&self) -> Self {
        Self { memory: self.written().to_vec(), length: self.length }
    }
}

impl PartialEq for Writer {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Eq for Writer {}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written().fmt(f)
    }
}
