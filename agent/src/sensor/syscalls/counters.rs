//! What was counted for one container, and how it is shown.

use std::{collections::BTreeMap, sync::LazyLock};

use agent_ebpf::contract::syscalls::{BUCKETS, CLASSES, FIRST_POWER, LAST_POWER, NUMBERS};

use super::{CLASS_NAMES, errno_name, name};
use crate::metrics::{Base, Bounds, Filling, Page};

/// What the programs compare with, in seconds.
const BOUNDS: Bounds = Bounds::powers(FIRST_POWER, LAST_POWER);
const _: () = assert!(BOUNDS.count() + 1 == BUCKETS);

/// System calls of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Calls by number.
    pub(super) calls: [u64; NUMBERS],
    /// Calls by class and duration.
    pub(super) buckets: [[u64; BUCKETS]; CLASSES],
    /// Nanoseconds by class.
    pub(super) sums_ns: [u64; CLASSES],
    /// Calls by class that were not timed themselves: others stand for them in the buckets and sums.
    pub(super) estimated: [u64; CLASSES],
    /// Failed calls by number and errno.
    pub(super) errors: BTreeMap<(u16, u16), u64>,
    /// Failed calls whose number and errno found no room.
    pub(super) errors_folded: u64,
    /// Calls without a duration.
    pub(super) untimed: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            calls: [0; NUMBERS],
            buckets: [[0; BUCKETS]; CLASSES],
            sums_ns: [0; CLASSES],
            estimated: [0; CLASSES],
            errors: BTreeMap::new(),
            errors_folded: 0,
            untimed: 0,
        }
    }
}

impl Counters {
    pub fn add(&mut self, other: &Self) {
        let Self { calls, buckets, sums_ns, estimated, errors, errors_folded, untimed } = other;
        add_all(&mut self.calls, calls);
        for (sum, class) in self.buckets.iter_mut().zip(buckets) {
            add_all(sum, class);
        }
        add_all(&mut self.sums_ns, sums_ns);
        add_all(&mut self.estimated, estimated);
        self.add_errors(errors);
        self.errors_folded += errors_folded;
        self.untimed += untimed;
    }

    pub fn add_errors(&mut self, errors: &BTreeMap<(u16, u16), u64>) {
        for (key, count) in errors {
            *self.errors.entry(*key).or_default() += count;
        }
    }

    /// How many pairs of call and error are told apart.
    pub fn told_errors(&self) -> usize {
        self.errors.len()
    }

    /// Tells only so many pairs of call and error apart from now on: further ones are only counted.
    pub fn fold_errors_beyond(&mut self, limit: usize) {
        if let Some(first) = self.errors.keys().nth(limit).copied() {
            self.errors_folded += self.errors.split_off(&first).into_values().sum::<u64>();
        }
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.calls.iter().sum()
    }

    /// All calls that failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.errors_folded
    }

    /// The calls that were made most, and how often.
    pub fn most(&self, count: usize) -> Vec<(String, u64)> {
        let mut numbers: Vec<_> = (0..NUMBERS).filter(|number| self.calls[*number] > 0).collect();
        numbers.sort_by_key(|number| std::cmp::Reverse(self.calls[*number]));
        numbers.truncate(count);
        numbers.into_iter().map(|number| (name(number as u32), self.calls[number])).collect()
    }

    /// Failed calls by the names of call and error. Errors that have no name share one series.
    fn named_errors<'a>(&self, names: &'a [String]) -> Vec<([&'a str; 2], u64)> {
        let mut named: Vec<([&str; 2], u64)> = Vec::with_capacity(self.errors.len());
        let told = self.errors.iter().map(|((number, errno), count)| {
            let name = names.get(*number as usize).map_or("other", String::as_str);
            ([name, errno_name((*errno).into()).unwrap_or("other")], *count)
        });
        let folded = (self.errors_folded > 0).then_some((["other", "other"], self.errors_folded));
        for (own, count) in told.chain(folded) {
            let is_shared = own[1] == "other";
            match named.iter_mut().find(|(found, _)| is_shared && *found == own) {
                Some((_, sum)) => *sum += count,
                None => named.push((own, count)),
            }
        }
        named
    }

    pub fn untimed(&self) -> u64 {
        self.untimed
    }

    pub fn errors_folded(&self) -> u64 {
        self.errors_folded
    }
}

fn add_all(sums: &mut [u64], values: &[u64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// Shows what the sensor measures.
pub fn expose(page: &mut Page, rows: &[(Base, &Counters)]) {
    static NAMES: LazyLock<[String; NUMBERS]> =
        LazyLock::new(|| std::array::from_fn(|number| name(number as u32)));
    let names = NAMES.as_slice();
    let mut calls = Filling::counter("podwitness_syscalls", "System calls that ended", &["syscall"]);
    let mut errors = Filling::counter(
        "podwitness_syscall_errors",
        "System calls that failed, by error; other where the table of errors had no room",
        &["syscall", "errno"],
    );
    let mut durations = Filling::histogram(
        "podwitness_syscall_duration",
        "Time from entry to return of system calls, by class; where calls are sampled, estimated for fast ones",
        &["class"],
        BOUNDS,
    );
    let mut estimated = Filling::counter(
        "podwitness_syscall_duration_estimated",
        "Calls in podwitness_syscall_duration_seconds that were not timed themselves: sampled ones stand for them",
        &["class"],
    );
    for (base, counters) in rows {
        for (name, count) in names.iter().zip(counters.calls).filter(|(_, count)| *count > 0) {
            calls.count(*base, [name.as_str()], count);
        }
        for (own, count) in counters.named_errors(names) {
            errors.count(*base, own, count);
        }
        for (class, name) in CLASS_NAMES.into_iter().enumerate() {
            let buckets = &counters.buckets[class];
            if buckets.iter().any(|count| *count > 0) {
                durations.observe(*base, [name], counters.sums_ns[class], buckets);
            }
            if counters.estimated[class] > 0 {
                estimated.count(*base, [name], counters.estimated[class]);
            }
        }
    }
    [calls, errors, durations, estimated].into_iter().for_each(|family| page.add(family));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up() {
        let mut one = Counters::default();
        one.calls[39] = 2;
        one.buckets[1][3] = 2;
        one.sums_ns[1] = 5;
        one.errors.insert((257, 2), 1);
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.total(), sum.buckets[1][3], sum.sums_ns[1], sum.errors[&(257, 2)]), (4, 4, 10, 2));
    }

    #[test]
    fn errors_that_find_no_room_are_counted() {
        let mut counters = Counters { errors_folded: 1, ..Counters::default() };
        counters.errors.extend((1..=5).map(|number| ((number, 2), 10)));
        counters.fold_errors_beyond(5);
        assert_eq!((counters.told_errors(), counters.failed()), (5, 51));
        counters.fold_errors_beyond(2);
        assert_eq!((counters.told_errors(), counters.errors_folded(), counters.failed()), (2, 31, 51));
    }
}
