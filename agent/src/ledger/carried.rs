//! What becomes of closed accounts: some are carried on, and of the others only sums are left.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::Account;
use crate::{
    identity::Labels,
    sensor::{io_uring, syscalls},
};

/// What was counted for those who are shown no more: what the agent has counted in all doesn't go back with them.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) syscalls: syscalls::Counters,
    pub(super) io_uring: io_uring::Counters,
}

impl Gone {
    pub(super) fn take_in(&mut self, Account { syscalls, io_uring, .. }: &Account) {
        if let Some(syscalls) = syscalls {
            self.syscalls.add(syscalls);
        }
        if let Some(io_uring) = io_uring {
            self.io_uring.add(io_uring);
        }
    }
}

/// Drops what neither the same labels nor the same workload go on with. Of those whose workload goes on, OOM kills
/// and exits stay.
pub(super) fn let_go(
    carried: &mut HashMap<Arc<Labels>, Account>,
    living: &HashSet<Arc<Labels>>,
    gone: &mut Gone,
) {
    let workloads: HashSet<[&str; 3]> = living.iter().map(|labels| workload(labels)).collect();
    let for_good = [Labels::unknown(), Labels::other()];
    carried.retain(|labels, account| {
        if living.contains(labels) || for_good.contains(labels) {
            return true;
        }
        gone.take_in(account);
        *account = Account {
            oom: std::mem::take(&mut account.oom),
            process: std::mem::take(&mut account.process).exits(),
            ..Account::default()
        };
        workloads.contains(&workload(labels))
    });
}

/// Joins the accounts of those who are gone to one for each workload that goes on, and drops those of others.
pub(super) fn join(
    carried: &mut HashMap<Arc<Labels>, Account>,
    living: &HashSet<Arc<Labels>>,
    gone: &mut Gone,
) {
    let workloads: HashSet<[&str; 3]> = living.iter().map(|labels| workload(labels)).collect();
    let for_good = [Labels::unknown(), Labels::other()];
    for (labels, account) in std::mem::take(carried) {
        if living.contains(&labels) || for_good.contains(&labels) {
            carried.entry(labels).or_default().add(&account);
        } else if workloads.contains(&workload(&labels)) {
            carried.entry(Arc::new(labels.of_workload())).or_default().add(&account);
        } else {
            gone.take_in(&account);
        }
    }
}

/// Drops carried accounts beyond `limit`, those first whose labels are gone; returns how many.
pub(super) fn bound(
    carried: &mut HashMap<Arc<Labels>, Account>,
    limit: usize,
    living: &HashSet<Arc<Labels>>,
    gone: &mut Gone,
) -> u64 {
    let excess = carried.len().saturating_sub(limit);
    let mut candidates: Vec<Arc<Labels>> = carried.keys().cloned().collect();
    candidates.sort_by_key(|labels| living.contains(labels));
    for account in candidates.iter().take(excess).filter_map(|labels| carried.remove(labels)) {
        gone.take_in(&account);
    }
    excess as u64
}

fn workload(labels: &Labels) -> [&str; 3] {
    [&labels.namespace, &labels.workload_kind, &labels.workload]
}
