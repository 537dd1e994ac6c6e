//! Who died lately: OOM kills, and processes that ended badly. Kept whether anybody reads or not, since one looks
//! afterwards.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use agent_ebpf::contract::event::EventKind;

use crate::{
    identity::{Labels, Renamed},
    observation::Observation,
    sensor::process::{COMPLETED, OOM_KILLED, SIGNAL},
};

/// Of all places, one container may take up this part: one that crashes all the time must not push out the others.
const SHARE: usize = 16;
/// How one dies: by a code of its own, by a signal, for want of memory. A shell script that looks for files ends many
/// processes with a code, and must not push out the kill that one is going to ask about.
const CAUSES: usize = 3;

/// Deaths of one container and one cause, the oldest first, with the number that each of them has.
type Alike = VecDeque<(u64, Arc<Observation>)>;

/// The newest deaths, up to a bound. Of those of whom there are most, the oldest goes first.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    bound: usize,
    kept: HashMap<Arc<Labels>, [Alike; CAUSES]>,
    /// All that there ever were.
    seen: u64,
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

    pub(super) fn len(&self) -> usize {
        self.kept.values().map(count).sum()
    }

    pub(super) fn keep(&mut self, observation: Arc<Observation>) {
        self.seen += 1;
        if self.bound == 0 {
            self.dropped += 1;
            return;
        }
        let labels = Arc::clone(&observation.labels);
        let of_container = self.kept.entry(Arc::clone(&labels)).or_default();
        of_container[cause(&observation)].push_back((self.seen, observation));
        self.make_room(&labels);
    }

    /// Containers go by other labels now, and with them their deaths.
    pub(super) fn rename(&mut self, renamed: &[Renamed]) {
        // All at the same time: one may get the labels that another one had.
        let taken = renamed.iter().map(|Renamed { from, to }| (to, self.kept.remove(from)));
        let taken: Vec<_> = taken.collect();
        for (to, of_container) in taken {
            let Some(of_container) = of_container else { continue };
            let under_both = self.kept.entry(Arc::clone(to)).or_default();
            for (there, here) in of_container.into_iter().zip(under_both) {
                here.extend(there.into_iter().map(|(number, death)| (number, Arc::new(death.labelled(to)))));
                here.make_contiguous().sort_by_key(|(number, _)| *number);
            }
            self.make_room(to);
        }
    }

    /// Drops what is too much after these labels have got more.
    fn make_room(&mut self, labels: &Arc<Labels>) {
        let share = self.bound.div_ceil(SHARE);
        if let Some(of_container) = self.kept.get_mut(labels) {
            while count(of_container) > share {
                self.dropped += u64::from(drop_one(of_container.iter_mut()));
            }
        }
        while self.len() > self.bound {
            let of_cause = |cause: &usize| {
                let alike = || self.kept.values().map(|of_container| &of_container[*cause]);
                (alike().map(Alike::len).sum::<usize>(), Reverse(alike().filter_map(oldest).min()))
            };
            let cause = (0..CAUSES).max_by_key(of_cause).unwrap_or_default();
            let alike = self.kept.values_mut().map(|of_container| &mut of_container[cause]);
            self.dropped += u64::from(drop_one(alike));
            self.kept.retain(|_, of_container| count(of_container) > 0);
        }
    }

    /// The newest last.
    pub(super) fn all(&self) -> Vec<Arc<Observation>> {
        let mut all: Vec<_> = self.kept.values().flatten().flatten().collect();
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, death)| Arc::clone(death)).collect()
    }
}

fn count(of_container: &[Alike; CAUSES]) -> usize {
    of_container.iter().map(Alike::len).sum()
}

fn oldest(alike: &Alike) -> Option<u64> {
    alike.front().map(|(number, _)| *number)
}

/// Drops the oldest of those of whom there are most; of several such, the oldest of all.
fn drop_one<'a>(all: impl Iterator<Item = &'a mut Alike>) -> bool {
    let most = all.max_by_key(|alike| (alike.len(), Reverse(oldest(alike))));
    most.is_some_and(|alike| alike.pop_front().is_some())
}

fn cause(death: &Observation) -> usize {
    match (death.kind, death.detail.exit_reason()) {
        (EventKind::OomKill, _) | (_, OOM_KILLED) => 2,
        (_, SIGNAL) => 1,
        _ => 0,
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
    use crate::{
        live::testing::exec,
        observation::{Detail, Exit},
    };

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

    fn dies_of(reason: &'static str, container: &str, pid: u32) -> Arc<Observation> {
        let exit = Exit { ppid: 1, reason, exit_code: None, signal: None, core_dumped: false, duration: 1.0 };
        let death = death(container, pid);
        Arc::new(Observation {
            kind: EventKind::ProcessExit,
            detail: Detail::Exit(exit),
            ..Observation::clone(&death)
        })
    }

    #[test]
    fn who_ends_with_a_code_pushes_out_no_kill() {
        let mut deaths = Deaths::new(64);
        deaths.keep(dies_of(OOM_KILLED, "app", 1));
        deaths.keep(dies_of(SIGNAL, "app", 2));
        (10..100).for_each(|pid| deaths.keep(dies_of("error", "app", pid)));
        assert_eq!(pids(&deaths), [1, 2, 98, 99], "in one container");
        (100..200).for_each(|pid| deaths.keep(dies_of("error", &(pid / 2).to_string(), pid)));
        assert_eq!(deaths.len(), 64);
        assert_eq!(pids(&deaths)[..2], [1, 2], "in all of them");
        assert_eq!(deaths.dropped(), 192 - 64);
        // One that has only been killed a lot is no reason to forget how it ends now.
        (200..300).for_each(|pid| deaths.keep(dies_of(SIGNAL, "app", pid)));
        deaths.keep(dies_of("error", "app", 300));
        assert_eq!(pids(&deaths).last(), Some(&300));
        // Nor are many that were killed, each in a container of its own.
        for bound in [1, 16, 64] {
            let mut deaths = Deaths::new(bound);
            (0..100).for_each(|pid| deaths.keep(dies_of(SIGNAL, &pid.to_string(), pid)));
            deaths.keep(dies_of("error", "app", 300));
            deaths.keep(dies_of(SIGNAL, "app", 301));
            assert_eq!(pids(&deaths).last(), Some(&301), "{bound}");
            deaths.keep(dies_of(OOM_KILLED, "other", 302));
            assert_eq!(pids(&deaths).last(), Some(&302), "{bound}");
        }
    }

    #[test]
    fn deaths_go_with_the_name() {
        let mut deaths = Deaths::new(64);
        for (container, pid) in [("id", 1), ("app", 2), ("id", 3), ("other", 4), ("app", 5), ("id", 6)] {
            deaths.keep(death(container, pid));
        }
        let labels = |container: &str| Arc::clone(&death(container, 0).labels);
        deaths.rename(&[Renamed { from: labels("id"), to: labels("app") }]);
        assert_eq!(pids(&deaths), [2, 3, 4, 5, 6], "there is room for four");
        let named = deaths.all().iter().filter(|death| death.labels == labels("app")).count();
        assert_eq!((named, deaths.dropped()), (4, 1));
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
        assert_eq!(nothing.dropped(), 1);
    }
}
