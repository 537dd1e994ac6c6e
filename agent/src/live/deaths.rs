//! Who died lately: OOM kills, and processes that ended badly. Kept whether anybody reads or not, since one looks
//! afterwards.

use std::{collections::VecDeque, sync::Arc};

use agent_ebpf::contract::event::EventKind;

use crate::{observation::Observation, sensor::process::COMPLETED};

/// Of all places, one container may take up this part: one that crashes all the time must not push out the others.
const SHARE: usize = 16;

/// The newest deaths, up to a bound.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    bound: usize,
    kept: VecDeque<Arc<Observation>>,
    dropped: u64,
}

impl Deaths {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, ..Self::default() }
    }

    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn keep(&mut self, observation: Arc<Observation>) {
        if self.bound == 0 {
            return;
        }
        let share = self.bound.div_ceil(SHARE);
        let is_same = |kept: &Arc<Observation>| kept.labels == observation.labels;
        let oldest = if self.kept.iter().filter(|kept| is_same(kept)).count() >= share {
            self.kept.iter().position(is_same)
        } else {
            (self.kept.len() >= self.bound).then_some(0)
        };
        if let Some(oldest) = oldest {
            self.kept.remove(oldest);
            self.dropped += 1;
        }
        self.kept.push_back(observation);
    }

    /// The newest last.
    pub(super) fn all(&self) -> Vec<Arc<Observation>> {
        self.kept.iter().cloned().collect()
    }
}

/// Whether an end of this kind, for this reason, is remembered.
pub fn is_death(kind: EventKind, exit_reason: &str) -> bool {
    match kind {
        EventKind::OomKill => true,
        EventKind::ProcessExit => exit_reason != COMPLETED,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::Labels, live::testing::exec};

    fn death(container: &str, pid: u32) -> Arc<Observation> {
        let labels = Arc::new(Labels { container: container.into(), ..Labels::default() });
        Arc::new(Observation { labels, ..Observation::clone(&exec(pid, "sh")) })
    }

    fn pids(deaths: &Deaths) -> Vec<u32> {
        deaths.all().iter().map(|death| death.process.as_ref().unwrap().pid).collect()
    }

    #[test]
    fn one_that_always_dies_leaves_the_others_their_place() {
        let mut deaths = Deaths::new(32);
        deaths.keep(death("quiet", 1));
        for pid in 2..100 {
            deaths.keep(death("loud", pid));
        }
        assert_eq!(pids(&deaths), [1, 98, 99]);
        assert_eq!(deaths.dropped(), 96);
    }

    #[test]
    fn the_oldest_goes() {
        let mut deaths = Deaths::new(4);
        for pid in 1..=6 {
            deaths.keep(death(&pid.to_string(), pid));
        }
        assert_eq!(pids(&deaths), [3, 4, 5, 6]);
        let mut nothing = Deaths::new(0);
        nothing.keep(death("a", 1));
        assert!(nothing.all().is_empty());
    }
}
