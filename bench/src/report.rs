//! What a bench has found, against its targets.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{machine, statistics::Quartiles};

/// How far the upper quartile may be past the target.
const SLACK: f64 = 1.1;

/// A figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    /// In the unit of the report.
    pub(crate) value: Quartiles,
    pub(crate) ratio: Option<Ratio>,
    /// Of the value itself, where it needs no floor.
    pub(crate) bound: Option<Target>,
}

/// A figure divided by another one of the same round, which is what moves least with the machine.
#[derive(Clone, Debug)]
pub(crate) struct Ratio {
    /// Of what: `× F1`.
    pub(crate) of: String,
    pub(crate) quartiles: Quartiles,
    pub(crate) target: Option<Target>,
}

/// At most so much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Its name in the list of targets.
    pub(crate) name: &'static str,
    pub(crate) most: f64,
}

/// All figures of one bench.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) title: String,
    /// Of the values.
    pub(crate) unit: &'static str,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
}

impl Target {
    pub(crate) fn is_met(&self, quartiles: &Quartiles) -> bool {
        quartiles.upper <= self.most * SLACK
    }
}

impl Row {
    pub(crate) fn plain(what: impl Into<String>, sample: &[f64]) -> Self {
        Self { what: what.into(), value: Quartiles::of(sample.iter().copied()), ratio: None, bound: None }
    }

    /// A figure with a target of its own.
    pub(crate) fn bounded(what: impl Into<String>, sample: &[f64], bound: Target) -> Self {
        Self { bound: Some(bound), ..Self::plain(what, sample) }
    }

    /// Both samples have a figure for each round.
    pub(crate) fn against(
        what: impl Into<String>,
        sample: &[f64],
        to: &str,
        floor: &[f64],
        target: Option<Target>,
    ) -> Self {
        let quartiles = Quartiles::of(sample.iter().zip(floor).map(|(value, floor)| value / floor));
        let ratio = Some(Ratio { of: format!("× {to}"), quartiles, target });
        Self { ratio, ..Self::plain(what, sample) }
    }

    /// A peer, and which part of its cost is that of `whose`: the agent, or a floor.
    pub(crate) fn peer(
        what: impl Into<String>,
        sample: &[f64],
        whose: &str,
        ours: &[f64],
        target: Option<Target>,
    ) -> Self {
        let quartiles = Quartiles::of(ours.iter().zip(sample).map(|(ours, peer)| ours / peer));
        let ratio = Some(Ratio { of: format!("{whose} / peer"), quartiles, target });
        Self { ratio, ..Self::plain(what, sample) }
    }

    fn is_met(&self) -> bool {
        self.judged().is_none_or(|(target, quartiles)| target.is_met(&quartiles))
    }

    /// The target, and what is held against it.
    fn judged(&self) -> Option<(Target, Quartiles)> {
        let of_ratio = self.ratio.as_ref().and_then(|ratio| Some((ratio.target?, ratio.quartiles)));
        of_ratio.or_else(|| Some((self.bound?, self.value)))
    }

    fn cells(&self) -> [String; 5] {
        let Quartiles { lower, median, upper } = self.value;
        let value = format!("{} [{} {}]", short(median), short(lower), short(upper));
        let ratio = self.ratio.as_ref().map_or_else(String::new, |Ratio { of, quartiles, .. }| {
            let Quartiles { lower, median, upper } = *quartiles;
            format!("{} [{} {}] {of}", precise(median), precise(lower), precise(upper))
        });
        let (target, verdict) = self.judged().map_or_else(Default::default, |(target, quartiles)| {
            let verdict = if target.is_met(&quartiles) { "met" } else { "MISSED" };
            (format!("{} ≤ {}", target.name, target.most), verdict.to_owned())
        });
        [self.what.clone(), value, ratio, target, verdict]
    }
}

impl Report {
    /// Whether every figure is within its target.
    pub(crate) fn is_met(&self) -> bool {
        self.rows.iter().all(Row::is_met)
    }

    /// Keeps it under the name of the bench.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> Result<PathBuf> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let path = directory.join(format!("{name}.md"));
        fs::write(&path, self.to_string()).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}\n\n{}\n", self.title, machine::describe())?;
        let heads = ["", &format!("{} [quartiles]", self.unit), "ratio [quartiles]", "target", "verdict"];
        let mut table = vec![heads.map(str::to_owned)];
        table.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        for (number, row) in table.iter().enumerate() {
            for (cell, width) in row.iter().zip(widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        writeln!(f)
    }
}

fn short(value: f64) -> String {
    let decimals = if value.abs() < 10.0 { 2 } else { 0 };
    // Not "-0".
    format!("{:.decimals$}", value + 0.0)
}

fn precise(value: f64) -> String {
    let decimals = if value.abs() < 0.1 { 4 } else { 2 };
    format!("{:.decimals$}", value + 0.0)
}

#[cfg(test)]
mod tests {
    use super::{Row, Target};

    const TARGET: Target = Target { name: "P0", most: 2.0 };

    #[test]
    fn the_upper_quartile_is_judged_with_slack() {
        assert!(Row::bounded("", &[1.0, 1.0, 1.0, 2.2], TARGET).is_met());
        assert!(!Row::bounded("", &[1.0, 1.0, 2.3, 2.3], TARGET).is_met());
        assert!(!Row::bounded("", &[], TARGET).is_met(), "what was not measured is not met");
        assert!(Row::plain("", &[9.0]).is_met());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let row = Row::against("", &[2.0, 20.0, 200.0], "floor", &[1.0, 10.0, 100.0], Some(TARGET));
        assert!(row.is_met());
        assert_eq!(row.cells()[2..], ["2.00 [2.00 2.00] × floor", "P0 ≤ 2", "met"]);
        let peer = Row::peer("", &[10.0, 100.0], "agent", &[1.0, 10.0], None);
        assert_eq!(peer.cells()[2], "0.10 [0.10 0.10] agent / peer");
    }
}
