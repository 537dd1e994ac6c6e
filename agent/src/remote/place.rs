//! Which agent, as the user says it.

use std::path::PathBuf;

/// The usual port of `debug.listen`.
pub const PORT: u16 = 9482;
/// What the chart and the overlays call an agent's pod.
pub const SELECTOR: &str = "app.kubernetes.io/name=podwitness";

/// Which agent, and what it takes to be heard by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub which: Which,
    /// Without it that of `debug.token_file`, unless the agent is a cluster's.
    pub token_file: Option<PathBuf>,
    /// Whom to trust; it also says that the agent speaks TLS.
    pub ca_file: Option<PathBuf>,
    /// The name in the agent's certificate, where it isn't the one that is called.
    pub server_name: Option<String>,
    pub cluster: InCluster,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// On this machine, where its configuration says.
    #[default]
    Local,
    /// `HOST:PORT`, with or without `http://` or `https://`.
    Address(String),
    /// The one that watches this pod; without a namespace in that of the kubeconfig's context.
    Pod { namespace: Option<String>, name: String },
    /// The one on this node.
    Node(String),
}

/// How to reach the cluster, and its agents in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InCluster {
    /// Else as kubectl finds it.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    /// All of them if none is named.
    pub agent_namespace: Option<String>,
    pub agent_selector: String,
    pub agent_port: u16,
}

impl Default for InCluster {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            agent_namespace: None,
            agent_selector: SELECTOR.into(),
            agent_port: PORT,
        }
    }
}
