//! Since when each series counts, which OTLP wants to know with every cumulative point.
//!
//! Most count since the agent's start. But one that was forgotten (`metrics.grace`), or folded into another for want of
//! room, begins at zero when it comes again: after the last page that didn't have it, or had more of it. A container that
//! is shown later than it was known, or by another name, has counted before ([`Shown`]).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{
    late::Shown,
    page::{Kind, Page, Series, Value},
};
use crate::identity::Labels;

#[derive(Debug)]
pub(super) struct Starts {
    /// Those of the last page, in the order of their hashes: 24 bytes each.
    known: Vec<Known>,
    /// Whom it showed.
    pub shown: Shown,
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
        Self { known: Vec::new(), shown: Shown::default(), begun_ns: began_ns, ready_ns: began_ns }
    }

    /// The starts of all series of a page that was begun and ready then, in their order, where they have some. `since`
    /// tells of labels that show more than on the page before since when it may have counted.
    pub(super) fn of(
        &mut self,
        page: &Page<'_>,
        begun_ns: u64,
        ready_ns: u64,
        since: impl Fn(&Labels) -> Option<u64>,
    ) -> Vec<u64> {
        let mut next = Vec::with_capacity(page.series.len());
        let starts = page.series.iter().map(|series| {
            let Some(count) = count(page, series) else { return 0 };
            let id = id(page, series);
            let known = self.known.binary_search_by_key(&id, |known| known.series);
            let start_ns = match known.map(|at| self.known[at]) {
                // Whatever is new may have begun while the page was made.
                Err(_) => {
                    let since_ns = series.base.as_ref().and_then(&since);
                    since_ns.map_or(self.begun_ns, |since_ns| since_ns.min(self.begun_ns))
                }
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
        (self.known, self.begun_ns, self.ready_ns) = (next, begun_ns, ready_ns);
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

fn id(page: &Page<'_>, series: &Series<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (page.families[series.family].name, &series.base, &series.labels).hash(&mut hasher);
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
    fn what_was_there_before_it_was_shown_counts_since_then() {
        let pages: [&[_]; 4] = [&[("id", 500)], &[("app", 501)], &[("app", 502)], &[("app", 1)]];
        assert_eq!(starts(&pages, &[("app", 40)]), [[10], [40], [40], [301]]);
        // What is young is no older than the page before.
        assert_eq!(starts(&pages[..2], &[("app", 150)]), [[10], [100]]);
    }

    #[test]
    fn what_comes_again_counts_anew() {
        let pages: [&[_]; 3] = [&[("app", 500)], &[], &[("app", 3)]];
        assert_eq!(starts(&pages, &[]), [&[10][..], &[], &[200]]);
    }
}
