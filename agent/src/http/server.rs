//! Serving a router on a listener: how many connections, for how long, and how it ends.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Listener, Shutdown, patience::Patient, stopped};

/// For a header, and for the next request on a connection that is kept: more than the usual scrape interval of a
/// minute, so that a scraper keeps its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// For answers under way when the listener ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// After an error of accept(2) that won't go away at once, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// At a time. More wait in the kernel's backlog, which is bounded too.
    pub(super) connections: usize,
    /// How long a peer may not read; as long as it likes if there is none.
    pub(super) patience: Option<Duration>,
}

/// Serves until `shutdown`, then lets what is under way end within a deadline.
pub(super) async fn serve(listener: Listener, router: Router, limits: Limits, mut shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        // The place comes first: who finds none stays in the backlog. It is always had, since nobody closes places.
        let admitted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, next_connection(&listener.socket).await)
        };
        let (place, stream) = tokio::select! {
            () = stopped(&mut shutdown) => break,
            admitted = admitted => admitted,
        };
        // Ended ones would pile up in the set otherwise.
        while connections.try_join_next().is_some() {}
        let connection = serve_connection(stream, router.clone(), limits.patience, shutdown.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    patience: Option<Duration>,
    mut shutdown: Shutdown,
) {
    // Every line of a stream is to arrive at once; without it they only arrive later.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(Patient::new(stream, patience)), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
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
