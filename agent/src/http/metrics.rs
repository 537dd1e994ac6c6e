//! The listener for scrapers and probes.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::Semaphore;

use super::{
    Connections, Format, Health, Listener, Shutdown,
    health::probe,
    not_found,
    server::{DISMISSAL, Door, FIRST_REQUEST, serve},
    text,
};

const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// Scrapes rendered at a time: each takes a CPU for milliseconds, and a second Prometheus is common, a fifth isn't.
const CONCURRENT_SCRAPES: usize = 4;

const INDEX: &str = "\
podwitness: metrics

/metrics  Prometheus text or OpenMetrics, as the Accept header says
/healthz  200 while the agent works
/readyz   200 once the programs are attached
";

/// What shows the metrics.
pub trait Exposition: Send + Sync + 'static {
    /// Takes the figures of a page. Called on a thread that may block, by up to four at a time.
    fn render(&self, format: Format) -> Result<Text, RenderError>;
}

/// A page in chunks, each of which is written when it is asked for; that takes microseconds.
pub type Text = Box<dyn Iterator<Item = Bytes> + Send>;

/// Why there is no page.
pub type RenderError = Box<dyn std::error::Error + Send + Sync>;

/// How scrapes ended. Made before the exposition, which shows it.
#[derive(Debug, Default)]
pub struct Scrapes {
    rendered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

impl Scrapes {
    /// Answered with a page.
    pub fn rendered(&self) -> u64 {
        self.rendered.load(Relaxed)
    }

    /// Answered with 500, because rendering failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Answered with 503, because too many others were being rendered.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`.
pub async fn serve_metrics(
    listener: Listener,
    exposition: Arc<dyn Exposition>,
    scrapes: Arc<Scrapes>,
    health: Health,
    connections: Arc<Connections>,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(CONCURRENT_SCRAPES));
    let site = Site { exposition, scrapes, places, health };
    let router = Router::new()
        .route("/", get(async || text(StatusCode::OK, INDEX)))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async |State(site): State<Site>| probe(site.health.alive())))
        .route("/readyz", get(async |State(site): State<Site>| probe(site.health.ready())))
        .fallback(not_found)
        .with_state(site);
    let door = Door {
        places: CONNECTIONS,
        patience: PATIENCE,
        first_request: FIRST_REQUEST,
        dismissal: DISMISSAL,
        tls: None,
        connections,
    };
    serve(listener, router, door, shutdown).await;
}

#[derive(Clone)]
struct Site {
    exposition: Arc<dyn Exposition>,
    scrapes: Arc<Scrapes>,
    places: Arc<Semaphore>,
    health: Health,
}

/// The whole at once if it is small; else chunk by chunk, as the scraper takes them.
fn body(mut text: Text) -> Body {
    let first = text.next().unwrap_or_default();
    match text.next() {
        None => Body::from(first),
        Some(second) => Body::new(Chunks([first, second].into_iter().chain(text))),
    }
}

struct Chunks<T>(T);

impl<T: Iterator<Item = Bytes> + Unpin> hyper::body::Body for Chunks<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    let Site { exposition, scrapes, places, .. } = site;
    let Ok(place) = places.try_acquire_owned() else {
        scrapes.refused.fetch_add(1, Relaxed);
        let refusal = text(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at the same time\n");
        return ([(header::RETRY_AFTER, "1")], refusal).into_response();
    };
    let format = Format::negotiate(&headers);
    let rendering = tokio::task::spawn_blocking(move || {
        let page = exposition.render(format);
        // Here and not with the request, which ends early when the scraper goes away; the work doesn't.
        drop(place);
        page
    });
    match rendering.await.unwrap_or_else(|panic| Err(panic.into())) {
        Ok(text) => {
            scrapes.rendered.fetch_add(1, Relaxed);
            let headers = [
                (header::CONTENT_TYPE, format.content_type()),
                (header::CACHE_CONTROL, "no-store"),
                (header::VARY, "Accept"),
            ];
            (headers, body(text)).into_response()
        }
        Err(error) => {
            scrapes.failed.fetch_add(1, Relaxed);
            tracing::error!(%error, "the metrics can't be rendered");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics can't be rendered: {error}\n"))
        }
    }
}
