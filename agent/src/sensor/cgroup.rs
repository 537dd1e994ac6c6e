//! Birth and death of cgroups: what identity learns from.

pub use agent_ebpf::contract::cgroup::CgroupEvent;
use agent_ebpf::contract::{cgroup::PATH_LEN, stats::SensorId};

use super::{Hook, Sensor};
use crate::observation;

pub const SENSOR: Sensor = Sensor {
    id: SensorId::Cgroup,
    hooks: &[
        Hook::required("cgroup_mkdir", &[Some("cgroup")]),
        Hook::required("cgroup_rmdir", &[Some("cgroup")]),
    ],
};

/// The cgroup's path from the root of the hierarchy; `None` if the record had no room for all of it.
pub fn path(event: &CgroupEvent) -> Option<&[u8]> {
    let len = event.path_len as usize;
    (len < PATH_LEN - 1).then(|| &event.path[..len])
}

pub(super) fn detail(event: &CgroupEvent) -> observation::Cgroup {
    let len = (event.path_len as usize).min(PATH_LEN);
    observation::Cgroup { cgroup: String::from_utf8_lossy(&event.path[..len]).into_owned() }
}
