//! Metrics: what /metrics shows, as OTLP has it.
//!
//! They are made from the page itself, so that they can't tell anything else than it. A container's series go under
//! its resource, the agent's own under the agent's.

mod page;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
        exemplar, metric::Data, number_data_point,
    },
};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use self::page::{Kind, Page, Series, Value};
use super::{
    assemble::Item,
    encode,
    figures::{Figures, Signal},
    resource::Host,
    worker::{Delivery, told},
};
use crate::{
    exemplar::Exemplar as Span,
    http::{Exposition, Format, RenderError},
    identity::{Labels, Registry, names::Details},
};

/// What all points of an export share.
#[derive(Clone, Copy, Debug)]
struct Times {
    start_ns: u64,
    now_ns: u64,
}

/// Sends the page every `every`, and once more when the agent ends.
pub(super) struct Export {
    pub exposition: Arc<dyn Exposition>,
    pub host: Host,
    /// Whose details resources have.
    pub registry: Arc<Registry>,
    /// What the agent is called as a service.
    pub service: String,
    pub every: Duration,
    /// Points in one request.
    pub most: usize,
    pub figures: Arc<Figures>,
}

impl Export {
    pub(super) async fn run(self, mut delivery: Delivery, mut stopping: watch::Receiver<bool>) {
        let start_ns = now_ns();
        let mut ticks = interval_at(Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                biased;
                () = told(&mut stopping) => true,
                _ = ticks.tick() => false,
            };
            // What was under way when the agent was told to end may have taken all the time that there was.
            if is_last && delivery.is_over() {
                return;
            }
            let times = Times { start_ns, now_ns: now_ns() };
            self.send(times, &mut delivery).await;
            if is_last {
                return;
            }
        }
    }

    async fn send(&self, times: Times, delivery: &mut Delivery) {
        let exposition = Arc::clone(&self.exposition);
        let render = move || {
            let chunks: Vec<Bytes> = exposition.render(Format::OpenMetrics)?.collect();
            Ok::<_, RenderError>(String::from_utf8(chunks.concat())?)
        };
        let rendered = tokio::task::spawn_blocking(render).await;
        let page = match rendered {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                return tracing::warn!(%error, "the metrics could not be written for the collector");
            }
            Err(_) => return tracing::warn!("the metrics could not be written for the collector"),
        };
        let page = Page::parse(&page);
        let details = self.registry.details();
        let counts = self.figures.of(Signal::Metrics);
        counts.produce(page.series.len() as u64);
        let mut lost = None;
        for series in page.series.chunks(self.most) {
            let items = series.len() as u64;
            match lost {
                // Whoever didn't take one part won't take the next. A minute later there are newer ones.
                Some(why) => counts.drop(why, items),
                None => {
                    let request = self.request(&page, series, &details, times);
                    lost = delivery.deliver(&request, items).await.err();
                }
            }
        }
    }

    fn request(
        &self,
        page: &Page<'_>,
        series: &[Series<'_>],
        details: &HashMap<Labels, Details>,
        times: Times,
    ) -> Bytes {
        let mut resources: HashMap<Option<&Labels>, BTreeMap<usize, Metric>> = HashMap::new();
        let mut order = Vec::new();
        for one in series {
            let base = one.base.as_ref();
            let metrics = resources.entry(base).or_insert_with(|| {
                order.push(base);
                BTreeMap::new()
            });
            let metric = metrics.entry(one.family).or_insert_with(|| empty(page, one.family));
            add(metric, one, times);
        }
        let mut items = Vec::new();
        for base in order {
            let resource = match base {
                Some(labels) => {
                    let nothing = Details::default();
                    self.host.resource(None, labels, details.get(labels).unwrap_or(&nothing))
                }
                None => self.host.own(&self.service),
            };
            let metrics = resources.remove(&base).unwrap_or_default().into_values();
            items.extend(
                metrics
                    .map(|metric| Item { resource: resource.clone(), data: metric.encode_to_vec().into() }),
            );
        }
        encode::request(&items, Vec::new())
    }
}

fn empty(page: &Page<'_>, family: usize) -> Metric {
    let family = &page.families[family];
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.kind {
        Kind::Counter => Data::Sum(Sum {
            data_points: Vec::new(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Gauge => Data::Gauge(Gauge::default()),
        Kind::Histogram => {
            Data::Histogram(Histogram { data_points: Vec::new(), aggregation_temporality: cumulative })
        }
    };
    Metric {
        name: family.name.to_owned(),
        description: family.help.clone(),
        unit: family.unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn add(metric: &mut Metric, series: &Series<'_>, times: Times) {
    // An empty label is none, as in Prometheus.
    let labels = series.labels.iter().filter(|(_, value)| !value.is_empty());
    let attributes = labels.map(|(name, value)| attribute(name, value)).collect();
    let exemplars = series.exemplars.iter().map(Exemplar::from).collect();
    let Times { start_ns, now_ns } = times;
    match (&mut metric.data, &series.value) {
        (Some(Data::Sum(sum)), Value::Number(number)) => sum.data_points.push(NumberDataPoint {
            attributes,
            start_time_unix_nano: start_ns,
            time_unix_nano: now_ns,
            value: Some(value(number)),
            exemplars,
            ..NumberDataPoint::default()
        }),
        (Some(Data::Gauge(gauge)), Value::Number(number)) => gauge.data_points.push(NumberDataPoint {
            attributes,
            time_unix_nano: now_ns,
            value: Some(value(number)),
            ..NumberDataPoint::default()
        }),
        (Some(Data::Histogram(histogram)), Value::Histogram { bounds, counts, sum }) => {
            histogram.data_points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: start_ns,
                time_unix_nano: now_ns,
                count: counts.iter().sum(),
                sum: Some(*sum),
                bucket_counts: counts.clone(),
                explicit_bounds: bounds.clone(),
                exemplars,
                ..HistogramDataPoint::default()
            });
        }
        _ => {}
    }
}

impl From<&Span> for Exemplar {
    fn from(span: &Span) -> Self {
        Self {
            time_unix_nano: span.unix_ns,
            trace_id: span.trace_id.into(),
            span_id: span.span_id.into(),
            value: Some(exemplar::Value::AsDouble(span.value)),
            ..Self::default()
        }
    }
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: name.to_owned(), value, ..KeyValue::default() }
}

/// Whole numbers stay whole: a count beyond 2^53 is exact.
fn value(text: &str) -> number_data_point::Value {
    match text.parse() {
        Ok(whole) => number_data_point::Value::AsInt(whole),
        Err(_) => number_data_point::Value::AsDouble(text.parse().unwrap_or(f64::NAN)),
    }
}

fn now_ns() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}
