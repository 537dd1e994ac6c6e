//! What the programs watch.

use std::collections::BTreeMap;

use agent_ebpf::contract::calls::CallSet;

/// Which calls the kernel has to watch, and of which containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Calls of all containers.
    pub everywhere: CallSet,
    /// Calls of single containers, by the id of their cgroup.
    pub containers: BTreeMap<u64, CallSet>,
    /// Whether the paths in their arguments are wanted.
    pub paths: bool,
}

impl Plan {
    /// Calls that are wanted of any container.
    pub fn any(&self) -> CallSet {
        let mut any = self.everywhere;
        self.containers.values().for_each(|calls| unite(&mut any, calls));
        any
    }

    /// Whether nothing is to be watched.
    pub fn is_empty(&self) -> bool {
        self.any().iter().all(|word| *word == 0)
    }
}

/// Adds what is in the other set.
pub fn unite(set: &mut CallSet, other: &CallSet) {
    for (word, more) in set.iter_mut().zip(other) {
        *word |= more;
    }
}
