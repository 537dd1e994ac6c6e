use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::*;
use crate::{
    config::Config,
    http::Text,
    identity::{
        Bounds, Tree,
        names::{NameBounds, Names},
    },
    otlp::{Sender, settings::target},
};

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

const OFFSET: i64 = 1_000;

/// Shows what it was given. With each page a nanosecond goes by.
#[derive(Default)]
struct Shown {
    page: Mutex<String>,
    boot_ns: AtomicU64,
}

impl Exposition for Shown {
    fn render(&self, _: Format) -> Result<Text, RenderError> {
        self.boot_ns.fetch_add(1, Relaxed);
        Ok(Box::new([self.page.lock().unwrap().clone().into()].into_iter()))
    }
}

/// A request that waits for its answer.
struct Asked {
    points: Vec<(String, NumberDataPoint)>,
    answer: oneshot::Sender<u16>,
}

impl Asked {
    fn answer(self, status: u16) {
        self.answer.send(status).unwrap();
    }

    /// From when to when each counts, as long as the machine runs.
    fn times(&self) -> Vec<(&str, [u64; 2])> {
        let offset = OFFSET as u64;
        let times = |point: &NumberDataPoint| {
            [point.start_time_unix_nano, point.time_unix_nano].map(|time| time - offset)
        };
        self.points.iter().map(|(name, point)| (name.as_str(), times(point))).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.points.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// An export to a collector that the test plays.
struct Bench {
    shown: Arc<Shown>,
    figures: Arc<Figures>,
    /// The offset of the wall clock.
    offset: Arc<AtomicI64>,
    requests: mpsc::Receiver<Asked>,
    stop: watch::Sender<bool>,
    export: JoinHandle<()>,
}

impl Bench {
    async fn new(every: Duration, most: usize, page: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (into, requests) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let into = into.clone();
                let service = service_fn(move |request| play(request, into.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let mut config = Config::default();
        config.otlp.endpoint = Some(format!("http://{address}"));
        config.otlp.compression = crate::config::Compression::None;
        config.otlp.timeout = PATIENCE;
        let (figures, (stop, stopping)) = (Arc::<Figures>::default(), watch::channel(false));
        let sender = Sender::new(&target(&config.otlp, Signal::Metrics).unwrap().unwrap()).unwrap();
        let delivery =
            Delivery::new(Signal::Metrics, sender, &config.otlp, Arc::clone(&figures), stopping.clone());
        let shown = Arc::new(Shown { page: Mutex::new(page.to_owned()), ..Shown::default() });
        let bounds = Bounds { containers: 16, hold: PATIENCE, grace: PATIENCE };
        let names = Arc::new(Names::new(NameBounds { containers: 16, grace: PATIENCE }));
        let tree = Tree::at(std::env::temp_dir()).unwrap();
        let offset = Arc::new(AtomicI64::new(OFFSET));
        let (wall, boot) = (Arc::clone(&offset), Arc::clone(&shown));
        let export = Export {
            clock: Box::new(move || Now {
                boot_ns: boot.boot_ns.load(Relaxed),
                offset_ns: wall.load(Relaxed),
            }),
            began_ns: 0,
            exposition: Arc::clone(&shown) as Arc<dyn Exposition>,
            host: Host::default(),
            registry: Arc::new(Registry::new(tree, bounds, names)),
            service: "podwitness".to_owned(),
            every,
            most,
            figures: Arc::clone(&figures),
        };
        let export = tokio::spawn(export.run(delivery, stopping));
        Self { shown, figures, offset, requests, stop, export }
    }

    async fn next(&mut self) -> Asked {
        tokio::time::timeout(PATIENCE, self.requests.recv()).await.unwrap().unwrap()
    }

    fn show(&self, page: &str) {
        page.clone_into(&mut self.shown.page.lock().unwrap());
    }
}

async fn play(
    request: hyper::Request<Incoming>,
    into: mpsc::Sender<Asked>,
) -> Result<hyper::Response<Empty<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let metrics = request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics);
    let mut points = Vec::new();
    for metric in metrics.flat_map(|group| group.metrics) {
        let of_metric = match metric.data.unwrap() {
            Data::Sum(sum) => sum.data_points,
            Data::Gauge(gauge) => gauge.data_points,
            other => panic!("{other:?}"),
        };
        points.extend(of_metric.into_iter().map(|point| (metric.name.clone(), point)));
    }
    let (answer, answered) = oneshot::channel();
    into.send(Asked { points, answer }).await.unwrap_or_else(|_| panic!("the test has ended"));
    let mut response = hyper::Response::new(Empty::new());
    *response.status_mut() = answered.await.unwrap().try_into().unwrap();
    Ok(response)
}

/// A page with these counters.
fn counters(of: &[(&str, u64)]) -> String {
    of.iter().map(|(name, value)| format!("# TYPE {name} counter\n{name}_total {value}\n")).collect()
}

#[tokio::test]
async fn the_last_page_comes_also_if_another_is_under_way() {
    let mut bench = Bench::new(Duration::from_millis(1), 100, &counters(&[("a", 1)])).await;
    let first = bench.next().await;
    bench.show(&counters(&[("last", 1)]));
    bench.stop.send(true).unwrap();
    first.answer(200);
    let last = bench.next().await;
    assert_eq!(last.names(), ["last"]);
    last.answer(200);
    bench.export.await.unwrap();
    let counts = bench.figures.of(Signal::Metrics);
    assert_eq!((counts.produced(), counts.sent()), (2, 2));
}

#[tokio::test]
async fn a_series_that_begins_anew_says_so() {
    let pages: [&[(&str, u64)]; 6] = [
        &[("a", 5), ("b", 5)],
        &[("b", 5)],
        // It was forgotten, and is there again.
        &[("a", 1), ("b", 6), ("c", 1)],
        // It was forgotten between two pages.
        &[("a", 1), ("b", 2), ("c", 1)],
        &[("a", 7), ("b", 2), ("c", 1)],
        &[("c", 1), ("b", 2), ("a", 7)],
    ];
    let starts: [&[(&str, u64)]; 6] = [
        &[("a", 0), ("b", 0)],
        &[("b", 0)],
        // Since the second page was begun.
        &[("a", 1), ("b", 0), ("c", 1)],
        // Since the third one was ready.
        &[("a", 1), ("b", 3), ("c", 1)],
        &[("a", 1), ("b", 3), ("c", 1)],
        &[("c", 1), ("b", 3), ("a", 1)],
    ];
    let mut bench = Bench::new(Duration::from_millis(1), 100, &counters(pages[0])).await;
    for (now, starts) in (1..).zip(starts) {
        let asked = bench.next().await;
        let expected: Vec<_> = starts.iter().map(|(name, start)| (*name, [*start, now])).collect();
        assert_eq!(asked.times(), expected);
        if let Some(page) = pages.get(now as usize) {
            bench.show(&counters(page));
        }
        asked.answer(200);
    }
}

#[tokio::test]
async fn no_start_is_after_its_point() {
    let mut bench = Bench::new(Duration::from_millis(1), 100, &counters(&[("a", 1)])).await;
    let asked = bench.next().await;
    assert_eq!(asked.times(), [("a", [0, 1])]);
    // Somebody sets the wall clock back, further than the agent has run.
    bench.offset.store(OFFSET - 500, Relaxed);
    asked.answer(200);
    let (_, point) = &bench.next().await.points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (500, 502));
}

#[tokio::test]
async fn what_is_refused_takes_no_other_part_along() {
    let page = counters(&[("a", 1), ("b", 1), ("c", 1)]);
    let mut bench = Bench::new(Duration::from_millis(1), 1, &page).await;
    for (name, status) in [("a", 200), ("b", 400), ("c", 200)] {
        let asked = bench.next().await;
        assert_eq!(asked.names(), [name]);
        asked.answer(status);
    }
    // The next page: all of the first is accounted for.
    bench.next().await;
    let counts = bench.figures.of(Signal::Metrics);
    assert_eq!((counts.sent(), counts.dropped(Loss::Refused)), (2, 1));
}
