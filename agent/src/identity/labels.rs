//! The base labels that every workload series and every event carries.

use serde::{Deserialize, Serialize};

/// Whom something belongs to. Fields that don't apply are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(default)]
pub struct Labels {
    /// Kubernetes namespace.
    pub namespace: String,
    /// A Kubernetes kind, or one of `systemd`, `docker`, `podman`, `cgroup`, `host`, `unknown`.
    pub workload_kind: String,
    /// Name of the workload: a Deployment, a systemd unit, a cgroup's path.
    pub workload: String,
    pub pod: String,
    pub container: String,
}

impl Labels {
    /// Names of the base labels, in the order of the fields.
    pub const NAMES: [&'static str; 5] = ["namespace", "workload_kind", "workload", "pod", "container"];

    pub fn values(&self) -> [&str; 5] {
        let Self { namespace, workload_kind, workload, pod, container } = self;
        [namespace, workload_kind, workload, pod, container]
    }

    /// Without what tells the parts of a workload apart.
    pub fn of_workload(&self) -> Self {
        Self { pod: String::new(), container: String::new(), ..self.clone() }
    }

    /// What can't be attributed to anybody.
    pub fn unknown() -> Self {
        Self { workload_kind: "unknown".into(), ..Self::default() }
    }

    /// What has been folded together because a bound was reached.
    pub fn other() -> Self {
        Self { workload_kind: "unknown".into(), workload: "other".into(), ..Self::default() }
    }
}
