//! One request to the collector, and what its answer means.

mod answer;
mod connect;
mod grpc;
mod http;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use hyper_util::client::legacy;
use thiserror::Error;
use tokio::time::timeout;

use super::settings::Target;
use crate::config::Protocol;

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
    #[error("cannot read {path}: {why}; it has to be a PEM file")]
    Pem { path: String, why: rustls::pki_types::pem::Error },
    #[error("{path} holds no certificate; it has to be a PEM file")]
    Empty { path: String },
    #[error("otlp.client_certificate and otlp.client_key go together, and only one is given")]
    Half,
    #[error("the certificates can't be used")]
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
    Http(Box<http::Http>),
    Grpc(Box<grpc::Grpc>),
}

impl Sender {
    pub(super) fn new(target: &Target) -> Result<Self, SendError> {
        let way = match target.protocol {
            Protocol::Http => Way::Http(Box::new(http::Http::new(target)?)),
            Protocol::Grpc => Way::Grpc(Box::new(grpc::Grpc::new(target)?)),
        };
        Ok(Self { timeout: target.timeout, way })
    }

    /// Sends a request that is encoded already.
    pub(super) async fn send(&mut self, request: Bytes) -> Outcome {
        let answer = async {
            match &self.way {
                Way::Http(http) => http.send(request).await,
                Way::Grpc(grpc) => grpc.send(request).await,
            }
        };
        if let Ok(outcome) = timeout(self.timeout, answer).await {
            return outcome;
        }
        // A connection of HTTP/1 went with its request. One of HTTP/2 would stay, and may be dead.
        if let Way::Grpc(grpc) = &mut self.way {
            grpc.leave_connection();
        }
        Outcome::Unanswered { why: format!("no answer within {:?}", self.timeout) }
    }
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
