//! Whose memory limit an OOM kill hit.

use super::Placement;

/// Whose limit it was that a victim ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// The victim's container (outside of Kubernetes: its container, unit or cgroup), or a cgroup within.
    Container,
    /// The victim's pod.
    Pod,
    /// Something around it: a QoS class, a slice, all pods.
    Ancestor,
    /// The whole node was short.
    Node,
}

impl LimitScope {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Ancestor => "ancestor",
            Self::Node => "node",
        }
    }
}

impl Placement {
    /// Whose the limit is that lies `levels_up` above the victim's own memory cgroup (0: that one itself), which
    /// has `memory_depth` components: fewer than the victim's path where the memory controller isn't enabled all
    /// the way down. `self` is the victim's placement.
    pub fn scope_of(&self, memory_depth: u32, levels_up: u32) -> LimitScope {
        self.scope_at(memory_depth.saturating_sub(levels_up))
    }

    /// Whose the limit is on the cgroup of this depth (components of its path; 0 is the root) among the ancestors
    /// of the victim, whose placement is `self`.
    pub fn scope_at(&self, limit_depth: u32) -> LimitScope {
        let (own, pod) = match self {
            Self::Host => (Some(0), None),
            Self::Pod { depth, container, .. } => (container.as_ref().map(|c| c.depth), Some(*depth)),
            Self::Container { depth, .. } | Self::Unit { depth, .. } | Self::Cgroup { depth, .. } => {
                (Some(*depth), None)
            }
        };
        if limit_depth == 0 {
            LimitScope::Node
        } else if own.is_some_and(|own| limit_depth >= own) {
            LimitScope::Container
        } else if pod.is_some_and(|pod| limit_depth >= pod) {
            LimitScope::Pod
        } else {
            LimitScope::Ancestor
        }
    }
}
