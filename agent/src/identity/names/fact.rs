//! What a source can say.

use std::sync::Arc;

use super::{metadata::PodMetadata, shelf::Fact};

/// Who knows names. Where they disagree about a pod, an earlier one is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The Kubernetes API.
    Kubernetes,
    /// The container runtime's socket, as the kubelet speaks to it.
    Cri,
    Docker,
    Podman,
}

impl Source {
    pub const ALL: [Self; 4] = [Self::Kubernetes, Self::Cri, Self::Docker, Self::Podman];
    /// The order for the names of containers: the runtime is closer to them than the API.
    pub const FOR_CONTAINERS: [Self; 4] = [Self::Cri, Self::Kubernetes, Self::Docker, Self::Podman];

    /// The source's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Cri => "cri",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// Whether a source can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Switched off, or nothing to connect to.
    Absent,
    /// For the first time under way. Answers are worth waiting for.
    Connecting,
    /// The shelves are filled, and what is new arrives.
    Connected,
    /// It has failed and is tried again; stays so until it is connected.
    Failed,
}

impl SourceState {
    pub const ALL: [Self; 4] = [Self::Absent, Self::Connecting, Self::Connected, Self::Failed];

    /// The state's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Failed => "failed",
        }
    }

    /// Whether something that isn't known yet may become so soon.
    pub(super) fn may_answer(self) -> bool {
        matches!(self, Self::Connecting | Self::Connected)
    }
}

/// What a pod belongs to: `Deployment`, `shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    pub kind: String,
    pub name: String,
}

/// Why a workload is told by names only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Who knows it is being asked: it is worth waiting for.
    Asked,
    /// Who knows it can't be asked now; it may become known later.
    Stuck,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub uid: String,
    /// By what else its cgroup may call it: the hash of a static pod's configuration, 32 hex digits.
    pub aliases: Vec<String>,
    pub namespace: String,
    pub name: String,
    /// None for a pod without an owner, and from a source that doesn't know of owners.
    pub workload: Option<Workload>,
    /// None if the workload is certain.
    pub guess: Option<Guess>,
    /// Whether the pod asks to be observed, or not to be.
    pub observe: Option<bool>,
    /// What it says of itself, if it says anything.
    pub metadata: Option<Arc<PodMetadata>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// As the runtime and the cgroup name it. Behind the user (`1000/ID`) if an engine that runs as a user says so:
    /// it can't name the containers of others.
    pub id: String,
    pub pod_uid: Option<String>,
    /// The podman pod that it is in, outside of Kubernetes.
    pub pod_name: Option<String>,
    /// The compose service that it is one of, outside of Kubernetes: `PROJECT/SERVICE`.
    pub service: Option<String>,
    pub name: String,
    /// The one that only holds the pod's namespaces ("pause").
    pub is_sandbox: bool,
    /// Which runtime hides the pod's containers from the kernel, if one does: `kata`, `runsc`.
    pub sandbox_runtime: Option<String>,
    /// Of the image, by its name.
    pub version: Option<String>,
    /// How many containers of the name there were in the pod before it.
    pub restart_count: Option<u32>,
}

impl Fact for Pod {
    fn key(&self) -> &str {
        &self.uid
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn left_out(&self) -> u64 {
        self.metadata.as_ref().map_or(0, |metadata| metadata.left_out())
    }
}

impl Fact for Container {
    fn key(&self) -> &str {
        &self.id
    }
}
