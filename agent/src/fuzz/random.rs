//! Chance that is the same in every run, and what it does to bytes.

/// Marsaglia's xorshift.
pub(crate) struct Random(u64);

impl Random {
    /// `seed` is not 0, which would stay 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// Changes a byte, leaves some out, or puts one of `words` into their place or between them.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>, words: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(40)).min(bytes.len());
        let word = words[self.below(words.len())].iter().copied();
        match self.below(4) {
            0 if at < end => bytes[at] = self.byte(),
            1 if at < end => drop(bytes.drain(at..end)),
            2 if at < end => drop(bytes.splice(at..end, word)),
            _ => drop(bytes.splice(at..at, word)),
        }
    }
}
