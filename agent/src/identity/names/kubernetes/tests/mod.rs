//! The source against a server that replays the recording of a real cluster, whole and misbehaving.

#![expect(clippy::result_large_err, reason = "a test that waits shows all figures when it gives up")]

mod access;
mod faults;
mod hostile;
mod memory;
mod namespaces;
mod owners;
pub(super) mod recording;
mod replay;
pub(super) mod server;

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinHandle;

use self::{
    recording::{container_ids, pods_at},
    server::{Fault, Server},
};
use super::{Kubernetes, KubernetesStats, access::Access, pace::Pace};
use crate::identity::names::{NameBounds, Names, Pod, Source, SourceState, Workload};

const NODE: &str = "node1";
/// The recording's last version, and that of its list.
pub(super) const END: u64 = 792;
pub(super) const LISTED: u64 = 643;
/// The longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn pace() -> Pace {
    let ms = Duration::from_millis;
    Pace {
        answer: ms(2000),
        silence: ms(2000),
        watch: ms(60_000),
        shortest_wait: ms(2),
        longest_wait: ms(20),
        forbidden: ms(50),
    }
}

/// The source at work, until it is dropped.
struct Agent {
    names: Arc<Names>,
    source: Kubernetes,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    fn start(access: Access) -> Self {
        let bounds = NameBounds { containers: 10_000, grace: Duration::ZERO };
        let names = Arc::new(Names::new(bounds));
        let source = Kubernetes::with(access, NODE.into(), 1000, pace(), Arc::clone(&names));
        let task = tokio::spawn(source.clone().run());
        Self { names, source, task }
    }

    fn at(server: &Server) -> Self {
        Self::start(Access::Plain(server.url()))
    }

    fn stats(&self) -> KubernetesStats {
        self.source.stats()
    }

    fn state(&self) -> SourceState {
        self.names.states()[0].1
    }

    fn pod(&self, uid: &str) -> Option<Pod> {
        let shelves = self.names.shelves.read().unwrap_or_else(PoisonError::into_inner);
        shelves.pods[Source::Kubernetes as usize].get(uid).cloned()
    }

    fn container(&self, id: &str) -> Option<(String, Option<String>)> {
        let shelves = self.names.shelves.read().unwrap_or_else(PoisonError::into_inner);
        let container = shelves.containers[Source::Kubernetes as usize].get(id)?;
        Some((container.name.clone(), container.pod_uid.clone()))
    }

    /// What differs from the truth, or nothing.
    fn differences(&self, version: u64) -> Vec<String> {
        self.names.expire(Instant::now() + Duration::from_secs(1));
        let truth = pods_at(version);
        let mut found = Vec::new();
        let mut facts = 0;
        for (uid, truth) in &truth {
            let pod = self.pod(uid);
            let text = |name: &str| truth["metadata"][name].as_str().unwrap().to_owned();
            if pod.map(|pod| (pod.namespace, pod.name)) != Some((text("namespace"), text("name"))) {
                found.push(format!("pod {}", text("name")));
            }
            let ids = container_ids(truth);
            facts += 1 + ids.len();
            found.extend(
                ids.into_iter().filter(|id| {
                    self.container(id).is_none_or(|(_, pod_uid)| pod_uid.as_deref() != Some(*uid))
                }),
            );
        }
        if self.names.stats().facts != facts {
            found.push(format!("{} facts instead of {facts}", self.names.stats().facts));
        }
        found
    }

    async fn reaches(&self, version: u64) {
        eventually(&format!("the state of version {version}"), || {
            let differences = self.differences(version);
            if differences.is_empty() { Ok(()) } else { Err(format!("{differences:?} {:?}", self.stats())) }
        })
        .await;
    }

    async fn becomes(&self, state: SourceState) {
        eventually(&format!("{state:?}"), || (self.state() == state).then_some(()).ok_or(self.state())).await;
    }
}

/// Asks until there is an answer.
pub(super) async fn eventually<E: std::fmt::Debug>(what: &str, mut condition: impl FnMut() -> Result<(), E>) {
    let deadline = Instant::now() + DEADLINE;
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    while let Err(not_yet) = condition() {
        assert!(Instant::now() < deadline, "{what} was not reached: {not_yet:?}");
        ticks.tick().await;
    }
}

fn workload(kind: &str, name: &str) -> Workload {
    Workload { kind: kind.into(), name: name.into() }
}
