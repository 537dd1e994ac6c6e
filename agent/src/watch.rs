//! Keeps the kernel's eye on what readers of the live stream want, and on nothing else.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{task::block_in_place, time::timeout};

use crate::{
    identity::{Listed, Registry},
    kernel::Running,
    live::{Hub, plan},
    sensor::calls::Plan,
};

/// Time between two looks at which containers there are, while somebody watches.
const LOOK: Duration = Duration::from_millis(250);

/// What is watched now, for the metrics.
#[derive(Debug, Default)]
pub struct Watch {
    calls: AtomicI64,
    cgroups: AtomicI64,
}

impl Watch {
    /// System calls that are watched.
    pub fn calls(&self) -> i64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Cgroups where they are; -1 for all.
    pub fn cgroups(&self) -> i64 {
        self.cgroups.load(Ordering::Relaxed)
    }

    /// Follows readers that come and go and, while one of them wants single calls, containers that do.
    pub async fn run(self: Arc<Self>, hub: Arc<Hub>, registry: Arc<Registry>, running: Arc<Mutex<Running>>) {
        let mut changes = hub.watchers();
        let (mut current, mut told, mut was_idle) = (Plan::default(), String::new(), true);
        loop {
            changes.mark_unchanged();
            let demands = hub.demands();
            let is_idle = demands.is_empty();
            let wanted = if is_idle {
                Plan::default()
            } else {
                let alive = registry.list().into_iter().filter(Listed::is_alive);
                let labels = alive.map(|listed| (listed.container.cgroup_id, listed.container.labels()));
                plan(&demands, labels, registry.has_strangers())
            };
            // Who comes first is told if it is in vain, even if there is nothing of what it wants yet.
            if wanted != current || is_idle != was_idle {
                was_idle = is_idle;
                // Some milliseconds at most, of which the kernel waits for programs under way.
                let outcome =
                    block_in_place(|| running.lock().unwrap_or_else(PoisonError::into_inner).watch(&wanted));
                hub.set_unwatched(outcome.as_ref().err().map(String::as_str));
                current = match outcome {
                    Ok(()) => wanted,
                    Err(reason) => {
                        if reason != told {
                            tracing::warn!(reason, "system calls can't be watched");
                            told = reason;
                        }
                        Plan::default()
                    }
                };
                self.note(&current);
            }
            let changed = changes.changed();
            let is_over = if is_idle {
                changed.await.is_err()
            } else {
                timeout(LOOK, changed).await.is_ok_and(|changed| changed.is_err())
            };
            if is_over {
                return;
            }
        }
    }

    fn note(&self, plan: &Plan) {
        let calls: u32 = plan.any().iter().map(|word| word.count_ones()).sum();
        let is_everywhere = plan.everywhere.iter().any(|word| *word != 0);
        let cgroups =
            if is_everywhere { -1 } else { i64::try_from(plan.containers.len()).unwrap_or(i64::MAX) };
        self.calls.store(calls.into(), Ordering::Relaxed);
        self.cgroups.store(cgroups, Ordering::Relaxed);
    }
}
