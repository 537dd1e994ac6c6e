//! Serving a router on a listener: how many connections, for how long, and how it ends.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{Router, http::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Service as _, service_fn};

use super::{
    Listener, Shutdown, Tls,
    patience::Patient,
    stopped,
    visit::{Answer, Connections, Visit},
};

/// For the first request, and before it for the handshake. A connection that asks for nothing takes a place away from
/// others.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// For a header, and for the next request on a connection that is kept: more than the usual scrape interval of a
/// minute, so that a scraper keeps its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// For answers under way when the listener ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// For an idle connection to make place for a new one, and how many are asked to. Nobody else is let in meanwhile.
pub(super) const DISMISSAL: Duration = Duration::from_millis(50);
const DISMISSALS: usize = 4;

/// Of a head that comes in, and of what waits to be written: each connection that isn't read from holds so much.
const BUFFER: usize = 32 << 10;

/// After an error of accept(2) that won't go away at once, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

/// What one hears for whom there is no place.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 57\r\nretry-after: 10\r\nconnection: close\r\n\r\n\
    as many connections as allowed are open: end one of them\n";

/// Whom a listener lets in.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// At a time. One more takes the place of who has been idle for longest; if nobody is, it is turned away.
    pub(super) places: usize,
    /// How long a peer may not read what it asked for.
    pub(super) patience: Duration,
    /// How long it may take to ask, and before that to agree on keys.
    pub(super) first_request: Duration,
    /// How long an idle one may take to go.
    pub(super) dismissal: Duration,
    /// Plain HTTP without.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) connections: Arc<Connections>,
}

/// Serves until `shutdown`, then lets what is under way end within a deadline.
pub(super) async fn serve(listener: Listener, router: Router, door: Door, mut shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(door.places));
    let mut under_way = JoinSet::new();
    let mut visits: Vec<Weak<Visit>> = Vec::new();
    loop {
        let stream = tokio::select! {
            () = stopped(&mut shutdown) => break,
            stream = next_connection(&listener.socket) => stream,
        };
        // Ended ones would pile up in the set otherwise.
        while under_way.try_join_next().is_some() {}
        visits.retain(|visit| visit.strong_count() > 0);
        let Some(place) = find_place(&places, &visits, door.dismissal).await else {
            door.connections.refuse();
            refuse(stream, door.tls.is_some());
            continue;
        };
        let open = door.connections.admit();
        let visit = Arc::new(Visit::default());
        visits.push(Arc::downgrade(&visit));
        let connection = serve_connection(stream, router.clone(), door.clone(), visit, shutdown.clone());
        under_way.spawn(async move {
            connection.await;
            drop((open, place));
        });
    }
    drop(listener);
    let drained = async { while under_way.join_next().await.is_some() {} };
    if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        under_way.shutdown().await;
    }
}

/// Whoever keeps connections, and asks now and then or never, must not keep others out: a probe that is turned away has
/// the agent restarted.
async fn find_place(
    places: &Arc<Semaphore>,
    visits: &[Weak<Visit>],
    dismissal: Duration,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    let visits = visits.iter().filter_map(Weak::upgrade);
    let mut idle: Vec<_> = visits.filter_map(|visit| Some((visit.idle_since()?, visit))).collect();
    idle.sort_by_key(|(since, _)| *since);
    for (_, longest) in idle.iter().take(DISMISSALS) {
        longest.dismiss();
        // Else it has asked meanwhile.
        if let Ok(place) = timeout(dismissal, Arc::clone(places).acquire_owned()).await {
            return place.ok();
        }
    }
    None
}

/// Says so, if that can be said at once: who is turned away costs next to nothing. What it asks for isn't read, so the
/// kernel resets the connection behind these words.
fn refuse(stream: TcpStream, is_encrypted: bool) {
    if let Ok(mut stream) = stream.into_std()
        && !is_encrypted
    {
        // It doesn't block, and there is room for a few words in a new connection.
        let _ = stream.write(FULL.as_bytes());
    }
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    door: Door,
    visit: Arc<Visit>,
    mut shutdown: Shutdown,
) {
    // Every line of a stream is to arrive at once; without it they only arrive later.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &door.tls else { return speak(stream, router, &door, visit, shutdown).await };
    let encrypted = tokio::select! {
        () = stopped(&mut shutdown) => None,
        () = visit.dismissed() => return door.connections.displace(),
        encrypted = tls.shake_hands(stream, door.first_request) => encrypted,
    };
    if let Some(stream) = encrypted {
        speak(stream, router, &door, visit, shutdown).await;
    }
}

async fn speak<S>(stream: S, router: Router, door: &Door, visit: Arc<Visit>, mut shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = {
        let visit = Arc::clone(&visit);
        service_fn(move |mut request: Request<Incoming>| {
            visit.ask();
            request.extensions_mut().insert(Arc::clone(&visit));
            let (answer, visit) = (router.clone().call(request), Arc::clone(&visit));
            async { Ok::<_, Infallible>(answer.await?.map(|body| Answer::new(body, visit))) }
        })
    };
    let stream = Patient::new(stream, door.patience, Arc::clone(&visit));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let mut first_request = pin!(sleep(door.first_request));
    let mut is_new = true;
    let outcome = loop {
        tokio::select! {
            // First of all: a request that has come by now is answered. Of many that were sent ahead, some are.
            biased;
            outcome = connection.as_mut() => break outcome,
            () = stopped(&mut shutdown) => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            () = visit.dismissed() => {
                // Else it has asked meanwhile.
                if visit.idle_since().is_some() {
                    return door.connections.displace();
                }
            }
            () = first_request.as_mut(), if is_new => {
                if !visit.has_asked() {
                    return door.connections.give_up();
                }
                is_new = false;
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn next_connection(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if concerns_one_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "can't accept connections");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
