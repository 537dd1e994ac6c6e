//! Which spans are sent: what went wrong always, the rest by ratio, and at most so many a second for each workload.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::ids::SpanId;
use crate::identity::Labels;

/// Why a span is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It tells of a failure.
    Failure,
    /// It took long.
    Slow,
    /// It belongs to somebody who was killed, or is a container's whole life.
    Death,
    /// It was drawn.
    Drawn,
}

impl Decision {
    pub const ALL: [Self; 4] = [Self::Failure, Self::Slow, Self::Death, Self::Drawn];

    pub fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Slow => "slow",
            Self::Death => "death",
            Self::Drawn => "drawn",
        }
    }
}

/// What a workload is known by here: a hash of its name.
pub(super) fn workload(labels: &Labels) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&labels.namespace, &labels.workload_kind, &labels.workload).hash(&mut hasher);
    hasher.finish()
}

/// Workloads whose rate is remembered; then all start anew.
const WORKLOADS: usize = 4096;
/// Bits of a threshold, as OpenTelemetry's consistent probability sampling counts them.
const BITS: u32 = 56;
const HEX: usize = BITS as usize / 4;

/// Each byte in hex.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

#[derive(Debug)]
pub(super) struct Sampler {
    /// Spans whose randomness is below are not drawn.
    threshold: u64,
    /// Nanoseconds between two spans of a workload; 0 is no limit.
    interval_ns: u64,
    /// What the trace state says of the threshold, of those that were drawn and of others.
    states: [String; 2],
    /// By workload: when the next span would come if they came evenly.
    next: HashMap<u64, u64>,
}

impl Sampler {
    /// `ratio` in parts of a million, `rate` in spans per second and workload.
    pub(super) fn new(ratio: u32, rate: u64) -> Self {
        let left_out = u128::from(1_000_000 - ratio.min(1_000_000));
        let threshold = ((left_out << BITS) / 1_000_000) as u64;
        let interval_ns = 1_000_000_000_u64.checked_div(rate).unwrap_or(0);
        let states = [threshold, 0].map(|threshold| {
            let hex = format!("{threshold:014x}");
            let hex = hex.trim_end_matches('0');
            format!("ot=th:{};rv:", if hex.is_empty() { "0" } else { hex })
        });
        Self { threshold, interval_ns, states, next: HashMap::new() }
    }

    /// Whether a span of something that went well is drawn.
    pub(super) fn draws(&mut self, span: SpanId, workload: u64, now_ns: u64) -> bool {
        span.randomness() >= self.threshold && self.has_room(workload, now_ns)
    }

    /// W3C trace state: with which probability this span is sent, and the randomness that decided, in hex.
    pub(super) fn state(&self, span: SpanId, decision: Decision) -> (&str, [u8; HEX]) {
        let [drawn, others] = &self.states;
        let [_, randomness @ ..] = span.randomness().to_be_bytes();
        let mut digits = [0; HEX];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(randomness) {
            *pair = PAIRS[usize::from(byte)];
        }
        (if decision == Decision::Drawn { drawn } else { others }, digits)
    }

    /// A second's worth may come at once.
    fn has_room(&mut self, workload: u64, now_ns: u64) -> bool {
        if self.interval_ns == 0 {
            return true;
        }
        if self.next.len() >= WORKLOADS {
            self.next.clear();
        }
        let next = self.next.entry(workload).or_insert(now_ns);
        let due = (*next).max(now_ns);
        if due - now_ns >= 1_000_000_000 {
            return false;
        }
        *next = due + self.interval_ns;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ids::Seed, *};

    #[test]
    fn the_ratio_is_kept_and_said() {
        let mut sampler = Sampler::new(250_000, 0);
        let spans = (0..10_000).map(|pid| Seed(7).process(pid, 1));
        let drawn: Vec<_> = spans.filter(|span| sampler.draws(*span, 0, 0)).collect();
        assert!((2300..2700).contains(&drawn.len()), "{}", drawn.len());
        let state = |sampler: &Sampler, decision| {
            let (threshold, randomness) = sampler.state(drawn[0], decision);
            assert_eq!(randomness, format!("{:014x}", drawn[0].randomness()).as_bytes());
            threshold.to_owned()
        };
        assert_eq!(state(&sampler, Decision::Drawn), "ot=th:c;rv:");
        assert_eq!(state(&sampler, Decision::Failure), "ot=th:0;rv:");
        assert_eq!(state(&Sampler::new(1_000_000, 0), Decision::Drawn), "ot=th:0;rv:");
        let mut none = Sampler::new(0, 0);
        assert!((0..1000).all(|pid| !none.draws(Seed(7).process(pid, 1), 0, 0)));
    }

    #[test]
    fn a_workload_has_its_rate_whatever_others_do() {
        let mut sampler = Sampler::new(1_000_000, 10);
        let workload = |name: &str| workload(&Labels { workload: name.into(), ..Labels::default() });
        let mut draws = |name: &str, now_ms: u64| {
            let spans = (0..100).map(|pid| Seed(1).process(pid, now_ms));
            spans.filter(|span| sampler.draws(*span, workload(name), now_ms * 1_000_000)).count()
        };
        assert_eq!(draws("a", 0), 10);
        assert_eq!(draws("b", 0), 10);
        assert_eq!(draws("a", 500), 5);
        assert_eq!(draws("a", 10_000), 10);
    }
}
