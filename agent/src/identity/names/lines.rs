//! Lines out of the pieces of a body, none longer than a bound.

/// What is kept of the buffer between lines.
const KEPT: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Bytes at the front that have been given out.
    taken: usize,
    /// Bytes from `taken` on that are known to hold no line end.
    searched: usize,
    longest: usize,
    /// Within a line that is too long.
    skipping: bool,
}

/// A line that is longer than allowed; it is skipped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(longest: usize) -> Self {
        Self { buffer: Vec::new(), taken: 0, searched: 0, longest, skipping: false }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(KEPT);
        }
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole line that isn't blank. What follows the last line end waits for more.
    pub(super) fn next(&mut self) -> Option<Result<&[u8], TooLong>> {
        loop {
            let from = self.taken + self.searched;
            let Some(length) = self.buffer[from..].iter().position(|byte| *byte == b'\n') else {
                return self.unfinished();
            };
            let (start, end) = (self.taken, from + length);
            self.taken = end + 1;
            self.searched = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if end - start > self.longest {
                return Some(Err(TooLong));
            }
            if !self.buffer[start..end].trim_ascii().is_empty() {
                return Some(Ok(&self.buffer[start..end]));
            }
        }
    }

    fn unfinished(&mut self) -> Option<Result<&[u8], TooLong>> {
        self.searched = self.buffer.len() - self.taken;
        if self.searched <= self.longest {
            return None;
        }
        self.buffer = Vec::new();
        (self.taken, self.searched) = (0, 0);
        // Told once for each line.
        (!std::mem::replace(&mut self.skipping, true)).then_some(Err(TooLong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<Result<Vec<u8>, TooLong>> {
        std::iter::from_fn(|| lines.next().map(|line| line.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn lines_come_out_whole_however_they_are_cut() {
        let text = b"one\n\n  \r\ntwo\nthree\nunfinished";
        for size in 1..text.len() {
            let mut lines = Lines::new(10);
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                lines.push(piece);
                found.extend(all(&mut lines));
            }
            assert_eq!(found, [Ok(b"one".to_vec()), Ok(b"two".to_vec()), Ok(b"three".to_vec())], "{size}");
        }
    }

    #[test]
    fn a_long_line_is_told_once_and_takes_no_memory() {
        for size in [1, 3, 1000] {
            let mut lines = Lines::new(8);
            let mut found = Vec::new();
            let text = [vec![b'x'; 500], b"\nshort\n".to_vec()].concat();
            for piece in text.chunks(size) {
                lines.push(piece);
                found.extend(all(&mut lines));
                assert!(lines.buffer.len() <= 9 + size);
            }
            assert_eq!(found, [Err(TooLong), Ok(b"short".to_vec())], "{size}");
        }
    }

    #[test]
    fn memory_is_given_back_after_a_large_line() {
        let mut lines = Lines::new(1 << 20);
        lines.push(&[vec![b'x'; 1 << 20], b"\n".to_vec()].concat());
        assert_eq!(all(&mut lines).len(), 1);
        lines.push(b"y");
        assert!(lines.buffer.capacity() <= KEPT);
    }
}
