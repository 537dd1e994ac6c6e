//! Since when each series counts, which OTLP wants to know with every cumulative point.
//!
//! Most count since the agent's start. But one that was forgotten (`metrics.grace`), or folded into another for want of
//! room, begins at zero when it comes again: after the last page that didn't have it, or had more of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::page::{Kind, Page, Series, Value};

#[derive(Debug)]
pub(super) struct Starts {
    /// Those of the last page, in the order of their hashes: 24 bytes each.
    known: Vec<Known>,
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
        Self { known: Vec::new(), begun_ns: began_ns, ready_ns: began_ns }
    }

    /// The starts of all series of a page that was begun and ready then, in their order, where they have some.
    pub(super) fn of(&mut self, page: &Page<'_>, begun_ns: u64, ready_ns: u64) -> Vec<u64> {
        let mut next = Vec::with_capacity(page.series.len());
        let starts = page.series.iter().map(|series| {
            let Some(count) = count(page, series) else { return 0 };
            let id = id(page, series);
            let known = self.known.binary_search_by_key(&id, |known| known.series);
            let start_ns = match known.map(|at| self.known[at]) {
                // Whatever is new may have begun while the page was made.
                Err(_) => self.begun_ns,
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
