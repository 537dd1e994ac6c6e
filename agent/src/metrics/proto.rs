//! The page as protobuf: a `MetricFamily` of client_model after the other, each behind its length.
//!
//! Such a message may have the size of all its series. Its length is counted first, so that it can be written in chunks
//! like the text.
//!
//! A histogram is there twice: with the buckets of the text, and as a native one. A scraper takes what it wants.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, message},
};

use super::{
    bounds::{self, Bounds},
    page::{Family, Kind, Page, Sample, seconds},
    text::{CHUNK, MARGIN, full_name},
};
use crate::exemplar;

/// Fields of `MetricFamily` and `Metric`.
const NAME: u32 = 1;
const HELP: u32 = 2;
const TYPE: u32 = 3;
const METRIC: u32 = 4;
const LABEL: u32 = 1;
const GAUGE: u32 = 2;
const COUNTER: u32 = 3;
const HISTOGRAM: u32 = 7;

/// Each bound is twice the one before.
const SCHEMA: i32 = 0;
/// Empty buckets that take less room than a span that leaves them out.
const GAP: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// `Gauge` and `Counter`; the latter may have an exemplar.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Number {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
    #[prost(message, optional, tag = "2")]
    pub(super) exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    /// Bounds are powers of 2 to the power of 2 to the power of -schema.
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    /// What isn't above the threshold.
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    /// By how much each bucket of the spans has more than the one before.
    #[prost(sint64, repeated, tag = "13")]
    pub(super) positive_delta: Vec<i64>,
    /// Of the native histogram; those of the buckets are the others'.
    #[prost(message, repeated, tag = "16")]
    pub(super) exemplars: Vec<Exemplar>,
}

/// Buckets that stand together.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct BucketSpan {
    /// How many were left out before it; of the first one, the index of its first bucket.
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) exemplar: Option<Exemplar>,
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
    let mut exemplars = family.exemplars(sample).map(|(bucket, exemplar)| (bucket, Exemplar::from(exemplar)));
    let number = |tag, value| Value::Number(tag, Number { value: Some(value), exemplar: None });
    match &family.kind {
        Kind::Counter => {
            let exemplar = exemplars.next().map(|(_, exemplar)| exemplar);
            Value::Number(COUNTER, Number { value: Some(sample.value as f64), exemplar })
        }
        Kind::Seconds => number(COUNTER, f64::from_bits(sample.value)),
        Kind::Gauge => number(GAUGE, f64::from_bits(sample.value)),
        Kind::Histogram(bounds) => {
            let amounts = family.amounts(sample);
            let mut histogram = histogram(*bounds, seconds(amounts[0]), &amounts[1..]);
            exemplars.for_each(|(bucket, exemplar)| histogram.exemplify(bucket, exemplar));
            histogram
                .exemplars
                .sort_by_key(|exemplar| exemplar.timestamp.map(|time| (time.seconds, time.nanos)));
            Value::Histogram(histogram)
        }
    }
}

/// With both kinds of buckets.
fn histogram(bounds: Bounds, sum: f64, counts: &[u64]) -> Histogram {
    let mut below = 0;
    let bucket = bounds.iter().zip(counts).map(|(bound, count)| {
        below += count;
        Bucket { cumulative_count: Some(below), upper_bound: Some(bound), exemplar: None }
    });
    let (positive_span, positive_delta) = native(bounds.first + 1, &counts[1..]);
    Histogram {
        bucket: bucket.collect(),
        sample_count: Some(counts.iter().sum()),
        sample_sum: Some(sum),
        schema: Some(SCHEMA),
        // The first bucket has no lower bound but zero, which is just what the zero bucket is.
        zero_threshold: Some(bounds::power(bounds.first)),
        zero_count: Some(counts[0]),
        positive_span,
        positive_delta,
        exemplars: Vec::new(),
    }
}

impl Histogram {
    fn exemplify(&mut self, bucket: usize, exemplar: Exemplar) {
        self.exemplars.push(exemplar.clone());
        if bucket == self.bucket.len() {
            // This bucket goes without saying otherwise.
            let (cumulative_count, upper_bound) = (self.sample_count, Some(f64::INFINITY));
            self.bucket.push(Bucket { cumulative_count, upper_bound, exemplar: Some(exemplar) });
        } else {
            self.bucket[bucket].exemplar = Some(exemplar);
        }
    }
}

impl From<&exemplar::Exemplar> for Exemplar {
    fn from(exemplar: &exemplar::Exemplar) -> Self {
        let label = ["trace_id", "span_id"].into_iter().zip(exemplar.ids());
        let pair =
            |(name, value): (&str, String)| LabelPair { name: Some(name.to_owned()), value: Some(value) };
        let seconds = (exemplar.unix_ns / 1_000_000_000).cast_signed();
        let nanos = (exemplar.unix_ns % 1_000_000_000) as i32;
        Self {
            label: label.map(pair).collect(),
            value: Some(exemplar.value),
            timestamp: Some(Timestamp { seconds, nanos }),
        }
    }
}

/// Spans and their deltas. The bucket up to 2^power has the index `power`, and these begin with `first`.
///
/// What lies beyond the last bound goes into the bucket above that one: the native bucket that ends at +Inf begins only
/// where floats end, and to put something there would be to say that it was infinite.
fn native(first: i32, counts: &[u64]) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<BucketSpan>, Vec<i64>) = Default::default();
    // The index after the last one that was written, and what that bucket had.
    let (mut next, mut before) = (0, 0_u64);
    let full = (first..).zip(counts).filter(|(_, count)| **count > 0);
    for (index, count) in full {
        let mut put = |count: u64| {
            deltas.push(count.wrapping_sub(before).cast_signed());
            before = count;
        };
        let gap = index - next;
        match spans.last_mut() {
            Some(span) if gap <= GAP => {
                (0..gap).for_each(|_| put(0));
                span.length = span.length.map(|length| length + gap as u32 + 1);
            }
            _ => spans.push(BucketSpan { offset: Some(gap), length: Some(1) }),
        }
        put(*count);
        next = index + 1;
    }
    if spans.is_empty() {
        // A span without buckets tells that this is a native histogram, although all is in its zero bucket.
        spans.push(BucketSpan { offset: Some(0), length: Some(0) });
    }
    (spans, deltas)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the native buckets hold, by the power of two that is their upper bound, read as the format has it.
    fn read(histogram: &Histogram) -> Vec<(i32, u64)> {
        let mut deltas = histogram.positive_delta.iter();
        let (mut index, mut count, mut found) = (0, 0_i64, Vec::new());
        for span in &histogram.positive_span {
            index += span.offset.unwrap();
            for _ in 0..span.length.unwrap() {
                count += deltas.next().unwrap();
                found.push((index, count.cast_unsigned()));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None, "as many deltas as buckets");
        found.retain(|(_, count)| *count > 0);
        found
    }

    fn span(offset: i32, length: u32) -> BucketSpan {
        BucketSpan { offset: Some(offset), length: Some(length) }
    }

    #[test]
    fn a_histogram_is_native_as_well() {
        let bounds = Bounds::powers(-3, 4);
        // Up to 1/8, 1/4, 1/2, 1, 2, 4, 8, 16 and beyond.
        let histogram = histogram(bounds, 7.5, &[5, 0, 3, 1, 0, 0, 0, 2, 4]);
        assert_eq!((histogram.sample_count, histogram.sample_sum), (Some(15), Some(7.5)));
        assert_eq!(
            (histogram.schema, histogram.zero_threshold, histogram.zero_count),
            (Some(0), Some(0.125), Some(5))
        );
        // The three empty ones are left out; what is beyond the last bound is in the bucket above it.
        assert_eq!(histogram.positive_span, [span(-1, 2), span(3, 2)]);
        assert_eq!(histogram.positive_delta, [3, -2, 1, 2]);
        assert_eq!(read(&histogram), [(-1, 3), (0, 1), (4, 2), (5, 4)]);
        let classic: Vec<_> =
            histogram.bucket.iter().map(|bucket| bucket.cumulative_count.unwrap()).collect();
        assert_eq!(classic, [5, 5, 8, 9, 9, 9, 9, 11]);
    }

    #[test]
    fn small_gaps_are_written_and_zeros_alone_are_still_native() {
        let bounds = Bounds::powers(-3, 4);
        let gaps = histogram(bounds, 0.0, &[0, 1, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!((&*gaps.positive_span, &*gaps.positive_delta), (&[span(-2, 4)][..], &[1, -1, 0, 2][..]));
        let zeros = histogram(bounds, 0.0, &[9, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((&*zeros.positive_span, zeros.positive_delta.len()), (&[span(0, 0)][..], 0));
    }

    #[test]
    fn native_and_classic_buckets_hold_the_same() {
        let bounds = Bounds::powers(-21, 3);
        let mut random = 1_u64;
        for _ in 0..1000 {
            let counts: Vec<u64> = (0..=bounds.count())
                .map(|_| {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    if random >> 62 == 0 { random >> 8 & 0x7ff_ffff } else { 0 }
                })
                .collect();
            let histogram = histogram(bounds, 0.0, &counts);
            let expected =
                (bounds.first..).zip(counts.iter().copied()).skip(1).filter(|(_, count)| *count > 0);
            assert_eq!(read(&histogram), expected.collect::<Vec<_>>());
            assert_eq!(histogram.zero_count, Some(counts[0]));
            let decoded = Histogram::decode(histogram.encode_to_vec().as_slice()).unwrap();
            assert_eq!(decoded, histogram);
        }
    }
}
