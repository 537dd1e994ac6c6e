//! Observations for tests.

use std::sync::Arc;

use agent_ebpf::contract::event::EventKind;

use crate::{
    identity::Labels,
    observation::{Detail, Exec, Observation, Process},
};

/// Somebody runs a shell in `shop/cart-1`.
pub(crate) fn exec(pid: u32, comm: &str) -> Arc<Observation> {
    Arc::new(Observation {
        time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        kind: EventKind::ProcessExec,
        labels: Arc::new(Labels { namespace: "shop".into(), pod: "cart-1".into(), ..Labels::default() }),
        process: Some(Process { pid, tid: pid, comm: comm.into() }),
        detail: Detail::Exec(Exec { ppid: 1, executable: "/bin/sh".into() }),
    })
}
