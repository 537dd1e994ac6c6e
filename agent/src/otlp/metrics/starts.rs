//! Since when each series counts, which OTLP wants to know with every cumulative point.
//!
//! Most count since the agent's start. But one that was forgotten (`metrics.grace`), or folded into another for want of
//! room, begins at zero when it comes again: after the last page that didn't have it, or had more of it. A container that
//! is shown later than it was known, or by another name, has counted before.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use super::page::{Kind, Page, Series, Value};
use crate::identity::Labels;

#[derive(Debug)]
pub(super) struct Starts {
    /// Those of the last page, in the order of their hashes: 24 bytes each.
    known: Vec<Known>,
    /// The base labels that it had, by their hashes.
    bases: HashSet<u64>,
    /// When that was begun and when it was ready, or the agent's start, by the boot clock.
    begun_ns: u64,
    ready_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    series: u64,
    count: f64,
    start_ns: u64,
}

impl Starts {
    /// All that the first page has begins here.
    pub(super) fn new(began_ns: u64) -> Self {
        Self { known: Vec::new(), bases: HashSet::new(), begun_ns: began_ns, ready_ns: began_ns }
    }

    /// The starts of all series of a page that was begun and ready then, in their order, where they have some. `since`
    /// tells since when a container may have counted.
    pub(super) fn of(
        &mut self,
        page: &Page<'_>,
        begun_ns: u64,
        ready_ns: u64,
        since: impl Fn(&Labels) -> Option<u64>,
    ) -> Vec<u64> {
        let mut next = Vec::with_capacity(page.series.len());
        let mut bases = HashSet::new();
        let starts = page.series.iter().map(|series| {
            let Some(count) = count(page, series) else { return 0 };
            let base = hash(&series.base);
            bases.insert(base);
            let new = series.base.as_ref().filter(|_| !self.bases.contains(&base));
            let id = hash(&(page.families[series.family].name, base, &series.labels));
            let known = self.known.binary_search_by_key(&id, |known| known.series);
            let start_ns = match known.map(|at| self.known[at]) {
                // Whatever is new may have begun while the page was made.
                Err(_) => new.and_then(&since).map_or(self.begun_ns, |since_ns| since_ns.min(self.begun_ns)),
                Ok(known) if known.count <= count => known.start_ns,
                Ok(_) => self.ready_ns,
            };
            next.push(Known { series: id, count, start_ns });
            start_ns
        });
        let starts = starts.collect();
        next.sort_unstable_by_key(|known| known.series);
        // Gauges have taken no place.
        next.shrink_to_fit();
        *self = Self { known: next, bases, begun_ns, ready_ns };
        starts
    }
}

/// None of a gauge, which doesn't count.
fn count(page: &Page<'_>, series: &Series<'_>) -> Option<f64> {
    match &series.value {
        _ if page.families[series.family].kind == Kind::Gauge => None,
        Value::Number(number) => number.parse().ok(),
        Value::Histogram { counts, .. } => Some(counts.iter().sum::<u64>() as f64),
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The starts on pages that are made at the times 100, 200, … by an agent that began at 10.
    fn starts(pages: &[&[(&str, u64)]], since: &[(&str, u64)]) -> Vec<Vec<u64>> {
        let mut starts = Starts::new(10);
        let since = |labels: &Labels| {
            since.iter().find(|(name, _)| labels.container == *name).map(|(_, since_ns)| *since_ns)
        };
        let of = |(page, at): (&&[(&str, u64)], u64)| {
            let sample = |(name, count): &(&str, u64)| {
                format!(
                    "a_total{{namespace=\"\",workload_kind=\"\",workload=\"\",pod=\"\",container=\"{name}\"}} {count}\n"
                )
            };
            let text = format!("# TYPE a counter\n{}", page.iter().map(sample).collect::<String>());
            starts.of(&Page::parse(&text), at, at + 1, since)
        };
        pages.iter().zip((100..).step_by(100)).map(of).collect()
    }

    #[test]
    fn a_container_with_another_name_counts_since_it_was_known() {
        let pages: [&[_]; 4] = [&[("id", 500)], &[("app", 501)], &[("app", 502)], &[("app", 1)]];
        let since = [("id", 40), ("app", 40)];
        assert_eq!(starts(&pages, &since), [[10], [40], [40], [301]]);
        // Nothing is known of what stands for many.
        assert_eq!(starts(&pages[..2], &[]), [[10], [100]]);
    }

    #[test]
    fn a_container_that_comes_late_counts_since_it_was_known() {
        let pages: [&[_]; 3] =
            [&[("a", 1)], &[("a", 1), ("late", 300)], &[("a", 1), ("late", 301), ("young", 1)]];
        assert_eq!(starts(&pages, &[("late", 90), ("young", 250)]), [&[10][..], &[10, 90], &[10, 90, 200]]);
    }
}
