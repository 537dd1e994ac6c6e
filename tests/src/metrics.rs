//! The text that Prometheus scrapes, taken apart.

use std::collections::BTreeMap;

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    /// The value of a label; an absent label is an empty one, as in Prometheus.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub samples: Vec<Sample>,
}

/// What became of the events of one sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcomes {
    pub seen: u64,
    pub delivered: u64,
    pub filtered: u64,
    pub throttled: u64,
    pub lost: u64,
}

impl Outcomes {
    /// Whether every event that was seen is accounted for exactly once.
    pub fn balanced(&self) -> bool {
        self.seen == self.delivered + self.filtered + self.throttled + self.lost
    }
}

impl Metrics {
    /// Takes an exposition apart; panics on a line that is not one.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| parse_line(line).unwrap_or_else(|| panic!("not a sample: {line:?}")));
        Self { samples: samples.collect() }
    }

    /// The series of this name that carry these labels.
    pub fn series<'a>(&'a self, name: &str, labels: &[(&str, &str)]) -> Vec<&'a Sample> {
        let carries = |sample: &Sample| labels.iter().all(|(label, value)| sample.label(label) == *value);
        self.samples.iter().filter(|sample| sample.name == name && carries(sample)).collect()
    }

    /// The sum over the series of this name that carry these labels; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).iter().map(|sample| sample.value).sum()
    }

    /// The same of a counter of things, which has to be a whole number.
    #[track_caller]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        whole(self.sum(name, labels))
    }

    /// How many observations of a histogram were not above `bound`; panics if it has no such bucket although
    /// it has others, because "none" would then be no answer.
    #[track_caller]
    pub fn at_most(&self, name: &str, labels: &[(&str, &str)], bound: f64) -> u64 {
        let buckets = self.series(&format!("{name}_bucket"), labels);
        let is_bound = |sample: &&&Sample| sample.label("le").parse() == Ok(bound);
        let matching: Vec<_> = buckets.iter().filter(is_bound).collect();
        assert!(buckets.is_empty() || !matching.is_empty(), "{name} has no bucket le={bound}");
        whole(matching.iter().map(|sample| sample.value).sum())
    }

    /// The bounds of a histogram in rising order, without infinity.
    pub fn bounds(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let buckets = self.series(&format!("{name}_bucket"), labels);
        let mut bounds: Vec<f64> =
            buckets.iter().filter_map(|sample| sample.label("le").parse().ok()).collect();
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        bounds
    }

    /// What became of the events of `sensor`.
    #[track_caller]
    pub fn outcomes(&self, sensor: &str) -> Outcomes {
        let of = |outcome| {
            let labels = [("sensor", sensor), ("outcome", outcome)];
            let series = self.series("podwitness_sensor_events_total", &labels);
            assert_eq!(series.len(), 1, "series of {labels:?}");
            whole(series[0].value)
        };
        let (seen, delivered, filtered) = (of("seen"), of("delivered"), of("filtered"));
        Outcomes { seen, delivered, filtered, throttled: of("throttled"), lost: of("lost") }
    }
}

#[track_caller]
fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0, "{value} counts nothing");
    // Exact: checked above, and far below 2^53.
    value as u64
}

/// `name{label="value",…} value [timestamp]`
fn parse_line(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = parse_quoted(quoted)?;
            if labels.insert(label.trim().to_owned(), value).is_some() {
                return None;
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_ascii_whitespace().next()?;
    // Rust reads "+Inf", "-Inf" and "NaN" as Prometheus writes them.
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// A label's value up to its closing quote, and what follows that.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_labels_escapes_and_without() {
        let metrics = Metrics::parse(concat!(
            "# HELP a_total Things.\n# TYPE a_total counter\n",
            "a_total{workload=\"/x\",what=\"q\\\"b\\\\n\\nl,}\"} 3 1700000000\n",
            "a_total{workload=\"/y\"} 4\n",
            "plain 1.5e3\n",
            "h_bucket{le=\"0.001\"} 1\nh_bucket{le=\"+Inf\"} 2\n",
        ));
        assert_eq!(metrics.samples[0].label("what"), "q\"b\\n\nl,}");
        assert_eq!(metrics.count("a_total", &[]), 7);
        assert_eq!(metrics.count("a_total", &[("workload", "/y")]), 4);
        assert_eq!(metrics.count("a_total", &[("workload", "/z")]), 0);
        assert_eq!(metrics.count("a_total", &[("workload", "/y"), ("what", "")]), 4);
        assert_eq!(metrics.sum("plain", &[]), 1500.0);
        assert_eq!(metrics.at_most("h", &[], 0.001), 1);
        assert_eq!(metrics.at_most("h", &[], f64::INFINITY), 2);
        assert_eq!(metrics.bounds("h", &[]), [0.001]);
    }

    #[test]
    #[should_panic(expected = "not a sample")]
    fn broken_lines_are_refused() {
        Metrics::parse("a{b=\"c} 1\n");
    }
}
