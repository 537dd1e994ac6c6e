//! What can go wrong between the agent and the API server.

use std::{path::PathBuf, time::Duration};

use crate::causes::with_causes;

/// What the agent's service account must be allowed to do for a request to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As in a ClusterRole: `""` is the core group.
    pub group: &'static str,
    pub resource: &'static str,
    pub verb: &'static str,
}

/// Why the API server can't be asked at all: nothing to wait for. Causes are in the text, since who logs it shows no others.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(
        "not in a Kubernetes pod (KUBERNETES_SERVICE_HOST is not set) and no kubeconfig is configured: set \
         identity.kubeconfig, or leave identity.kubernetes at auto and peers.kubernetes at false"
    )]
    Nowhere,
    #[error(
        "cannot read {path}: {why}; mount the service account's token (automountServiceAccountToken: true)"
    )]
    ServiceAccount { path: PathBuf, why: std::io::Error },
    #[error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT name no address: {0}")]
    Address(String),
    #[error("the kubeconfig {path} can't be used: {why}; correct it, or identity.kubeconfig")]
    Kubeconfig { path: PathBuf, why: Box<kube::config::KubeconfigError> },
    #[error(
        "the kubeconfig asks for the proxy {0}, which is not supported: reach the API server without one"
    )]
    Proxy(String),
    #[error("the credentials can't be used: {}", with_causes(.why))]
    Credentials { why: Box<kube::Error> },
    #[error("{0:?} is not a node's name: set identity.node_name, or NODE_NAME from the field spec.nodeName")]
    NodeName(String),
    #[error(
        "the node's name is not known: set identity.node_name, or NODE_NAME from the field spec.nodeName"
    )]
    NoNodeName,
}

/// Why a request failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the API server can't be reached: {0}; check the network and the agent's network policy")]
    Unreachable(String),
    #[error("the API server did not answer within {0:?}")]
    Slow(Duration),
    #[error("the API server refuses the credentials (401): check that the token is still valid")]
    Unauthorized,
    #[error(
        "the API server forbids it (403): the agent's ClusterRole needs apiGroups: [\"{}\"], resources: [{}], \
         verbs: [{}]", .0.group, .0.resource, .0.verb
    )]
    Forbidden(Rule),
    /// 410, or a version that the server doesn't have yet: list again.
    #[error("the version asked for is not available any more")]
    Expired,
    /// 404.
    #[error("there is no such object")]
    NotFound,
    #[error("the API server is busy ({status})")]
    Busy { status: u16, retry_after: Option<Duration> },
    #[error("the API server answered {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("the watch said nothing for {0:?}")]
    Silent(Duration),
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("the answer is not what the API promises ({0}): is there a proxy in between?")]
    Garbage(String),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl ApiError {
    /// How long the server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
