//! What can go wrong on the way through a cluster, and who can mend it.

use std::time::Duration;

use super::PodName;
use crate::causes::with_causes;
use crate::harmless::Harmless;

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "no kubeconfig is here: name one by --kubeconfig or KUBECONFIG, or name the agent's address by --addr"
    )]
    NoKubeconfig,
    #[error("the kubeconfig can't be used ({files}): {why}; correct it, or name another by --kubeconfig")]
    Kubeconfig { files: String, why: String },
    #[error("there is no context {name:?} in {files}: --context takes one of {known}")]
    UnknownContext { name: String, files: String, known: String },
    #[error("{files} has no current context: --context takes one of {known}")]
    NoContext { files: String, known: String },
    #[error("the service account of this pod can't be used: {0}; mount its token, or name a kubeconfig")]
    InCluster(String),
    #[error(
        "the API server is to be reached by the proxy {0}, which is not supported: use `kubectl port-forward` and --addr"
    )]
    Proxy(String),
    #[error("the credentials can't be used: {0}")]
    Credentials(String),
    #[error("{0:?} is no name that a pod, node or namespace can have")]
    Name(String),
    #[error("the API server can't be reached: {}; does kubectl reach it?", Harmless(.0))]
    Unreachable(String),
    #[error("the API server did not answer within {0:?}")]
    Slow(Duration),
    #[error(
        "the API server refuses the credentials (401): log in again, or look whether kubectl gets through"
    )]
    Unauthorized,
    #[error("the API server forbids it (403): {0}")]
    Forbidden(String),
    #[error("there is no pod {0}: `kubectl get pods -n {ns}` lists those that are there", ns = .0.namespace)]
    NoPod(PodName),
    #[error("there is no node {0}: `kubectl get nodes` lists those that are there")]
    NoNode(String),
    #[error("the pod {pod} is on no node yet{}: nothing of it can be seen before that", Harmless(.why))]
    Unscheduled { pod: PodName, why: String },
    #[error(
        "no agent is on the node {node}: no pod there has the label {selector}{}. Is podwitness installed, and does its \
         DaemonSet tolerate this node? --agent-selector and --agent-namespace look elsewhere",
        .namespace.as_ref().map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default()
    )]
    NoAgent { node: String, selector: String, namespace: Option<String> },
    #[error("the agent {agent} on the node {node} isn't running ({}): `kubectl describe pod` says why", Harmless(.why))]
    AgentNotRunning { agent: PodName, node: String, why: String },
    #[error("the agent {0} is gone")]
    AgentGone(PodName),
    #[error("the API server forwards nothing to {agent}: {}", Harmless(.why))]
    NoForward { agent: PodName, why: String },
    #[error("the API server forwards another port than the one that was asked for")]
    NoStream,
    #[error("the API server answered {status}: {}", Harmless(.message))]
    Refused { status: u16, message: String },
    #[error("the answer is not what the API promises ({}): is there a proxy in between?", Harmless(.0))]
    Garbage(String),
}

impl ClusterError {
    /// Whether it may pass by itself.
    pub(in super::super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Slow(_)
            | Self::Unscheduled { .. }
            | Self::NoAgent { .. }
            | Self::AgentNotRunning { .. }
            | Self::AgentGone(_)
            | Self::NoForward { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// What the API server was asked for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Pod(PodName),
    Agents(Option<String>),
    Node(String),
    Forward(PodName),
}

impl Wanted {
    /// What the error of a request means.
    pub(super) fn refused(&self, error: kube::Error) -> ClusterError {
        let status = match error {
            kube::Error::Api(status) => status,
            // The kubelet, or who stands before it, answered with something else than a forward.
            kube::Error::UpgradeConnection(error) => {
                return match self {
                    Self::Forward(agent) => {
                        ClusterError::NoForward { agent: agent.clone(), why: with_causes(&error) }
                    }
                    _ => ClusterError::Garbage(with_causes(&error)),
                };
            }
            kube::Error::Auth(error) => return ClusterError::Credentials(with_causes(&error)),
            error => return ClusterError::Unreachable(with_causes(&error)),
        };
        match (status.code, self) {
            (401, _) => ClusterError::Unauthorized,
            (403, _) => ClusterError::Forbidden(self.missing()),
            (404, Self::Pod(pod)) => ClusterError::NoPod(pod.clone()),
            (404, Self::Node(node)) => ClusterError::NoNode(node.clone()),
            (404, Self::Forward(agent)) => ClusterError::AgentGone(agent.clone()),
            (code, Self::Forward(agent)) if code >= 500 => {
                ClusterError::NoForward { agent: agent.clone(), why: status.message }
            }
            (code, _) => ClusterError::Refused { status: code, message: status.message },
        }
    }

    /// The rule that RBAC lacks, and where the chart has it.
    fn missing(&self) -> String {
        const CHART: &str = "the chart's viewers.enabled makes such roles (docs/live.md)";
        match self {
            Self::Pod(pod) => format!(
                "you need a role in the namespace {} with apiGroups: [\"\"], resources: [pods], verbs: [get]; {CHART}",
                pod.namespace
            ),
            Self::Agents(Some(namespace)) => format!(
                "you need a role in the namespace {namespace} with apiGroups: [\"\"], resources: [pods], verbs: [list]; \
                 {CHART}"
            ),
            Self::Agents(None) => format!(
                "you need a ClusterRole with apiGroups: [\"\"], resources: [pods], verbs: [list], or less if \
                 --agent-namespace says where the agents are; {CHART}"
            ),
            Self::Node(_) => {
                "you need a ClusterRole with apiGroups: [\"\"], resources: [nodes], verbs: [get]".into()
            }
            Self::Forward(agent) => format!(
                "you need a role in the namespace {} with apiGroups: [\"\"], resources: [pods/portforward], verbs: [get, \
                 create]; {CHART}",
                agent.namespace
            ),
        }
    }
}
