//! `podwitness metrics`: which metrics there are, and how many series each has.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use crate::{
    config::{Config, text::wrap},
    metrics::reference::{Kind, Metric, Plain, sections},
    scrape::{self, Series},
};

/// Where a line of text ends.
const WIDTH: usize = 100;

/// What the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub what: What,
    /// Where the agent is; the local one without.
    pub address: Option<String>,
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum What {
    #[default]
    Reference,
    /// The tables of docs/metrics.md.
    Markdown,
    /// What a running agent shows.
    Series,
}

pub fn run(options: &Options, config: &Config, out: &mut dyn Write) -> Result<()> {
    match (options.what, options.json) {
        (What::Markdown, _) => markdown(out),
        (What::Reference, false) => reference(out),
        (What::Reference, true) => {
            let all: Vec<_> = sections()
                .flat_map(|section| section.metrics.iter().map(|metric| (section.of_containers, metric)))
                .map(|(of_containers, metric)| json!({ "of_containers": of_containers, "metric": metric }))
                .collect();
            writeln!(out, "{:#}", json!(all))?;
            Ok(())
        }
        (What::Series, is_json) => {
            let address =
                options.address.clone().unwrap_or_else(|| scrape::local(config.metrics.listen).to_string());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let series = runtime.block_on(scrape::series(&address))?;
            if is_json { as_json(&series, out) } else { as_table(&series, out) }
        }
    }
}

fn markdown(out: &mut dyn Write) -> Result<()> {
    for section in sections() {
        writeln!(out, "## {}\n\n{}", section.title, section.table())?;
    }
    Ok(())
}

fn reference(out: &mut dyn Write) -> Result<()> {
    for section in sections() {
        let bound = if section.of_containers { "series for each workload" } else { "series" };
        writeln!(out, "{}\n", section.title.to_uppercase())?;
        for Metric { name, kind, labels, meaning, unit, bound: most } in section.metrics {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(", ")) };
            writeln!(out, "  {name}{labels}")?;
            for line in wrap(&Plain(meaning).to_string(), WIDTH - 6) {
                writeln!(out, "      {line}")?;
            }
            let unit = if *unit == "–" { String::new() } else { format!(" of {unit}") };
            writeln!(out, "      {}{unit}; {bound}: {}", kind.name(), Plain(most))?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "Those of workloads have the labels namespace, workload_kind, workload, pod and container, too."
    )?;
    Ok(())
}

/// A gauge's sum tells nothing.
fn sum(metric: &Metric, sum: f64) -> Option<f64> {
    (metric.kind != Kind::Gauge).then_some(sum)
}

fn as_table(series: &Series, out: &mut dyn Write) -> Result<()> {
    let metrics = || sections().flat_map(|section| section.metrics);
    let width = metrics().map(|metric| metric.name.len()).max().unwrap_or(0);
    writeln!(out, "{:<width$} {:>9} {:>18}", "METRIC", "SERIES", "SUM")?;
    for metric in metrics() {
        let (count, all) = series.of(metric.name);
        let all = sum(metric, all).map_or_else(|| "-".to_owned(), |sum| sum.to_string());
        writeln!(out, "{:<width$} {count:>9} {all:>18}", metric.name)?;
    }
    writeln!(out, "\n{}", series.budget())?;
    Ok(())
}

fn as_json(series: &Series, out: &mut dyn Write) -> Result<()> {
    let metrics: Vec<_> = sections()
        .flat_map(|section| section.metrics)
        .map(|metric| {
            let (count, all) = series.of(metric.name);
            json!({ "name": metric.name, "series": count, "sum": sum(metric, all) })
        })
        .collect();
    let budget = series.budget();
    let folded: serde_json::Map<_, _> =
        budget.folded.into_iter().map(|(what, series)| (what, json!(series))).collect();
    let report = json!({
        "metrics": metrics,
        "series": budget.series,
        "limit": budget.limit,
        "folded": folded,
    });
    writeln!(out, "{report:#}")?;
    Ok(())
}
