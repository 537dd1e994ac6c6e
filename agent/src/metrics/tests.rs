//! The page against an encoder that others wrote.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit as TheirUnit},
};

use super::{
    Bounds, Detail, Filling, Page, Unit, bounds,
    labels::Bases,
    proto::{Histogram, LabelPair, Messages, Number},
    text::Lines,
};
use crate::{exemplar::Exemplar, http::Format, identity::Labels};
use prost::Message;

/// As they are written by whoever writes canonical numbers, and by whoever doesn't.
const BOUNDS: Bounds = Bounds::powers(-2, 1);

/// What is shown, in an order that is not the page's.
fn containers() -> Vec<Arc<Labels>> {
    let labels = |namespace: &str, workload: &str, pod: &str| Labels {
        namespace: namespace.into(),
        workload_kind: "Deployment".into(),
        workload: workload.into(),
        pod: pod.into(),
        container: "app".into(),
    };
    let few = [labels("shop", "web", "web-2"), labels("", "sl\\ash \"quoted\"\nline", ""), Labels::other()];
    let many = (0..2000).map(|number| labels("shöp", "many", &format!("many-{number:04}")));
    few.into_iter().chain(many).map(Arc::new).collect()
}

/// Some figure for each container, with all digits among them.
fn figure(place: usize) -> u64 {
    0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(place as u64) >> (place % 64)
}

fn counts(place: usize) -> Vec<u64> {
    (0..=BOUNDS.count()).map(|bucket| figure(place + bucket) >> 8).collect()
}

fn ours(format: Format) -> String {
    let (page, series) = page();
    let chunks: Vec<_> = Lines::new(Arc::new(page), format).collect();
    assert!(chunks.len() > 3 && chunks.iter().all(|chunk| chunk.len() <= 64 * 1024), "chunks");
    let text = String::from_utf8(chunks.concat()).unwrap();
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), series);
    text
}

/// Something of everything, and how many series that are.
fn page() -> (Page, usize) {
    let shown = containers();
    let mut bases = Bases::default();
    let mut places = bases.place(shown.iter());
    places.sort();
    let mut page = Page::new(bases.texts(), Detail::ALL);
    let rows = || places.iter().copied().enumerate();
    page.counter("plain", "Without labels of its own", &[], rows().map(|(at, base)| (base, [], figure(at))));
    let errors = ["ENOENT", "", "a\"b"];
    page.counter(
        "errors",
        "With some",
        &["call", "errno"],
        rows().map(|(at, base)| (base, ["read", errors[at % 3]], figure(at))),
    );
    page.counter("none", "Nothing", &["call"], rows().take(0).map(|(_, base)| (base, [""], 0)));
    let all: Vec<_> = (0..shown.len()).map(counts).collect();
    let mut time = Filling::histogram("time", "A histogram", &["class"], BOUNDS);
    rows().zip(&all).for_each(|((at, base), counts)| {
        time.observe(base, ["poll"], figure(at), counts);
    });
    page.add(time);
    page.own_counter("own", "Ours", &[], [([], u64::MAX)]);
    page.own_counter("own_of", "Ours by name", &["a", "b"], [(["x", "y"], 0), (["", "z\\"], 7)]);
    page.own_seconds("cpu", "Seconds", &[], [([], 0.07)]);
    page.own_gauge("memory", "Bytes", Some(Unit::Bytes), &[], [([], 12_345_678.0)]);
    page.own_gauge("state", "No unit", None, &["is"], [(["on"], 1.0), (["off"], 0.0)]);
    let series = page.series();
    (page, series)
}

#[derive(Debug)]
struct Theirs;

impl Collector for Theirs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut shown = containers();
        shown.sort();
        let labels = |labels: &Labels, own: &[(&'static str, &str)]| -> Vec<(String, String)> {
            let base = Labels::NAMES.into_iter().zip(labels.values());
            base.chain(own.iter().copied()).map(|(name, value)| (name.into(), value.into())).collect()
        };
        let mut family =
            encoder.encode_descriptor("plain", "Without labels of its own", None, MetricType::Counter)?;
        for (at, container) in shown.iter().enumerate() {
            counter(&mut family, &labels(container, &[]), figure(at))?;
        }
        let mut family = encoder.encode_descriptor("errors", "With some", None, MetricType::Counter)?;
        for (at, container) in shown.iter().enumerate() {
            let errno = ["ENOENT", "", "a\"b"][at % 3];
            counter(&mut family, &labels(container, &[("call", "read"), ("errno", errno)]), figure(at))?;
        }
        encoder.encode_descriptor("none", "Nothing", None, MetricType::Counter)?;
        let seconds = Some(&TheirUnit::Seconds);
        let mut family = encoder.encode_descriptor("time", "A histogram", seconds, MetricType::Histogram)?;
        for (at, container) in shown.iter().enumerate() {
            let counts = counts(at);
            let bounds = BOUNDS.iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(counts.iter().copied()).collect();
            family.encode_family(&labels(container, &[("class", "poll")]))?.encode_histogram::<NoLabelSet>(
                figure(at) as f64 / 1e9,
                counts.iter().sum(),
                &buckets,
                None,
            )?;
        }
        let mut family = encoder.encode_descriptor("own", "Ours", None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&u64::MAX, None)?;
        let mut family = encoder.encode_descriptor("own_of", "Ours by name", None, MetricType::Counter)?;
        for (a, b, count) in [("x", "y", 0), ("", "z\\", 7)] {
            counter(
                &mut family,
                &[("a", a), ("b", b)].map(|(name, value)| (name.into(), value.into())),
                count,
            )?;
        }
        let mut family = encoder.encode_descriptor("cpu", "Seconds", seconds, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&0.07, None)?;
        let bytes = Some(&TheirUnit::Bytes);
        encoder
            .encode_descriptor("memory", "Bytes", bytes, MetricType::Gauge)?
            .encode_gauge(&12_345_678.0)?;
        let mut family = encoder.encode_descriptor("state", "No unit", None, MetricType::Gauge)?;
        for (is, value) in [("on", 1.0), ("off", 0.0)] {
            family.encode_family(&[("is", is)])?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

fn counter(family: &mut MetricEncoder<'_>, labels: &[(String, String)], count: u64) -> std::fmt::Result {
    family.encode_family(&labels.to_vec())?.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn theirs() -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Theirs));
    let mut page = String::new();
    encode(&mut page, &registry).unwrap();
    page
}

#[test]
fn the_page_is_what_prometheus_own_encoder_writes() {
    let (ours, theirs) = (ours(Format::OpenMetrics), theirs());
    for (line, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "line {line}");
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn the_older_format_has_the_same_lines_under_other_headings() {
    let mut expected = String::new();
    let theirs = theirs();
    let counters: Vec<&str> =
        theirs.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in theirs.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) => {
                let suffix = if counters.contains(&name) { "_total" } else { "" };
                expected += &format!("# {what} {name}{suffix} {rest}\n");
            }
            _ => expected += &format!("{line}\n"),
        }
    }
    let ours = ours(Format::Text);
    for (line, (ours, expected)) in ours.lines().zip(expected.lines()).enumerate() {
        assert_eq!(ours, expected, "line {line}");
    }
    assert_eq!(ours.len(), expected.len());
}

#[derive(Clone, PartialEq, Message)]
struct TheirFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<TheirMetric>,
}

#[derive(Clone, PartialEq, Message)]
struct TheirMetric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

/// A series of the text, as name and labels, with its value.
fn line(name: &str, le: Option<f64>, labels: &[LabelPair], value: f64) -> (String, f64) {
    let mut text = String::new();
    let le = le.map(|le| if le.is_finite() { bounds::written(le) } else { "+Inf".into() });
    le.iter().for_each(|le| super::labels::push(&mut text, "le", le));
    for label in labels {
        if !text.is_empty() {
            text.push(',');
        }
        super::labels::push(&mut text, label.name.as_deref().unwrap(), label.value.as_deref().unwrap());
    }
    (if text.is_empty() { name.to_owned() } else { format!("{name}{{{text}}}") }, value)
}

#[test]
fn protobuf_tells_the_same_as_the_text() {
    let chunks: Vec<_> = Messages::new(Arc::new(page().0)).collect();
    assert!(chunks.len() > 3 && chunks.iter().all(|chunk| chunk.len() <= 64 * 1024), "chunks");
    let mut rest = bytes::Bytes::from(chunks.concat());
    let (mut headings, mut series) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let family = TheirFamily::decode_length_delimited(&mut rest).unwrap();
        let name = family.name.unwrap();
        let kind = ["counter", "gauge", "", "", "histogram"][family.kind.unwrap() as usize];
        headings.push(format!("# HELP {name} {}", family.help.unwrap()));
        headings.push(format!("# TYPE {name} {kind}"));
        for TheirMetric { label, gauge, counter, histogram } in family.metric {
            assert_eq!(gauge.is_some(), kind == "gauge");
            if let Some(number) = gauge.or(counter) {
                series.push(line(&name, None, &label, number.value.unwrap()));
            }
            let Some(Histogram { sample_count, sample_sum, bucket, .. }) = histogram else { continue };
            let count = sample_count.unwrap() as f64;
            series.push(line(&format!("{name}_sum"), None, &label, sample_sum.unwrap()));
            series.push(line(&format!("{name}_count"), None, &label, count));
            let bounds = bucket
                .iter()
                .map(|bucket| (bucket.upper_bound.unwrap(), bucket.cumulative_count.unwrap() as f64));
            for (bound, below) in bounds.chain([(f64::INFINITY, count)]) {
                series.push(line(&format!("{name}_bucket"), Some(bound), &label, below));
            }
        }
    }
    let text = ours(Format::Text);
    let expected = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse::<f64>().unwrap())
    });
    for (at, (ours, expected)) in series.iter().zip(expected).enumerate() {
        assert_eq!(*ours, expected, "series {at}");
    }
    assert_eq!(series.len(), page().1);
    assert_eq!(headings, text.lines().filter(|line| line.starts_with('#')).collect::<Vec<_>>());
}

/// Two failures with different peers, and a histogram; all with exemplars.
fn page_with_exemplars(detail: Detail) -> Page {
    let shown = [containers().swap_remove(0)];
    let mut bases = Bases::default();
    let base = bases.place(shown.iter())[0];
    let mut page = Page::new(bases.texts(), detail);
    let mut failures = Filling::counter("failures", "Failures", &["peer_workload", "reason"]);
    for (peer, at) in [("db", 2_500_000_000), ("cache", 1_250_000_000)] {
        failures.count(base, [peer, "refused"], 3);
        failures.exemplify(0, Some(&Exemplar::at(at)));
    }
    page.add(failures);
    let mut time = Filling::histogram("time", "A histogram", &[], BOUNDS);
    time.observe(base, [], 9_500_000_000, &[0, 2, 0, 0, 1]);
    // Nothing is counted in the last but one.
    for (bucket, value, at) in [(1, 0.375, 3_000_000_000), (4, 8.0, 2_000_000_000), (3, 1.5, 1)] {
        time.exemplify(bucket, Some(&Exemplar { value, ..Exemplar::at(at) }));
    }
    page.add(time);
    page
}

fn text_with_exemplars(format: Format, detail: Detail) -> String {
    let chunks: Vec<_> = Lines::new(Arc::new(page_with_exemplars(detail)), format).collect();
    String::from_utf8(chunks.concat()).unwrap()
}

#[test]
fn openmetrics_has_exemplars_where_they_belong() {
    let text = text_with_exemplars(Format::OpenMetrics, Detail::ALL);
    let trace = "ab".repeat(16);
    let found: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(" # "))
        .map(|(series, exemplar)| {
            let key =
                ["db", "cache", "0.5", "+Inf"].into_iter().find(|key| series.contains(&format!("\"{key}\"")));
            (key.unwrap(), exemplar.replace(&trace, "TRACE"))
        })
        .collect();
    let exemplar = |span: u64, rest: &str| format!("{{trace_id=\"TRACE\",span_id=\"{span:016x}\"}} {rest}");
    assert_eq!(
        found,
        [
            ("db", exemplar(2_500_000_000, "1.0 2.500")),
            ("cache", exemplar(1_250_000_000, "1.0 1.250")),
            ("0.5", exemplar(3_000_000_000, "0.375 3.000")),
            ("+Inf", exemplar(2_000_000_000, "8.0 2.000")),
        ]
    );
    assert!(!text_with_exemplars(Format::Text, Detail::ALL).contains(" # {"), "the older format knows none");
}

#[test]
fn of_what_is_summed_up_the_last_exemplar_stays() {
    let text = text_with_exemplars(Format::OpenMetrics, Detail { peer: false, ..Detail::ALL });
    let failures: Vec<_> = text.lines().filter(|line| line.starts_with("failures_total")).collect();
    assert_eq!(failures.len(), 1, "{text}");
    assert!(failures[0].contains("} 6 # {") && failures[0].ends_with("} 1.0 2.500"), "{failures:?}");
}

#[test]
fn protobuf_has_the_same_exemplars() {
    let page = page_with_exemplars(Detail::ALL);
    let mut rest = bytes::Bytes::from(Messages::new(Arc::new(page)).collect::<Vec<_>>().concat());
    let failures = TheirFamily::decode_length_delimited(&mut rest).unwrap();
    let ends: Vec<_> = failures
        .metric
        .into_iter()
        .map(|metric| metric.counter.unwrap().exemplar.unwrap().timestamp.unwrap())
        .map(|time| (time.seconds, time.nanos))
        .collect();
    assert_eq!(ends, [(2, 500_000_000), (1, 250_000_000)]);
    let mut time = TheirFamily::decode_length_delimited(&mut rest).unwrap();
    let histogram = time.metric.remove(0).histogram.unwrap();
    let of_buckets: Vec<_> = histogram
        .bucket
        .iter()
        .filter_map(|bucket| Some((bucket.upper_bound?, bucket.exemplar.as_ref()?.value?)))
        .collect();
    assert_eq!(of_buckets, [(0.5, 0.375), (f64::INFINITY, 8.0)]);
    let native: Vec<_> = histogram.exemplars.iter().map(|exemplar| exemplar.value.unwrap()).collect();
    assert_eq!(native, [8.0, 0.375], "by their time");
    let label = histogram.exemplars[0].label[0].clone();
    assert_eq!((label.name.as_deref(), label.value), (Some("trace_id"), Some("ab".repeat(16))));
}
