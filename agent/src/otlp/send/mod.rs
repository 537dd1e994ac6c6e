//! One request to the collector, and what its answer means.

mod answer;
mod grpc;
mod http;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use thiserror::Error;
use tokio::time::timeout;

use super::settings::Target;
use crate::config::Protocol;

/// Connections that nobody uses are closed before a collector closes them: what is sent into one that is about to go
/// is lost.
const IDLE: Duration = Duration::from_secs(15);

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The collector has it, but for so many items.
    Taken { rejected: u64, message: String },
    /// It has not arrived, or was turned away for now.
    Later { wait: Option<Duration>, why: String },
    /// It is not wanted.
    Refused { why: String },
    /// Nobody knows.
    Unanswered { why: String },
}

/// Why nothing can be sent at all.
#[derive(Debug, Error)]
pub enum SendError {
    #[error("cannot read {path}: {source}; it has to be a PEM file")]
    Pem { path: String, source: rustls::pki_types::pem::Error },
    #[error("{path} holds no certificate; it has to be a PEM file")]
    Empty { path: String },
    #[error("otlp.client_certificate and otlp.client_key go together, and only one is given")]
    Half,
    #[error("the certificates can't be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error(
        "the system has no certificates of authorities: install them, or name some with otlp.certificate"
    )]
    NoRoots,
    #[error("{name} is no HTTP header that can be sent; headers are written as name=value,name=value")]
    Header { name: String },
}

/// A way to the collector for one signal.
#[derive(Debug)]
pub(super) struct Sender {
    timeout: Duration,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Http(http::Http),
    Grpc(grpc::Grpc),
}

impl Sender {
    pub(super) fn new(target: &Target) -> Result<Self, SendError> {
        let way = match target.protocol {
            Protocol::Http => Way::Http(http::Http::new(target)?),
            Protocol::Grpc => Way::Grpc(grpc::Grpc::new(target)?),
        };
        Ok(Self { timeout: target.timeout, way })
    }

    /// Sends a request that is encoded already.
    pub(super) async fn send(&self, request: Bytes) -> Outcome {
        let answer = async {
            match &self.way {
                Way::Http(http) => http.send(request).await,
                Way::Grpc(grpc) => grpc.send(request).await,
            }
        };
        timeout(self.timeout, answer)
            .await
            .unwrap_or_else(|_| Outcome::Unanswered { why: format!("no answer within {:?}", self.timeout) })
    }
}

type Client<B> = legacy::Client<HttpsConnector<HttpConnector>, B>;

fn client<B>(target: &Target, is_http2: bool) -> Result<Client<B>, SendError>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Sooner than the answer's: an attempt that has not sent anything may be repeated.
    tcp.set_connect_timeout(Some(target.timeout / 2));
    let tls = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls::config(target)?);
    let tls = tls.https_or_http();
    let connector = if is_http2 {
        tls.enable_http2().wrap_connector(tcp)
    } else {
        tls.enable_http1().wrap_connector(tcp)
    };
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(1);
    Ok(builder.http2_only(is_http2).build(connector))
}

/// Whether the request can't have been sent.
fn is_unsent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error and what it comes from, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
