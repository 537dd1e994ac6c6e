//! The page as text: OpenMetrics, or Prometheus' older format, in chunks that are written when they are wanted. Whoever
//! reads slowly holds the figures meanwhile, not the text, which has twenty times their size.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    bounds,
    page::{Family, Kind, Page, Unit, seconds},
};
use crate::{exemplar::Exemplar, http::Format};

/// Bytes of a chunk; what belongs to one histogram stays together.
pub(super) const CHUNK: usize = 64 * 1024;
/// The most that one sample takes of a chunk, or nearly.
pub(super) const MARGIN: usize = 16 * 1024;

/// Writes a page.
pub(super) struct Lines {
    page: Arc<Page>,
    format: Format,
    family: usize,
    sample: usize,
    /// What each line of a sample begins with.
    heads: Vec<Piece>,
    /// What a line of a histogram ends with: its labels, which all its lines have, and its value, which many have.
    ending: Piece,
    is_done: bool,
}

impl Lines {
    pub(super) fn new(page: Arc<Page>, format: Format) -> Self {
        Self {
            page,
            format,
            family: 0,
            sample: 0,
            heads: Vec::new(),
            ending: Piece::default(),
            is_done: false,
        }
    }

    /// Writes until the family ends or the chunk is full.
    fn write_family(&mut self, chunk: &mut Vec<u8>) {
        let Self { page, sample, heads, ending, .. } = self;
        let family = &page.families[self.family];
        let has_exemplars = self.format == Format::OpenMetrics;
        for next in &family.samples[*sample..] {
            *sample += 1;
            let base = if family.is_based { page.bases.piece(next.base) } else { "" };
            let own = family.own.piece(next.own);
            let mut marks = family.exemplars(next).filter(|_| has_exemplars).peekable();
            match &family.kind {
                Kind::Counter => {
                    let mark = marks.next().map(|(_, exemplar)| exemplar);
                    line(chunk, &heads[0], [base, own], itoa::Buffer::new().format(next.value), mark);
                }
                Kind::Seconds | Kind::Gauge => {
                    let value = f64::from_bits(next.value);
                    line(chunk, &heads[0], [base, own], dtoa::Buffer::new().format(value), None);
                }
                Kind::Histogram(bounds) => {
                    let counts = &family.counts[next.value as usize..][..bounds.count() + 2];
                    let (sum, counts) = (seconds(counts[0]), &counts[1..]);
                    line(chunk, &heads[0], [base, own], dtoa::Buffer::new().format(sum), None);
                    let count = counts.iter().sum::<u64>();
                    line(chunk, &heads[1], [base, own], itoa::Buffer::new().format(count), None);
                    let mut below = 0;
                    ending.set([base, own, "0\n"]);
                    for (bucket, (head, count)) in heads[2..].iter().zip(counts).enumerate() {
                        if *count > 0 {
                            below += count;
                            ending.set([base, own, itoa::Buffer::new().format(below), "\n"]);
                        }
                        head.write(chunk);
                        ending.write(chunk);
                        if let Some((_, exemplar)) = marks.next_if(|(of, _)| *of == bucket) {
                            mark(chunk, exemplar);
                        }
                    }
                }
            }
            if chunk.len() >= CHUNK - MARGIN {
                break;
            }
        }
    }

    /// Whether there was one more.
    fn next_family(&mut self, chunk: &mut Vec<u8>) -> bool {
        let Some(family) = self.page.families.get(self.family) else { return false };
        describe(family, self.format, chunk);
        self.heads = heads(family);
        true
    }
}

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.is_done {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            if self.heads.is_empty() && !self.next_family(&mut chunk) {
                self.is_done = true;
                if self.format == Format::OpenMetrics {
                    chunk.extend_from_slice(b"# EOF\n");
                }
                return Some(chunk.into());
            }
            self.write_family(&mut chunk);
            if self.sample < self.page.families[self.family].samples.len() {
                return Some(chunk.into());
            }
            (self.family, self.sample) = (self.family + 1, 0);
            self.heads.clear();
            if chunk.len() >= CHUNK - MARGIN {
                return Some(chunk.into());
            }
        }
    }
}

/// Writes a line: what it begins with, its labels, which are in two pieces, and what it says.
#[inline(always)]
fn line(chunk: &mut Vec<u8>, head: &Piece, labels: [&str; 2], value: &str, exemplar: Option<&Exemplar>) {
    head.write(chunk);
    // To copy nothing takes as long as to copy a little.
    for piece in labels.into_iter().filter(|piece| !piece.is_empty()) {
        chunk.extend_from_slice(piece.as_bytes());
    }
    chunk.extend_from_slice(value.as_bytes());
    chunk.push(b'\n');
    if let Some(exemplar) = exemplar {
        mark(chunk, exemplar);
    }
}

pub(super) fn full_name(family: &Family) -> String {
    match family.unit {
        Some(unit) => format!("{}_{}", family.name, unit.name()),
        None => family.name.to_owned(),
    }
}

/// Prometheus' older format declares counters under the name of their samples, and knows no units.
fn describe(family: &Family, format: Format, chunk: &mut Vec<u8>) {
    let (kind, suffix) = match family.kind {
        Kind::Counter | Kind::Seconds => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
        Kind::Histogram(_) => ("histogram", ""),
    };
    // OpenMetrics wants a quote escaped and the older format doesn't: no text has one.
    debug_assert!(!family.help.contains(['"', '\\', '\n']), "{}", family.help);
    let full = full_name(family);
    let name = if format == Format::Text { format!("{full}{suffix}") } else { full.clone() };
    let mut text = format!("# HELP {name} {}\n# TYPE {name} {kind}\n", family.help);
    if let (Some(unit), Format::OpenMetrics) = (family.unit, format) {
        text += &format!("# UNIT {full} {}\n", unit.name());
    }
    chunk.extend_from_slice(text.as_bytes());
}

/// Up to where the labels of a sample begin.
fn heads(family: &Family) -> Vec<Piece> {
    let name = full_name(family);
    let brace = if family.is_based || !family.names.is_empty() { "{" } else { "" };
    let heads = match &family.kind {
        Kind::Counter | Kind::Seconds => vec![format!("{name}_total{brace}")],
        Kind::Gauge => vec![format!("{name}{brace}")],
        Kind::Histogram(bounds) => {
            let mut heads = vec![format!("{name}_sum{{"), format!("{name}_count{{")];
            let of = |bound| format!("{name}_bucket{{le=\"{}\",", bounds::written(bound));
            heads.extend(bounds.iter().map(of));
            heads.push(format!("{name}_bucket{{le=\"+Inf\","));
            heads
        }
    };
    heads.iter().map(|head| Piece::new(head)).collect()
}

/// Puts an exemplar behind the line that was written last.
#[cold]
fn mark(chunk: &mut Vec<u8>, exemplar: &Exemplar) {
    let [trace, span] = exemplar.ids();
    let (seconds, ms) = (exemplar.unix_ns / 1_000_000_000, exemplar.unix_ns / 1_000_000 % 1000);
    let value = dtoa::Buffer::new().format(exemplar.value).to_owned();
    let text = format!(" # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {seconds}.{ms:03}\n");
    chunk.pop();
    chunk.extend_from_slice(text.as_bytes());
}

/// Text that is written many times. It is followed by zeros up to a whole number of blocks, and so written as blocks, of
/// which the next piece overwrites what was too much: to copy a length that the compiler knows takes no call.
#[derive(Default)]
struct Piece {
    blocks: Vec<u8>,
    length: usize,
}

impl Piece {
    const BLOCK: usize = 32;

    fn new(text: &str) -> Self {
        let mut piece = Self::default();
        piece.set([text]);
        piece
    }

    fn set<const N: usize>(&mut self, texts: [&str; N]) {
        self.blocks.clear();
        texts.into_iter().for_each(|text| self.blocks.extend_from_slice(text.as_bytes()));
        self.length = self.blocks.len();
        self.blocks.resize(self.length.next_multiple_of(Self::BLOCK), 0);
    }

    #[inline(always)]
    fn write(&self, chunk: &mut Vec<u8>) {
        let end = chunk.len() + self.length;
        let blocks = &self.blocks;
        match blocks.len() / Self::BLOCK {
            1 => chunk.extend_from_slice(&blocks[..Self::BLOCK]),
            2 => chunk.extend_from_slice(&blocks[..2 * Self::BLOCK]),
            3 => chunk.extend_from_slice(&blocks[..3 * Self::BLOCK]),
            4 => chunk.extend_from_slice(&blocks[..4 * Self::BLOCK]),
            _ => chunk.extend_from_slice(blocks),
        }
        chunk.truncate(end);
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_are_written_whole() {
        let texts: Vec<_> =
            (0..200).map(|length| "abcdefg".chars().cycle().take(length).collect::<String>()).collect();
        let mut chunk = Vec::new();
        let mut reused = Piece::default();
        for text in texts.iter().chain(texts.iter().rev()) {
            Piece::new(text).write(&mut chunk);
            reused.set([text, "\n"]);
            reused.write(&mut chunk);
        }
        let expected = |text: &String| format!("{text}{text}\n");
        assert_eq!(
            chunk,
            texts.iter().chain(texts.iter().rev()).map(expected).collect::<String>().as_bytes()
        );
    }
}
