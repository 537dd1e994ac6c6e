//! The columns of the table, for the screen and for plain text.

use std::{cmp::Ordering, fmt::Write as _};

use agent_ebpf::contract::stats::SensorId::{self, Oom, Process, Syscalls, Tcp};
use unicode_width::UnicodeWidthStr as _;

use super::rates::{Rates, Row};
use crate::{
    harmless::Harmless,
    identity::Labels,
    tail::{bytes, duration, padded},
};

/// A column, and how to sort by it.
pub(super) struct Column {
    /// What it is called on the command line and at the bottom of the screen.
    pub name: &'static str,
    /// The key that sorts by it.
    pub key: char,
    pub title: &'static str,
    /// Columns of the screen; the name takes what is left.
    pub width: u16,
    /// The larger, the sooner it goes where there is no room.
    pub expendable: u8,
    /// Who sees what it shows, if that takes a sensor.
    pub sensor: Option<SensorId>,
    pub figure: Figure,
}

/// What stands in a column.
pub(super) enum Figure {
    Text(fn(&Row) -> String),
    /// The call that is made most.
    Busiest,
    /// For a second.
    Rate(fn(&Rates) -> f64),
    Count(fn(&Row) -> u64),
    /// What isn't known of every container.
    Value {
        of: fn(&Row) -> Option<f64>,
        shown: fn(f64) -> String,
        plain: fn(f64) -> String,
        /// Little is what one looks for.
        least_first: bool,
    },
}

/// The first is the name.
pub(super) static COLUMNS: [Column; 15] = [
    column("name", 'n', "CONTAINER", 20, 0, None, Figure::Text(|row| place(&row.labels))),
    column("calls", 's', "CALLS/S", 9, 0, Some(Syscalls), Figure::Rate(|rates| rates.syscalls)),
    column("errors", 'e', "ERRORS/S", 9, 1, Some(Syscalls), Figure::Rate(|rates| rates.syscall_errors)),
    column("connects", 'c', "CONN/S", 8, 2, Some(Tcp), Figure::Rate(|rates| rates.connects)),
    column("failed", 'f', "FAILED/S", 9, 3, Some(Tcp), Figure::Rate(|rates| rates.connect_failures)),
    column("accepts", 'a', "ACCEPT/S", 9, 14, Some(Tcp), Figure::Rate(|rates| rates.accepts)),
    column("sent", 't', "SENT/S", 9, 8, Some(Tcp), traffic(|row| Some(row.rates?.sent))),
    column("received", 'g', "RECV/S", 9, 9, Some(Tcp), traffic(|row| Some(row.rates?.received))),
    column("rtt", 'l', "RTT", 8, 10, Some(Tcp), round_trip(|row| row.rates?.rtt)),
    column(
        "memory",
        'm',
        "MEMORY",
        9,
        7,
        None,
        memory(|row| Some(row.memory?.working_set_bytes as f64), false),
    ),
    column(
        "headroom",
        'h',
        "HEADROOM",
        9,
        4,
        None,
        memory(|row| Some(row.memory?.headroom_bytes? as f64), true),
    ),
    column("deaths", 'd', "DEATHS", 7, 11, Some(Process), Figure::Count(|row| row.figures.deaths())),
    column("oom", 'o', "OOM", 4, 12, Some(Oom), Figure::Count(|row| row.figures.oom_kills)),
    column("restarts", 'u', "RESTARTS", 8, 13, None, whole(|row| Some(row.restart_count?.into()))),
    column("busiest", 'b', "BUSIEST CALL", 16, 6, Some(Syscalls), Figure::Busiest),
];

const fn memory(of: fn(&Row) -> Option<f64>, least_first: bool) -> Figure {
    Figure::Value { of, shown: |of| bytes(of as u64), plain: |of| format!("{of:.0}"), least_first }
}

const fn whole(of: fn(&Row) -> Option<f64>) -> Figure {
    const SHOWN: fn(f64) -> String = |of| format!("{of:.0}");
    Figure::Value { of, shown: SHOWN, plain: SHOWN, least_first: false }
}

const fn traffic(of: fn(&Row) -> Option<f64>) -> Figure {
    Figure::Value { of, shown: |of| bytes(of as u64), plain: |of| format!("{of:.1}"), least_first: false }
}

const fn round_trip(of: fn(&Row) -> Option<f64>) -> Figure {
    Figure::Value { of, shown: duration, plain: |of| format!("{of:.6}"), least_first: false }
}

const fn column(
    name: &'static str,
    key: char,
    title: &'static str,
    width: u16,
    expendable: u8,
    sensor: Option<SensorId>,
    figure: Figure,
) -> Column {
    Column { name, key, title, width, expendable, sensor, figure }
}

impl Column {
    pub(super) fn by_name(name: &str) -> Option<usize> {
        COLUMNS.iter().position(|column| column.name == name)
    }

    pub(super) fn is_number(&self) -> bool {
        !matches!(self.figure, Figure::Text(_) | Figure::Busiest)
    }

    /// For people.
    pub(super) fn shown(&self, row: &Row) -> String {
        match &self.figure {
            _ if self.sensor.is_some_and(|sensor| row.is_blind(sensor)) => nothing(),
            Figure::Text(of) => of(row),
            Figure::Busiest => busiest(row, rate),
            Figure::Rate(of) => row.rates.as_ref().map_or_else(nothing, |rates| rate(of(rates))),
            Figure::Count(of) => of(row).to_string(),
            Figure::Value { of, shown, .. } => of(row).map_or_else(nothing, shown),
        }
    }

    /// For programs: numbers as they are.
    fn plain(&self, row: &Row) -> String {
        match &self.figure {
            _ if self.sensor.is_some_and(|sensor| row.is_blind(sensor)) => nothing(),
            Figure::Rate(of) => row.rates.as_ref().map_or_else(nothing, |rates| plain_rate(of(rates))),
            Figure::Busiest => busiest(row, plain_rate),
            Figure::Value { of, plain, .. } => of(row).map_or_else(nothing, plain),
            Figure::Text(_) | Figure::Count(_) => self.shown(row),
        }
    }

    /// What one looks for first; what isn't known comes last.
    fn compare(&self, one: &Row, other: &Row) -> Ordering {
        let numbers = |one: Option<f64>, other: Option<f64>, least_first: bool| match (one, other) {
            (Some(one), Some(other)) if least_first => one.total_cmp(&other),
            (Some(one), Some(other)) => other.total_cmp(&one),
            (one, other) => other.is_some().cmp(&one.is_some()),
        };
        match &self.figure {
            Figure::Text(of) => of(one).cmp(&of(other)),
            Figure::Busiest => busiest(one, rate).cmp(&busiest(other, rate)),
            Figure::Rate(of) => numbers(one.rates.as_ref().map(of), other.rates.as_ref().map(of), false),
            Figure::Count(of) => of(other).cmp(&of(one)),
            Figure::Value { of, least_first, .. } => numbers(of(one), of(other), *least_first),
        }
    }
}

/// In which order rows stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    /// In [`COLUMNS`].
    pub column: usize,
    pub is_reversed: bool,
}

impl Sort {
    pub(super) fn apply(self, rows: &mut [&Row]) {
        let column = &COLUMNS[self.column];
        rows.sort_by(|one, other| {
            let order = column.compare(one, other);
            let order = if self.is_reversed { order.reverse() } else { order };
            order.then_with(|| one.labels.cmp(&other.labels))
        });
    }
}

/// The table as plain text. Columns are as wide as what is in them, so that nothing is cut short.
pub(super) fn plain(rows: &[&Row]) -> String {
    let mut lines: Vec<Vec<String>> = vec![COLUMNS.iter().map(|column| column.title.to_owned()).collect()];
    lines.extend(rows.iter().map(|row| COLUMNS.iter().map(|column| column.plain(row)).collect()));
    let widths: Vec<_> = (0..COLUMNS.len())
        .map(|at| lines.iter().map(|line| line[at].width()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<_> = line
            .iter()
            .zip(&COLUMNS)
            .zip(&widths)
            .map(|((cell, column), width)| match column.is_number() {
                true => format!("{}{cell}", " ".repeat(width.saturating_sub(cell.width()))),
                false => padded(cell, *width),
            })
            .collect();
        // Writing to a string doesn't fail.
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// The container by its shortest name that tells it apart, as in `tail`.
pub(super) fn place(labels: &Labels) -> String {
    let Labels { namespace, workload_kind, workload, pod, container } = labels;
    let name = if pod.is_empty() { workload } else { pod };
    let parts: Vec<_> = [namespace, name, container].into_iter().filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => Harmless(workload_kind).to_string(),
        false => parts.iter().map(|part| Harmless(part).to_string()).collect::<Vec<_>>().join("/"),
    }
}

fn busiest(row: &Row, rate: fn(f64) -> String) -> String {
    let shown = |of| format!(" {}", rate(of));
    row.busiest().map_or_else(nothing, |call| {
        format!("{}{}", Harmless(&call.name), call.rate.map(shown).unwrap_or_default())
    })
}

fn plain_rate(rate: f64) -> String {
    format!("{rate:.1}")
}

/// A rate with three digits or so.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        _ if rate <= 0.0 => "0".into(),
        _ if rate < 0.05 => "<0.1".into(),
        _ if rate < 10.0 => format!("{rate:.1}"),
        _ if rate < 10e3 => format!("{rate:.0}"),
        _ if rate < 10e6 => format!("{:.1}k", rate / 1e3),
        _ => format!("{:.1}M", rate / 1e6),
    }
}

pub(super) fn nothing() -> String {
    "-".into()
}
