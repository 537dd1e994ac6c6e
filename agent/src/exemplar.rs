//! Exemplars: of what a series counts, one that is told by a span. Whoever sees the series finds the trace.

use std::{collections::BTreeMap, sync::Arc};

use crate::identity::peers::Peer;

/// A span that was sent, and what it counts as in a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// What was measured; 1 where something is only counted.
    pub value: f64,
    /// When the span ended.
    pub unix_ns: u64,
}

/// What a span tells of that is also counted.
#[derive(Clone, Debug, PartialEq)]
pub enum Counted {
    /// An attempt to connect, and the seconds it took.
    Connect(f64),
    /// That it failed: with whom, and why.
    ConnectFailure(Option<Arc<Peer>>, &'static str),
    /// A connection that was closed, and its round-trip time in seconds.
    Rtt(f64),
    /// A process that ended, and why.
    Exit(&'static str),
}

/// A span on its way to the collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Its place among the spans that go into the queue with it.
    pub place: usize,
    pub cgroup_id: u64,
    /// At least one.
    pub counted: [Option<Counted>; 3],
    /// Without a value.
    pub exemplar: Exemplar,
}

/// The last exemplar of each series, or of each bucket of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplars<K>(BTreeMap<K, Exemplar>);

impl<K> Default for Exemplars<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Exemplars<K> {
    pub fn put(&mut self, key: K, exemplar: Exemplar, value: f64) {
        self.keep(key, Exemplar { value, ..exemplar });
    }

    pub fn add(&mut self, other: &Self) {
        for (key, exemplar) in &other.0 {
            self.keep(*key, *exemplar);
        }
    }

    pub fn of(&self, key: &K) -> Option<&Exemplar> {
        self.0.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, &Exemplar)> {
        self.0.iter().map(|(key, exemplar)| (*key, exemplar))
    }

    fn keep(&mut self, key: K, exemplar: Exemplar) {
        let last = self.0.entry(key).or_insert(exemplar);
        if last.unix_ns <= exemplar.unix_ns {
            *last = exemplar;
        }
    }
}

impl Exemplar {
    /// The ids in hex, as W3C's trace context and OpenMetrics have them.
    pub fn ids(&self) -> [String; 2] {
        [hex(&self.trace_id), hex(&self.span_id)]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
impl Exemplar {
    /// One that ended then.
    pub fn at(unix_ns: u64) -> Self {
        Self { trace_id: [0xab; 16], span_id: unix_ns.to_be_bytes(), value: 1.0, unix_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_kept_wherever_it_came_from() {
        let mut one: Exemplars<usize> = Exemplars::default();
        one.put(1, Exemplar::at(5), 0.5);
        one.put(1, Exemplar::at(4), 0.4);
        one.put(2, Exemplar::at(1), 7.0);
        let mut other = Exemplars::default();
        other.put(2, Exemplar::at(3), 9.0);
        other.put(3, Exemplar::at(2), 1.0);
        one.add(&other);
        let values: Vec<_> =
            one.iter().map(|(key, exemplar)| (key, exemplar.value, exemplar.unix_ns)).collect();
        assert_eq!(values, [(1, 0.5, 5), (2, 9.0, 3), (3, 1.0, 2)]);
        assert_eq!(Exemplar::at(258).ids(), ["ab".repeat(16), "0000000000000102".to_owned()]);
    }
}
