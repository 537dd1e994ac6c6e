//! Metrics: what /metrics shows, as OTLP has it.
//!
//! They are made from the page itself, so that they can't tell anything else than it. A container's series go under
//! its resource, the agent's own under the agent's.

mod late;
mod page;
mod starts;
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

use self::{
    late::Shown,
    page::{Kind, Page, Series, Value},
    starts::Starts,
};
use super::{
    assemble::Item,
    encode,
    figures::{Figures, Loss, Signal},
    resource::Host,
    worker::{Delivery, told},
};
use crate::{
    clock::WallClock,
    exemplar::Exemplar as Span,
    http::{Exposition, Format, RenderError},
    identity::{Labels, Placement, Registry, names::Details},
    kernel::boot_ns,
};

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// By the boot clock.
    pub boot_ns: u64,
    /// What to add to that to get the wall clock's time.
    pub offset_ns: i64,
}

impl Now {
    /// All times of a page are made of the same offset: a wall clock that was set back puts no start after its point.
    fn wall(self, boot_ns: u64) -> u64 {
        boot_ns.saturating_add_signed(self.offset_ns)
    }
}

/// Tells the time.
pub(super) type Clock = Box<dyn FnMut() -> Now + Send>;

/// The machine's clocks.
pub(super) fn clock() -> Clock {
    let mut wall = WallClock::default();
    Box::new(move || Now { boot_ns: boot_ns(), offset_ns: wall.offset_ns() })
}

/// When a point's count began, and when it was taken.
#[derive(Clone, Copy, Debug)]
struct Times {
    start_ns: u64,
    now_ns: u64,
}

/// What labels don't say.
struct Known {
    details: HashMap<Labels, Details>,
    /// Whose labels are ids.
    nameless: HashMap<Labels, Placement>,
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
    pub clock: Clock,
    /// The agent's start by the boot clock: nothing is counted before it.
    pub began_ns: u64,
}

impl Export {
    pub(super) async fn run(mut self, mut delivery: Delivery, mut stopping: watch::Receiver<bool>) {
        let mut starts = Starts::new(self.began_ns);
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
            // Before there is a page, which would grow old meanwhile.
            delivery.rest().await;
            self.send(&mut delivery, &mut starts).await;
            if is_last {
                return;
            }
        }
    }

    async fn send(&mut self, delivery: &mut Delivery, starts: &mut Starts) {
        let exposition = Arc::clone(&self.exposition);
        let render = move || {
            let chunks: Vec<Bytes> = exposition.render(Format::OpenMetrics)?.collect();
            Ok::<_, RenderError>(String::from_utf8(chunks.concat())?)
        };
        let shown = Shown::of(&self.registry.list());
        // What comes from now on may be in the next page only.
        let begun_ns = (self.clock)().boot_ns;
        let rendered = tokio::task::spawn_blocking(render).await;
        let page = match rendered {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                return tracing::warn!(%error, "the metrics could not be written for the collector");
            }
            Err(_) => return tracing::warn!("the metrics could not be written for the collector"),
        };
        // The page waits for a look at what has happened meanwhile: nothing in it is of later than this.
        let now = (self.clock)();
        let page = Page::parse(&page);
        let late = std::mem::replace(&mut starts.shown, shown).late(&self.registry.list());
        let here = Instant::now().into_std();
        let since = |labels: &Labels| {
            let age = here.saturating_duration_since(*late.get(labels)?);
            let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            Some(now.boot_ns.saturating_sub(age_ns).max(self.began_ns))
        };
        let starts = starts.of(&page, begun_ns, now.boot_ns, since);
        let known = Known { details: self.registry.details(), nameless: self.registry.nameless() };
        let counts = self.figures.of(Signal::Metrics);
        counts.produce(page.series.len() as u64);
        let mut lost = None;
        for (series, starts) in page.series.chunks(self.most).zip(starts.chunks(self.most)) {
            let items = series.len() as u64;
            match lost {
                // Whoever can't take one part can't take the next. A minute later there are newer ones.
                Some(why) => counts.drop(why, items),
                None => {
                    let request = self.request(&page, series, starts, &known, now);
                    let outcome = delivery.deliver(&request, items).await;
                    // What is refused is refused for what is in it: other parts don't have it.
                    lost = outcome.err().filter(|why| *why != Loss::Refused);
                }
            }
        }
    }

    fn request(
        &self,
        page: &Page<'_>,
        series: &[Series<'_>],
        starts: &[u64],
        known: &Known,
        now: Now,
    ) -> Bytes {
        let mut resources: HashMap<Option<&Labels>, BTreeMap<usize, Metric>> = HashMap::new();
        let mut order = Vec::new();
        for (one, start) in series.iter().zip(starts) {
            let base = one.base.as_ref();
            let metrics = resources.entry(base).or_insert_with(|| {
                order.push(base);
                BTreeMap::new()
            });
            let metric = metrics.entry(one.family).or_insert_with(|| empty(page, one.family));
            add(metric, one, Times { start_ns: now.wall(*start), now_ns: now.wall(now.boot_ns) });
        }
        let mut items = Vec::new();
        for base in order {
            let resource = match base {
                Some(labels) => {
                    let nothing = Details::default();
                    let details = known.details.get(labels).unwrap_or(&nothing);
                    self.host.resource(known.nameless.get(labels), labels, details)
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
