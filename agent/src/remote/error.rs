//! Why an agent can't be asked, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

use super::{cluster::ClusterError, tls::TlsError};
use crate::harmless::Harmless;

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("{0} is no address: write HOST:PORT, or https://HOST:PORT where the agent speaks TLS")]
    Address(String),
    #[error("{0} has no port: 9482 is the usual one")]
    NoPort(String),
    #[error("{0} means plain HTTP, and --ca-file is for TLS: write https://, or leave --ca-file out")]
    Plain(String),
    #[error("can't read the token in {}", .path.display())]
    Token { path: PathBuf, source: io::Error },
    #[error("the request can't be made: {0}")]
    Request(String),
    #[error(
        "no agent answers at {at} ({why}): is it running? --addr names another place; on a cluster, --pod and --node \
         find the agent by themselves"
    )]
    Unreachable { at: String, why: String },
    #[error("{at} did not answer within {patience:?}")]
    Slow { at: String, patience: Duration },
    #[error("{at} gave no answer: {}", Harmless(.why))]
    NoAnswer { at: String, why: String },
    #[error(
        "{at} does not answer in HTTP: if it speaks TLS, write https:// and name its authority by --ca-file"
    )]
    NoHttp { at: String },
    #[error("{at} wants a token: --token-file names the file that has it")]
    Unauthorized { at: String },
    #[error(
        "{at} has no {path}: is it the port of debug.listen (9482), not that of metrics, and is the agent as new as this \
         command?"
    )]
    NotFound { at: String, path: String },
    #[error("{at} answered {status}: {}", Harmless(.said))]
    Refused { at: String, status: u16, said: String },
    #[error("{at} answered with something that is no JSON: is it an agent's port?")]
    NoJson { at: String },
    #[error("the connection broke off: {}", Harmless(.0))]
    BrokeOff(String),
    #[error("the connection ended: is the agent still running?")]
    Ended,
    #[error("nothing came for {0:?}, and an agent says more often that it lives")]
    Silent(Duration),
    #[error("a line is longer than any event: this is no agent")]
    LongLine,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl RemoteError {
    /// Whether it is the connection's fault, and a new one may do.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::BrokeOff(_) | Self::Ended | Self::Slow { .. })
    }

    /// Whether it is the fault of who has typed it: known before anybody was asked.
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::Address(_) | Self::NoPort(_) | Self::Plain(_))
    }

    /// Whether it may pass by itself: agents start again, and networks come back.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Slow { .. }
            | Self::NoAnswer { .. }
            | Self::BrokeOff(_)
            | Self::Ended
            | Self::Silent(_) => true,
            // Too many readers, or an agent that is about to stop.
            Self::Refused { status, .. } => *status >= 500,
            Self::Tls(error) => error.may_pass(),
            Self::Cluster(error) => error.may_pass(),
            Self::Address(_)
            | Self::NoPort(_)
            | Self::Plain(_)
            | Self::Token { .. }
            | Self::Request(_)
            | Self::Unauthorized { .. }
            | Self::NotFound { .. }
            | Self::NoHttp { .. }
            | Self::NoJson { .. }
            | Self::LongLine => false,
        }
    }
}
