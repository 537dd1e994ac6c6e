//! The page as protobuf: a `MetricFamily` of client_model after the other, each behind its length.
//!
//! Such a message may have the size of all its series. Its length is counted first, so that it can be written in chunks
//! like the text.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, message},
};

use super::{
    page::{Family, Kind, Page, Sample},
    text::{CHUNK, MARGIN, full_name},
};

/// Fields of `MetricFamily` and `Metric`.
const NAME: u32 = 1;
const HELP: u32 = 2;
const TYPE: u32 = 3;
const METRIC: u32 = 4;
const LABEL: u32 = 1;
const GAUGE: u32 = 2;
const COUNTER: u32 = 3;
const HISTOGRAM: u32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// `Gauge` and `Counter`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Number {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
}

/// Writes a page.
pub(super) struct Messages {
    page: Arc<Page>,
    family: usize,
    sample: usize,
    /// Whether what stands before its samples is written.
    is_begun: bool,
    /// Labels as they are encoded: of each base, as far as it was needed, and of the family's own.
    bases: Vec<Option<Box<[u8]>>>,
    owns: Vec<Box<[u8]>>,
}

impl Messages {
    pub(super) fn new(page: Arc<Page>) -> Self {
        let bases = vec![None; page.bases.len()];
        Self { page, family: 0, sample: 0, is_begun: false, bases, owns: Vec::new() }
    }

    /// The length of a family, and what stands before its samples.
    fn begin(&mut self, chunk: &mut Vec<u8>) {
        let page = Arc::clone(&self.page);
        let family = &page.families[self.family];
        self.owns = family.own.iter().map(|text| encoded(&labels(text))).collect();
        let (kind, suffix) = match family.kind {
            Kind::Counter | Kind::Seconds => (0, "_total"),
            Kind::Gauge => (1, ""),
            Kind::Histogram(_) => (4, ""),
        };
        let mut head = Vec::new();
        put_text(&mut head, NAME, &format!("{}{suffix}", full_name(family)));
        put_text(&mut head, HELP, family.help);
        encode_key(TYPE, WireType::Varint, &mut head);
        encode_varint(kind, &mut head);
        let metrics: usize = family
            .samples
            .iter()
            .map(|sample| {
                let length = self.length(family, sample);
                // The key of a field below 16 is one byte.
                1 + encoded_len_varint(length as u64) + length
            })
            .sum();
        encode_varint((head.len() + metrics) as u64, chunk);
        chunk.extend_from_slice(&head);
        self.is_begun = true;
    }

    /// Of one `Metric`.
    fn length(&mut self, family: &Family, sample: &Sample) -> usize {
        self.base(family, sample).len()
            + self.owns[sample.own as usize].len()
            + value(family, sample).length()
    }

    fn base(&mut self, family: &Family, sample: &Sample) -> &[u8] {
        if !family.is_based {
            return &[];
        }
        let page = &self.page;
        self.bases[sample.base as usize]
            .get_or_insert_with(|| encoded(&labels(page.bases.piece(sample.base))))
    }

    fn write(&mut self, family: &Family, sample: &Sample, chunk: &mut Vec<u8>) {
        let length = self.length(family, sample);
        encode_key(METRIC, WireType::LengthDelimited, chunk);
        encode_varint(length as u64, chunk);
        chunk.extend_from_slice(self.base(family, sample));
        chunk.extend_from_slice(&self.owns[sample.own as usize]);
        value(family, sample).write(chunk);
    }
}

impl Iterator for Messages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let page = Arc::clone(&self.page);
        let mut chunk = Vec::with_capacity(CHUNK);
        while let Some(family) = page.families.get(self.family) {
            if !self.is_begun {
                self.begin(&mut chunk);
            }
            while let Some(sample) = family.samples.get(self.sample) {
                self.write(family, sample, &mut chunk);
                self.sample += 1;
                if chunk.len() >= CHUNK - MARGIN {
                    return Some(chunk.into());
                }
            }
            (self.family, self.sample, self.is_begun) = (self.family + 1, 0, false);
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

/// What a series shows, and in which field.
enum Value {
    Number(u32, Number),
    Histogram(Histogram),
}

impl Value {
    fn length(&self) -> usize {
        match self {
            Self::Number(tag, number) => message::encoded_len(*tag, number),
            Self::Histogram(histogram) => message::encoded_len(HISTOGRAM, histogram),
        }
    }

    fn write(&self, chunk: &mut impl BufMut) {
        match self {
            Self::Number(tag, number) => message::encode(*tag, number, chunk),
            Self::Histogram(histogram) => message::encode(HISTOGRAM, histogram, chunk),
        }
    }
}

fn value(family: &Family, sample: &Sample) -> Value {
    let number = |tag, value| Value::Number(tag, Number { value: Some(value) });
    match &family.kind {
        Kind::Counter => number(COUNTER, sample.value as f64),
        Kind::Seconds => number(COUNTER, f64::from_bits(sample.value)),
        Kind::Gauge => number(GAUGE, f64::from_bits(sample.value)),
        Kind::Histogram(bounds) => {
            let amounts = family.amounts(sample);
            let mut below = 0;
            let bucket = bounds.iter().zip(&amounts[1..]).map(|(bound, count)| {
                below += count;
                Bucket { cumulative_count: Some(below), upper_bound: Some(*bound) }
            });
            Value::Histogram(Histogram {
                bucket: bucket.collect(),
                sample_count: Some(amounts[1..].iter().sum()),
                sample_sum: Some(f64::from_bits(amounts[0])),
            })
        }
    }
}

fn put_text(out: &mut Vec<u8>, tag: u32, text: &str) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn encoded(labels: &[LabelPair]) -> Box<[u8]> {
    let mut out = Vec::new();
    labels.iter().for_each(|label| message::encode(LABEL, label, &mut out));
    out.into()
}

/// Labels out of their text, `a="x",b="y"`, which may begin with a comma and end with a brace.
fn labels(text: &str) -> Vec<LabelPair> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, value)) = rest.trim_start_matches(',').split_once("=\"") {
        let mut plain = String::with_capacity(value.len());
        let mut characters = value.char_indices();
        rest = "";
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    rest = &value[at + 1..];
                    break;
                }
                '\\' => plain.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped)) => escaped,
                    None => '\\',
                }),
                _ => plain.push(character),
            }
        }
        labels.push(LabelPair { name: Some(name.to_owned()), value: Some(plain) });
    }
    labels
}
