//! An OpenMetrics page, read back.

use crate::{exemplar::Exemplar, identity::Labels};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Family<'p> {
    pub name: &'p str,
    pub help: String,
    /// By UCUM, as OpenTelemetry has units.
    pub unit: &'static str,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'p> {
    Number(&'p str),
    /// Counts are not cumulative, and one more than bounds.
    Histogram {
        bounds: Vec<f64>,
        counts: Vec<u64>,
        sum: f64,
    },
}

/// Labels that don't say whose the series is.
pub(super) type OwnLabels<'p> = Vec<(&'p str, String)>;

/// A metric with its labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series<'p> {
    pub family: usize,
    /// The base labels, where it is a container's.
    pub base: Option<Labels>,
    pub labels: OwnLabels<'p>,
    pub value: Value<'p>,
    /// Of a counter at most one, of a histogram at most one for each bucket.
    pub exemplars: Vec<Exemplar>,
}

/// The whole of it. Series of one metric stand together.
#[derive(Debug, Default)]
pub(super) struct Page<'p> {
    pub families: Vec<Family<'p>>,
    pub series: Vec<Series<'p>>,
}

impl<'p> Page<'p> {
    /// Reads a page of ours; lines that it doesn't understand are skipped.
    pub(super) fn parse(text: &'p str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                page.declare(rest);
            } else if page.sample(line).is_none() && !line.is_empty() {
                tracing::debug!(line, "a line of the metrics' page could not be read");
            }
        }
        for series in &mut page.series {
            if let Value::Histogram { counts, .. } = &mut series.value {
                for at in (1..counts.len()).rev() {
                    counts[at] = counts[at].saturating_sub(counts[at - 1]);
                }
            }
        }
        page
    }

    fn declare(&mut self, rest: &'p str) {
        let mut words = rest.splitn(3, ' ');
        let (Some(what), Some(name)) = (words.next(), words.next()) else { return };
        let value = words.next().unwrap_or_default();
        if self.families.last().is_none_or(|family| family.name != name) {
            self.families.push(Family { name, help: String::new(), unit: "", kind: Kind::Gauge });
        }
        let Some(family) = self.families.last_mut() else { return };
        match what {
            "HELP" => family.help = unescaped(value.trim_end_matches('.')),
            "UNIT" => family.unit = unit(value),
            "TYPE" => {
                family.kind = match value {
                    "counter" => Kind::Counter,
                    "histogram" => Kind::Histogram,
                    _ => Kind::Gauge,
                }
            }
            _ => {}
        }
    }

    fn sample(&mut self, line: &'p str) -> Option<()> {
        let index = self.families.len().checked_sub(1)?;
        let family = &self.families[index];
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_at(labels_end(rest)?),
            None => ("", rest),
        };
        let mut parts = rest.trim_start_matches('}').trim().split(" # ");
        let number = parts.next()?;
        let exemplar = parts.next().and_then(exemplar);
        let suffix = name.strip_prefix(family.name)?;
        let mut labels = parsed(labels)?;
        if family.kind != Kind::Histogram {
            let (base, labels) = split(labels);
            let (value, exemplars) = (Value::Number(number), exemplar.into_iter().collect());
            self.series.push(Series { family: index, base, labels, value, exemplars });
            return Some(());
        }
        let bound = labels.iter().position(|(name, _)| *name == "le").map(|at| labels.remove(at).1);
        let (base, labels) = split(labels);
        // The lines of a histogram come one after the other.
        let is_same = |last: &Series<'_>| last.family == index && last.base == base && last.labels == labels;
        if !self.series.last().is_some_and(is_same) {
            let value = Value::Histogram { bounds: Vec::new(), counts: Vec::new(), sum: 0.0 };
            self.series.push(Series { family: index, base, labels, value, exemplars: Vec::new() });
        }
        let Some(Series { value: Value::Histogram { bounds, counts, sum }, exemplars, .. }) =
            self.series.last_mut()
        else {
            return None;
        };
        exemplars.extend(exemplar);
        match suffix {
            "_bucket" => {
                // Infinity may be written in several ways.
                let bound: f64 = bound?.parse().ok()?;
                counts.push(number.parse().ok()?);
                if bound.is_finite() {
                    bounds.push(bound);
                }
            }
            "_sum" => *sum = number.parse().ok()?,
            _ => {}
        }
        Some(())
    }
}

/// Where the closing brace stands.
fn labels_end(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.bytes().position(|byte| {
        let was_escaped = is_escaped;
        is_escaped = is_quoted && byte == b'\\' && !was_escaped;
        if byte == b'"' && !was_escaped {
            is_quoted = !is_quoted;
        }
        byte == b'}' && !is_quoted
    })
}

fn parsed(text: &str) -> Option<OwnLabels<'_>> {
    let mut labels = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let mut is_escaped = false;
        let end = after.bytes().position(|byte| {
            let was_escaped = is_escaped;
            is_escaped = byte == b'\\' && !was_escaped;
            byte == b'"' && !was_escaped
        })?;
        labels.push((name, unescaped(&after[..end])));
        rest = after[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

/// What stands behind the mark of an exemplar: its ids, its value, and when it was, in seconds.
fn exemplar(text: &str) -> Option<Exemplar> {
    let (ids, rest) = text.strip_prefix('{')?.split_once("} ")?;
    let ids = parsed(ids)?;
    let id = |wanted: &str| ids.iter().find(|(name, _)| *name == wanted).map(|(_, id)| id.as_str());
    let (value, time) = rest.split_once(' ')?;
    let (seconds, ms) = time.split_once('.')?;
    let ms = seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(ms.parse().ok()?)?;
    Some(Exemplar {
        trace_id: bytes(id("trace_id")?)?,
        span_id: bytes(id("span_id")?)?,
        value: value.parse().ok()?,
        unix_ns: ms.checked_mul(1_000_000)?,
    })
}

/// Bytes in hex.
fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if hex.len() != 2 * N || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..][..2], 16).ok()?;
    }
    Some(bytes)
}

/// The base labels, if all of them are there, and the others.
fn split(mut labels: OwnLabels<'_>) -> (Option<Labels>, OwnLabels<'_>) {
    let names: Vec<_> = labels.iter().take(Labels::NAMES.len()).map(|(name, _)| *name).collect();
    if names != Labels::NAMES {
        return (None, labels);
    }
    let mut values = labels.drain(..Labels::NAMES.len()).map(|(_, value)| value);
    let mut next = || values.next().unwrap_or_default();
    let base =
        Labels { namespace: next(), workload_kind: next(), workload: next(), pod: next(), container: next() };
    drop(values);
    (Some(base), labels)
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => plain.push('\n'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            (character, false) => plain.push(character),
        }
    }
    plain
}

fn unit(name: &str) -> &'static str {
    match name {
        "seconds" => "s",
        "bytes" => "By",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r##"# HELP podwitness_calls Calls.
# TYPE podwitness_calls counter
podwitness_calls_total{namespace="a",workload_kind="Pod",workload="b\"\\\n}{",pod="",container="c",syscall="read"} 18446744073709551000
podwitness_calls_total{namespace="",workload_kind="host",workload="",pod="",container="",syscall="write"} 2 # {trace_id="000102030405060708090a0b0c0d0e0f",span_id="ffeeddccbbaa9988"} 1.0 1764000000.007
# HELP podwitness_took_seconds Time.
# TYPE podwitness_took_seconds histogram
# UNIT podwitness_took_seconds seconds
podwitness_took_seconds_sum{kind="x"} 1.5
podwitness_took_seconds_count{kind="x"} 7
podwitness_took_seconds_bucket{kind="x",le="0.1"} 2
podwitness_took_seconds_bucket{kind="x",le="1.0"} 6 # {trace_id="x",span_id="not one of ours"} 0.5 1764000000.007
podwitness_took_seconds_bucket{kind="x",le="+Inf"} 7
podwitness_took_seconds_sum{kind="y"} 1.0
podwitness_took_seconds_count{kind="y"} 1
podwitness_took_seconds_bucket{le="0.1",kind="y"} 0
podwitness_took_seconds_bucket{le="1.0",kind="y"} 0
podwitness_took_seconds_bucket{le="inf",kind="y"} 1 # {trace_id="0f0102030405060708090a0b0c0d0e00",span_id="0100000000000002"} 1.25 1.5
# HELP podwitness_up Whether.
# TYPE podwitness_up gauge
podwitness_up 1.0
# EOF
"##;

    #[test]
    fn a_page_is_read_as_it_was_meant() {
        let page = Page::parse(PAGE);
        let names: Vec<_> = page.families.iter().map(|family| (family.name, family.unit)).collect();
        assert_eq!(
            names[..3],
            [("podwitness_calls", ""), ("podwitness_took_seconds", "s"), ("podwitness_up", "")]
        );
        let [calls, host, took, too, up] = page.series.as_slice() else { panic!("{:#?}", page.series) };
        assert_eq!(calls.base.as_ref().unwrap().workload, "b\"\\\n}{");
        assert_eq!(calls.labels, [("syscall", "read".to_owned())]);
        assert_eq!(calls.value, Value::Number("18446744073709551000"));
        assert_eq!(host.base.as_ref().unwrap().workload_kind, "host");
        assert_eq!((&took.base, took.labels.len()), (&None, 1));
        assert_eq!(took.value, Value::Histogram { bounds: vec![0.1, 1.0], counts: vec![2, 4, 1], sum: 1.5 });
        assert_eq!(too.value, Value::Histogram { bounds: vec![0.1, 1.0], counts: vec![0, 0, 1], sum: 1.0 });
        assert_eq!((up.value.clone(), up.labels.len()), (Value::Number("1.0"), 0));

        let [exemplar] = host.exemplars.as_slice() else { panic!("{:?}", host.exemplars) };
        assert_eq!((exemplar.value, exemplar.unix_ns), (1.0, 1_764_000_000_007_000_000));
        assert_eq!(exemplar.ids(), ["000102030405060708090a0b0c0d0e0f", "ffeeddccbbaa9988"]);
        let counts = [calls, took, too, up].map(|series| series.exemplars.len());
        assert_eq!(counts, [0, 0, 1, 0], "what has no ids that are some is no exemplar");
    }

    #[test]
    fn torn_pages_do_no_harm() {
        for end in 0..PAGE.len() {
            if PAGE.is_char_boundary(end) {
                let _ = Page::parse(&PAGE[..end]);
                let _ = Page::parse(&PAGE[end..]);
            }
        }
    }
}
