//! All metrics that there are: what docs/metrics.md and `podwitness metrics` say of each.

mod agent;
mod workloads;

use std::fmt;

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric under the name that its series have, but for the endings of a histogram's.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Metric {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Besides the base labels, if it has those.
    pub labels: &'static [&'static str],
    /// In Markdown.
    pub meaning: &'static str,
    /// What it counts or measures in; a dash where there is nothing to say.
    pub unit: &'static str,
    /// How many series there are at most, for each workload or in all.
    pub bound: &'static str,
}

/// A table of docs/metrics.md.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub title: &'static str,
    /// Whether its metrics have the base labels.
    pub of_containers: bool,
    pub metrics: &'static [Metric],
}

/// In the order of docs/metrics.md.
pub fn sections() -> impl Iterator<Item = &'static Section> {
    workloads::SECTIONS.iter().chain(agent::SECTIONS)
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
    unit: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, meaning, unit, bound: "1" }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
    unit: &'static str,
) -> Metric {
    Metric { kind: Kind::Gauge, ..counter(name, labels, meaning, unit) }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
    unit: &'static str,
) -> Metric {
    Metric { kind: Kind::Histogram, ..counter(name, labels, meaning, unit) }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Section {
    /// As docs/metrics.md has it.
    pub fn table(&self) -> String {
        let mut table = if self.of_containers {
            "| Metric | Type | Own labels | Meaning | Unit | Bound per workload |\n".to_owned()
        } else {
            "| Metric | Type | Labels | Meaning | Unit | Bound |\n".to_owned()
        };
        table += "|---|---|---|---|---|---|\n";
        for Metric { name, kind, labels, meaning, unit, bound } in self.metrics {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            table += &format!("| `{name}` | {} | {labels} | {meaning} | {unit} | {bound} |\n", kind.name());
        }
        table
    }
}

/// Markdown without its marks: links are what they say, and code is what it is.
pub struct Plain<'t>(pub &'t str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['`', '[']) {
            f.write_str(&rest[..at])?;
            let (mark, after) = rest[at..].split_at(1);
            rest = after;
            if mark == "["
                && let Some((text, target)) = after.split_once("](")
                && let Some((_, after)) = target.split_once(')')
            {
                write!(f, "{}", Plain(text))?;
                rest = after;
            }
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_has_these_tables() {
        let document = include_str!("../../../../docs/metrics.md");
        for section in sections() {
            let heading = format!("# {}\n", section.title);
            let (_, text) = document.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
            let text = text.split("\n#").next().unwrap_or_default();
            let table = section.table();
            assert!(
                text.contains(&table),
                "docs/metrics.md, {}: the table should be\n{table}",
                section.title
            );
        }
        let tables = document.lines().filter(|line| line.starts_with("| Metric |")).count();
        assert_eq!(tables, sections().count(), "tables that no section has");
    }

    #[test]
    fn names_follow_the_rules() {
        let mut names = BTreeSet::new();
        for metric in sections().flat_map(|section| section.metrics) {
            let Metric { name, kind, unit, labels, .. } = metric;
            assert!(names.insert(name), "{name} stands there twice");
            assert!(name.starts_with("podwitness_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let plain = name.trim_end_matches("_total");
            for of in ["seconds", "bytes"] {
                assert_eq!(plain.ends_with(&format!("_{of}")), *unit == of, "{name} is in {unit}");
            }
            assert!(
                labels
                    .iter()
                    .all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            );
        }
    }

    #[test]
    fn marks_are_left_out_for_people() {
        let text = "[peers](#peers) × `reason`, see [`a`](b) and [c";
        assert_eq!(Plain(text).to_string(), "peers × reason, see a and c");
    }
}
