//! The page under way: families and their figures. Labels are told once each; the lines are written later, piece by
//! piece, by [`Lines`](super::text::Lines).

use std::{
    borrow::Cow, cmp::Reverse, collections::HashMap, hash::BuildHasherDefault, marker::PhantomData, sync::Arc,
};

use super::{Bounds, Detail, labels::Texts};
use crate::{exemplar::Exemplar, mixer::Mixer};

/// What a figure is measured in. Goes into the family's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
}

/// The base labels of one container, by their place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base(pub(super) u32);

/// Names come without the suffix that their type or unit gives them: `_total`, `_seconds`.
pub struct Page {
    pub(super) families: Vec<Family>,
    pub(super) bases: Arc<Texts>,
    detail: Detail,
}

/// A family and its figures. Those of containers begin with the base labels.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<Unit>,
    pub(super) kind: Kind,
    pub(super) is_based: bool,
    /// Of the labels besides the base ones.
    pub(super) names: Cow<'static, [&'static str]>,
    pub(super) samples: Vec<Sample>,
    /// Of each histogram: its sum in nanoseconds, then its buckets. Whole numbers add up to the same in any order, so
    /// that a sum of several histograms never falls by what was rounded.
    pub(super) counts: Vec<u64>,
    /// In their order once the family is complete.
    pub(super) marks: Vec<Mark>,
    /// The rest of the labels, with the brace and the space that end them.
    pub(super) own: Texts,
    known: Known,
}

pub(super) enum Kind {
    Counter,
    /// A counter of seconds.
    Seconds,
    Gauge,
    Histogram(Bounds),
}

/// 16 bytes for a series, or for the many of a histogram.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) base: u32,
    pub(super) own: u32,
    /// A count, the bits of a float, or where the counts of a histogram begin.
    pub(super) value: u64,
}

/// An exemplar and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) base: u32,
    pub(super) own: u32,
    /// 0 where there are no buckets.
    pub(super) bucket: usize,
    pub(super) exemplar: Exemplar,
}

/// Fills a family. Values of labels stay where they are meanwhile: they are known again by that.
pub struct Filling<'r>(Family, PhantomData<&'r str>);

impl<'r> Filling<'r> {
    /// A counter of containers with labels of these names besides the base labels.
    pub fn counter(name: &'static str, help: &'static str, names: &'static [&'static str]) -> Self {
        Self(Family::new(name, help, None, Kind::Counter, true, names), PhantomData)
    }

    /// A histogram of seconds of containers.
    pub fn histogram(
        name: &'static str,
        help: &'static str,
        names: &'static [&'static str],
        bounds: Bounds,
    ) -> Self {
        let kind = Kind::Histogram(bounds);
        Self(Family::new(name, help, Some(Unit::Seconds), kind, true, names), PhantomData)
    }

    pub fn count<V: AsRef<[&'r str]>>(&mut self, base: Base, values: V, count: u64) {
        let own = self.0.own(values.as_ref());
        self.0.samples.push(Sample { base: base.0, own, value: count });
    }

    /// An exemplar of what was put there last, in this bucket if it has some.
    pub fn exemplify(&mut self, bucket: usize, exemplar: Option<&Exemplar>) {
        if let (Some(exemplar), Some(Sample { base, own, .. })) = (exemplar, self.0.samples.last()) {
            self.0.marks.push(Mark { base: *base, own: *own, bucket, exemplar: *exemplar });
        }
    }

    /// Sum, and counts by bucket; these are not cumulative, and there is one more of them than bounds.
    pub fn observe<V: AsRef<[&'r str]>>(&mut self, base: Base, values: V, sum_ns: u64, counts: &[u64]) {
        let family = &mut self.0;
        let own = family.own(values.as_ref());
        family.samples.push(Sample { base: base.0, own, value: family.counts.len() as u64 });
        family.counts.push(sum_ns);
        family.counts.extend_from_slice(counts);
    }
}

impl Page {
    /// `bases` has the text of each [`Base`].
    pub(super) fn new(bases: Arc<Texts>, detail: Detail) -> Self {
        Self { families: Vec::new(), bases, detail }
    }

    /// One more family, which is complete.
    pub fn add(&mut self, Filling(mut family, _): Filling<'_>) {
        family.known = Known::default();
        self.detail.apply(&mut family);
        family.settle_marks();
        self.families.push(family);
    }

    /// A counter of containers: base labels, values of `names`, count.
    pub fn counter<'r, V: AsRef<[&'r str]>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        names: &'static [&'static str],
        rows: impl Iterator<Item = (Base, V, u64)>,
    ) {
        let mut family = Filling::counter(name, help, names);
        rows.for_each(|(base, values, count)| family.count(base, values, count));
        self.add(family);
    }

    /// Counters of the agent itself.
    pub fn own_counter<'r, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        names: &'static [&'static str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], u64)>,
    ) {
        let mut family = Family::new(name, help, None, Kind::Counter, false, names);
        rows.into_iter().for_each(|(values, count)| family.own_sample(values, count));
        self.families.push(family);
    }

    /// Seconds that only grow, of the agent itself.
    pub fn own_seconds<'r, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        names: &'static [&'static str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], f64)>,
    ) {
        let mut family = Family::new(name, help, Some(Unit::Seconds), Kind::Seconds, false, names);
        rows.into_iter().for_each(|(values, seconds)| family.own_sample(values, seconds.to_bits()));
        self.families.push(family);
    }

    /// Gauges of the agent itself.
    pub fn own_gauge<'r, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        names: &'static [&'static str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], f64)>,
    ) {
        let mut family = Family::new(name, help, unit, Kind::Gauge, false, names);
        rows.into_iter().for_each(|(values, value)| family.own_sample(values, value.to_bits()));
        self.families.push(family);
    }

    /// Series so far.
    pub(super) fn series(&self) -> usize {
        self.families.iter().map(|family| family.samples.len() * family.cost()).sum()
    }
}

impl Family {
    fn new(
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        kind: Kind,
        is_based: bool,
        names: &'static [&'static str],
    ) -> Self {
        let (samples, counts, marks, own, known) = Default::default();
        Self { name, help, unit, kind, is_based, names: names.into(), samples, counts, marks, own, known }
    }

    /// Series that one sample makes: of a histogram each bucket, sum and count.
    pub(super) fn cost(&self) -> usize {
        if let Kind::Histogram(bounds) = &self.kind { bounds.count() + 3 } else { 1 }
    }

    /// Figures of one sample.
    pub(super) fn width(&self) -> usize {
        if let Kind::Histogram(bounds) = &self.kind { bounds.count() + 2 } else { 1 }
    }

    /// A count, or the sum and the counts of a histogram.
    pub(super) fn amounts<'s>(&'s self, sample: &'s Sample) -> &'s [u64] {
        match &self.kind {
            Kind::Histogram(_) => &self.counts[sample.value as usize..][..self.width()],
            _ => std::slice::from_ref(&sample.value),
        }
    }

    /// Brings exemplars into their order, and keeps the last one where several have come together.
    pub(super) fn settle_marks(&mut self) {
        self.marks.sort_by_key(|mark| (mark.place(), Reverse(mark.exemplar.unix_ns)));
        self.marks.dedup_by_key(|mark| mark.place());
    }

    /// The exemplars of a sample by bucket, where something was counted.
    pub(super) fn exemplars<'s>(&'s self, sample: &'s Sample) -> impl Iterator<Item = (usize, &'s Exemplar)> {
        let place = (sample.base, sample.own);
        let begin = self.marks.partition_point(|mark| (mark.base, mark.own) < place);
        let amounts = self.amounts(sample);
        let is_counted = move |bucket: usize| amounts[(bucket + 1).min(amounts.len() - 1)] > 0;
        let marks = self.marks[begin..].iter().take_while(move |mark| (mark.base, mark.own) == place);
        marks.filter(move |mark| is_counted(mark.bucket)).map(|mark| (mark.bucket, &mark.exemplar))
    }

    /// Each comes once: nothing is to be known again.
    fn own_sample<const N: usize>(&mut self, values: [&str; N], value: u64) {
        let own = self.render(&values);
        self.samples.push(Sample { base: 0, own, value });
    }

    /// The text of labels that are not the base ones.
    fn own(&mut self, values: &[&str]) -> u32 {
        let key = Known::key(values);
        if let Some(own) = self.known.find(&key) {
            return own;
        }
        let own = self.render(values);
        self.known.learn(key, own);
        own
    }

    fn render(&mut self, values: &[&str]) -> u32 {
        let text = self.own.begin();
        for (i, (name, value)) in self.names.iter().zip(values).enumerate() {
            if self.is_based || i > 0 {
                text.push(',');
            }
            super::labels::push(text, name, value);
        }
        text.push_str(if self.is_based || !self.names.is_empty() { "} " } else { " " });
        self.own.end()
    }
}

/// The sum of a histogram as it is shown.
pub(super) fn seconds(sum_ns: u64) -> f64 {
    sum_ns as f64 / 1e9
}

impl Mark {
    fn place(&self) -> (u32, u32, usize) {
        (self.base, self.own, self.bucket)
    }
}

/// Most labels that a family has besides the base ones.
const OWN_MAX: usize = 3;
/// Where the values of labels lie, and how long they are.
type Key = [(usize, usize); OWN_MAX];

/// Labels of one family that have a text already. They are known by where their values lie, which is compared more
/// quickly than what they say: as long as they are borrowed, nothing else can lie there.
#[derive(Default)]
struct Known {
    last: Option<(Key, u32)>,
    all: HashMap<Key, u32, BuildHasherDefault<Mixer>>,
}

impl Known {
    fn key(values: &[&str]) -> Key {
        assert!(values.len() <= OWN_MAX, "{values:?} are too many labels");
        let mut key = Key::default();
        for (place, value) in key.iter_mut().zip(values) {
            *place = (value.as_ptr().addr(), value.len());
        }
        key
    }

    fn find(&mut self, key: &Key) -> Option<u32> {
        if let Some((last, own)) = &self.last
            && last == key
        {
            return Some(*own);
        }
        let own = *self.all.get(key)?;
        self.last = Some((*key, own));
        Some(own)
    }

    fn learn(&mut self, key: Key, own: u32) {
        self.all.insert(key, own);
        self.last = Some((key, own));
    }
}
