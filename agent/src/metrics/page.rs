//! Writing metric families, with or without the base labels.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::identity::Labels;

/// The page under way. Names come without the suffix that their type or unit gives them: `_total`, `_seconds`.
pub struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// Values of the base labels of one container.
type Base<'a> = &'a [&'a str; 5];

impl<'a> Page<'a> {
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// A counter of containers: base labels, values of `names`, count.
    pub fn counter<'r>(
        &mut self,
        name: &str,
        help: &str,
        names: &[&str],
        rows: impl Iterator<Item = (Base<'r>, Vec<&'r str>, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (base, values, count) in rows {
            let labels = based(base, names, &values);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    /// A histogram of seconds of containers: base labels, values of `names`, sum, counts by bucket; the counts
    /// are not cumulative, and there is one more of them than bounds.
    pub fn histogram<'r>(
        &mut self,
        name: &str,
        help: &str,
        names: &[&str],
        bounds: &[f64],
        rows: impl Iterator<Item = (Base<'r>, Vec<&'r str>, f64, &'r [u64])>,
    ) -> fmt::Result {
        let mut family =
            self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (base, values, sum, counts) in rows {
            let labels = based(base, names, &values);
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            let count = counts.iter().sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    /// Counters of the agent itself.
    pub fn own_counter<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        names: [&str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (values, count) in rows {
            with(&mut family, names, values, |metric| {
                metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
            })?;
        }
        Ok(())
    }

    /// Seconds that only grow, of the agent itself.
    pub fn own_seconds<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        names: [&str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], f64)>,
    ) -> fmt::Result {
        let mut family =
            self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        for (values, seconds) in rows {
            with(&mut family, names, values, |metric| {
                metric.encode_counter::<NoLabelSet, _, u64>(&seconds, None)
            })?;
        }
        Ok(())
    }

    /// Gauges of the agent itself.
    pub fn own_gauge<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        names: [&str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], f64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (values, value) in rows {
            with(&mut family, names, values, |metric| metric.encode_gauge(&value))?;
        }
        Ok(())
    }
}

fn based<'r>(base: Base<'r>, names: &[&'r str], values: &[&'r str]) -> Vec<(&'r str, &'r str)> {
    let own = names.iter().copied().zip(values.iter().copied());
    Labels::NAMES.into_iter().zip(base.iter().copied()).chain(own).collect()
}

fn with<const N: usize>(
    family: &mut MetricEncoder<'_>,
    names: [&str; N],
    values: [&str; N],
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let labels: Vec<(&str, &str)> = names.into_iter().zip(values).collect();
    // Without labels of its own the family is the series; `encode_family` would write empty braces.
    if labels.is_empty() { write(family) } else { write(&mut family.encode_family(&labels)?) }
}
