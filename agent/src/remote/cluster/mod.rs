//! An agent in a cluster: found by the API server, and reached through it.
//!
//! Nothing is remembered but the credentials: with each new connection pod and agent are looked up again, since both may
//! have moved.

mod access;
mod error;
mod object;

use std::{fmt, time::Duration};

use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub use self::error::ClusterError;
use self::{
    error::Wanted,
    object::{List, PodObject},
};
use super::{
    connection::{Stream, Word},
    place::{InCluster, Which},
};

/// For a whole answer of the API server, and for the begin of a forward.
const PATIENCE: Duration = Duration::from_secs(20);
/// Agents on one node that are looked at.
const MOST: usize = 50;

/// A pod by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whose agent is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Pod(PodName),
    Node(String),
}

pub(super) struct Cluster {
    client: Client,
    subject: Subject,
    agents: InCluster,
}

impl Cluster {
    /// Reads the credentials. Connects only with the first request.
    pub(super) async fn new(which: &Which, cluster: &InCluster) -> Result<Self, ClusterError> {
        // Names go into paths.
        let named = |name: &str| {
            if is_name(name) { Ok(name.to_owned()) } else { Err(ClusterError::Name(name.into())) }
        };
        cluster.agent_namespace.as_deref().map(named).transpose()?;
        let client = access::client(cluster).await?;
        let subject = match which {
            Which::Node(name) => Subject::Node(named(name)?),
            Which::Pod { namespace, name } => {
                let namespace = namespace.as_deref().unwrap_or_else(|| client.default_namespace());
                Subject::Pod(PodName { namespace: named(namespace)?, name: named(name)? })
            }
            Which::Local | Which::Address(_) => return Err(ClusterError::Name(String::new())),
        };
        Ok(Self { client, subject, agents: cluster.clone() })
    }

    pub(super) fn pod(&self) -> Option<&PodName> {
        match &self.subject {
            Subject::Pod(pod) => Some(pod),
            Subject::Node(_) => None,
        }
    }

    /// Finds the agent and makes its port ours.
    pub(super) async fn forward(&self) -> Result<Stream, ClusterError> {
        let node = match &self.subject {
            Subject::Node(node) => node.clone(),
            Subject::Pod(pod) => self.node_of(pod).await?,
        };
        let agent = self.agent_on(&node).await?;
        let port = self.agents.agent_port;
        let at = format!("{agent} on {node}");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &agent.namespace);
        let wanted = Wanted::Forward(agent.clone());
        let forward = timeout(PATIENCE, pods.portforward(&agent.name, &[port])).await;
        let mut forward =
            forward.map_err(|_| ClusterError::Slow(PATIENCE))?.map_err(|error| wanted.refused(error))?;
        let io = forward.take_stream(port).ok_or(ClusterError::NoStream)?;
        let word = forward.take_error(port).map(|word| -> Word {
            Box::pin(async move {
                let said = word.await?;
                Some(format!(
                    "{}: is {port} the port of its debug.listen? --agent-port names another",
                    said.trim()
                ))
            })
        });
        // The agent's gate: on loopback, it answers whoever calls it by a name of loopback.
        let stream = Stream::new(io, format!("localhost:{port}"), at);
        Ok(Stream { word, ..stream })
    }

    async fn node_of(&self, pod: &PodName) -> Result<String, ClusterError> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
        let found: PodObject = self.get(&path, Wanted::Pod(pod.clone())).await?;
        found
            .node()
            .map(str::to_owned)
            .ok_or_else(|| ClusterError::Unscheduled { pod: pod.clone(), why: found.why_pending() })
    }

    async fn agent_on(&self, node: &str) -> Result<PodName, ClusterError> {
        let InCluster { agent_namespace, agent_selector, .. } = &self.agents;
        let place = match agent_namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/pods"),
            None => "/api/v1/pods".to_owned(),
        };
        let query = super::query(&[
            ("labelSelector", agent_selector.clone()),
            ("fieldSelector", format!("spec.nodeName={node}")),
            ("limit", MOST.to_string()),
        ]);
        let list: List =
            self.get(&format!("{place}?{query}"), Wanted::Agents(agent_namespace.clone())).await?;
        if list.items.is_empty() {
            return Err(self.why_none(node).await);
        }
        object::choose(list.items).map_err(|(agent, why)| ClusterError::AgentNotRunning {
            agent,
            node: node.into(),
            why,
        })
    }

    /// There may be no such node at all. Who may not look at nodes goes without knowing.
    async fn why_none(&self, node: &str) -> ClusterError {
        let path = format!("/api/v1/nodes/{node}");
        let found: Result<serde_json::Value, _> = self.get(&path, Wanted::Node(node.into())).await;
        match (found, &self.subject) {
            (Err(error @ ClusterError::NoNode(_)), Subject::Node(_)) => error,
            _ => ClusterError::NoAgent {
                node: node.into(),
                selector: self.agents.agent_selector.clone(),
                namespace: self.agents.agent_namespace.clone(),
            },
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, wanted: Wanted) -> Result<T, ClusterError> {
        let request = Request::get(path)
            .header(http::header::USER_AGENT, concat!("podwitness/", env!("CARGO_PKG_VERSION")))
            .body(Vec::new())
            .map_err(|error| ClusterError::Garbage(error.to_string()))?;
        let answer = timeout(PATIENCE, self.client.request_text(request)).await;
        let text =
            answer.map_err(|_| ClusterError::Slow(PATIENCE))?.map_err(|error| wanted.refused(error))?;
        serde_json::from_str(&text).map_err(|error| ClusterError::Garbage(error.to_string()))
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Pod(pod) => write!(f, "the agent that watches {pod}"),
            Subject::Node(node) => write!(f, "the agent on {node}"),
        }
    }
}

/// Letters, digits, `-` and `.`: what the name of a pod, a node or a namespace consists of.
fn is_name(name: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=253).contains(&name.len()) && name.bytes().all(is_allowed) && !name.starts_with('.')
}
