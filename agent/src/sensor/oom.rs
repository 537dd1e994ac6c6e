//! OOM kills: the victim, who triggered the kill, and whose limit was hit.

use std::collections::BTreeMap;

pub use agent_ebpf::contract::oom::OomEvent;
use agent_ebpf::contract::stats::SensorId;

use super::{Hook, Place, Sensor, text};
use crate::{
    metrics::{Base, Page},
    observation,
};

pub const SENSOR: Sensor = Sensor {
    id: SensorId::Oom,
    hooks: &[
        Hook::required("signal_generate", &[None, None, Some("task_struct")]),
        // Older kernels pass a process id only, by which the victim's container can't be told.
        Hook::required("mark_victim", &[Some("task_struct")]),
        Hook {
            lacking: "whose limit was hit is not known (scope is `unknown`)",
            is_needed: |circumstances| !circumstances.oom_lock_tells,
            ..SEARCH
        },
        // Better than the lock, which a second search for the same memory cgroup doesn't hold; but that is rare.
        Hook { lacking: "", is_needed: |circumstances| circumstances.oom_lock_tells, ..SEARCH },
    ],
};

/// Where the kernel begins to look for a victim.
const SEARCH: Hook = Hook {
    name: "out_of_memory",
    program: "out_of_memory",
    place: Place::Function,
    arguments: &[Some("oom_control")],
    required: false,
    lacking: "",
    is_needed: |_| true,
    classic: None,
    raw: None,
    on_demand: false,
};

/// Kills by scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    kills: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub fn record(&mut self, scope: &'static str) {
        *self.kills.entry(scope).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (scope, kills) in &other.kills {
            *self.kills.entry(scope).or_default() += kills;
        }
    }

    /// All kills.
    pub fn total(&self) -> u64 {
        self.kills.values().sum()
    }

    pub fn is_empty(&self) -> bool {
        self.kills.is_empty()
    }
}

/// Writes what the sensor measures.
pub fn expose(page: &mut Page, rows: &[(Base, &Counters)]) {
    page.counter(
        "podwitness_oom_kills",
        "Processes that the kernel killed for want of memory, by whose memory was short",
        &["scope"],
        rows.iter().flat_map(|(labels, counters)| {
            counters.kills.iter().map(move |(scope, kills)| (*labels, [*scope], *kills))
        }),
    );
}

pub(super) fn detail(event: &OomEvent, scope: &'static str) -> observation::Oom {
    observation::Oom {
        scope,
        trigger_pid: event.trigger_pid,
        trigger_tid: event.trigger_tid,
        trigger_comm: text(&event.trigger_comm).into(),
        anon_rss_bytes: bytes(event.anon_pages),
        file_rss_bytes: bytes(event.file_pages),
        shmem_rss_bytes: bytes(event.shmem_pages),
        total_vm_bytes: bytes(event.total_vm_pages),
        pgtables_bytes: event.pgtables_bytes,
        uid: event.uid,
        oom_score_adj: event.oom_score_adj,
    }
}

fn bytes(pages: u64) -> u64 {
    pages.saturating_mul(crate::kernel::page_size())
}

#[cfg(test)]
pub(super) mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    pub(in crate::sensor) fn event() -> OomEvent {
        OomEvent { anon_pages: 3, ..OomEvent::new_zeroed() }
    }

    #[test]
    fn pages_become_bytes() {
        assert_eq!(detail(&event(), "container").anon_rss_bytes, 3 * crate::kernel::page_size());
    }

    #[test]
    fn kills_add_up_by_scope() {
        let mut counters = Counters::default();
        counters.record("pod");
        let mut sum = counters.clone();
        sum.add(&counters);
        assert_eq!(sum.kills, BTreeMap::from([("pod", 2)]));
    }
}
