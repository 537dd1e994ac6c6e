//! Connections to the collector.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use tower::Service;

use super::{SendError, Target, tls};

/// Connections that nobody uses are closed before a collector closes them: what is sent into one that is about to go
/// is lost.
const IDLE: Duration = Duration::from_secs(15);

pub(super) type Client<B> = legacy::Client<Connector, B>;

/// Looks the collector up, connects and shakes hands, all of it within one time: nothing of a request is sent until then.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector>,
    within: Duration,
    is_http2: bool,
}

impl Connector {
    pub(super) fn new(target: &Target, is_http2: bool) -> Result<Self, SendError> {
        // Sooner than the answer's: an attempt that has not sent anything may be repeated.
        let within = target.timeout / 2;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Of several addresses each gets its part of it.
        tcp.set_connect_timeout(Some(within));
        // What a peer that is gone doesn't take isn't kept for it.
        tcp.set_tcp_user_timeout(Some(target.timeout));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls::config(target)?).https_or_http();
        let https = if is_http2 {
            tls.enable_http2().wrap_connector(tcp)
        } else {
            tls.enable_http1().wrap_connector(tcp)
        };
        Ok(Self { https, within, is_http2 })
    }

    /// A client without a connection as yet.
    pub(super) fn client<B>(&self) -> Client<B>
    where
        B: hyper::body::Body + Send,
        B::Data: Send,
    {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(1);
        builder.http2_only(self.is_http2).build(self.clone())
    }
}

type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Future<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, within) = (self.https.call(to), self.within);
        Box::pin(async move {
            let late = |_| Err(format!("no connection within {within:?}").into());
            timeout(within, connecting).await.unwrap_or_else(late)
        })
    }
}
