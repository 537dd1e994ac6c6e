use std::{collections::HashMap, path::Path, time::Duration};

use super::*;
use crate::identity::testing::no_names;

const BOUNDS: Bounds = Bounds { containers: 8, hold: Duration::from_secs(5), grace: Duration::from_secs(60) };

fn container(id: u64, path: &str) -> Arc<Container> {
    Container::new(id, Path::new(path))
}

#[test]
fn a_birth_during_a_walk_is_not_a_death() {
    let now = Instant::now();
    let mut state = State::new(BOUNDS, no_names());
    state.learn(container(3, "/before"), Way::Event, now);
    let generation = state.begin_scan();
    state.learn(container(4, "/meanwhile"), Way::Event, now);
    let unseen: Vec<u64> = state.unseen(&[], generation, true).into_iter().map(|(id, _)| id).collect();
    assert_eq!(unseen, [3]);
    // Even if the caller had held it for gone.
    let (_, died, _) = state.end_scan(generation, &[], Vec::new(), &[3, 4], true, now);
    assert_eq!(died, 1);
    assert_eq!((state.stats().alive, state.stats().dead), (1, 1));
}

#[test]
fn a_death_during_a_walk_is_not_undone_by_it() {
    let now = Instant::now();
    let mut state = State::new(BOUNDS, no_names());
    state.learn(container(3, "/x"), Way::Event, now);
    let generation = state.begin_scan();
    state.died(3, None, now);
    let found = [(3, PathBuf::from("/x"))];
    state.end_scan(generation, &found, Vec::new(), &[], true, now);
    assert_eq!(state.stats().dead, 1);
    // A later walk that finds it knows better.
    let generation = state.begin_scan();
    state.end_scan(generation, &found, Vec::new(), &[], true, now);
    assert_eq!((state.stats().alive, state.stats().dead), (1, 0));
}

#[test]
fn a_death_before_its_birth_is_remembered() {
    let now = Instant::now();
    let mut state = State::new(BOUNDS, no_names());
    state.ask(3, now);
    state.died(3, None, now);
    state.learn(container(3, "/blink"), Way::Event, now);
    assert!(matches!(state.ask(3, now), Resolution::Known(_)));
    assert_eq!((state.stats().alive, state.stats().dead, state.stats().late), (0, 1, 1));
}

#[test]
fn a_scan_answers_only_for_what_was_asked_before_it() {
    let now = Instant::now();
    let mut state = State::new(BOUNDS, no_names());
    state.ask(3, now);
    let generation = state.begin_scan();
    state.ask(4, now);
    state.end_scan(generation, &[], Vec::new(), &[], true, now);
    assert!(state.wants_scan(), "4 came after the walk");
    let generation = state.begin_scan();
    state.end_scan(generation, &[], Vec::new(), &[], true, now);
    assert!(!state.wants_scan(), "another walk finds neither");
    assert_eq!(state.stats().pending, 2);
}

#[test]
fn what_a_walk_may_have_missed_is_not_gone() {
    let bounds = Bounds { grace: Duration::from_secs(1), ..BOUNDS };
    let begin = Instant::now();
    let [before_hold, after_hold] = [4, 9].map(|seconds| begin + Duration::from_secs(seconds));
    for is_complete in [false, true] {
        let mut state = State::new(bounds, no_names());
        state.ask(3, begin);
        let generation = state.begin_scan();
        state.end_scan(generation, &[], Vec::new(), &[], is_complete, begin);
        // It may be named yet, dead or not.
        assert!(state.expire(before_hold).is_empty());
        let forgotten: Vec<u64> =
            state.expire(after_hold).into_iter().map(|forgotten| forgotten.id).collect();
        assert_eq!(forgotten, if is_complete { vec![3] } else { vec![] });
    }
}

/// Random orders of everything: the bounds hold, no answer that was final changes while its id is remembered, and
/// the numbers add up.
#[test]
fn any_order_of_events_keeps_the_promises() {
    for mut seed in 1..=200_u64 {
        let mut state = State::new(BOUNDS, no_names());
        let mut now = Instant::now();
        let mut scans: Vec<(u64, Vec<(u64, PathBuf)>)> = Vec::new();
        let mut finals: HashMap<u64, &str> = HashMap::new();
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..400 {
            let id = 1 + below(24);
            let newborn = container(id, "/x");
            let living = state.living();
            let mut may_die = Vec::new();
            match below(8) {
                0 | 1 => drop(state.learn(newborn, Way::Event, now)),
                2 => {
                    state.died(id, (below(2) == 0).then_some(newborn), now);
                    may_die.push(id);
                }
                3 => {
                    let generation = state.begin_scan();
                    let found =
                        (1..25).filter(|_| below(3) == 0).map(|id| (id, PathBuf::from("/x"))).collect();
                    scans.push((generation, found));
                }
                4 if !scans.is_empty() => {
                    let (generation, found) = scans.remove(0);
                    let gone: Vec<u64> =
                        state.unseen(&found, generation, true).into_iter().map(|(id, _)| id).collect();
                    let fresh =
                        state.unknown_among(&found).iter().map(|(id, _)| container(*id, "/x")).collect();
                    state.end_scan(generation, &found, fresh, &gone, below(2) == 0, now);
                    may_die = gone;
                }
                5 => now += Duration::from_secs(below(20)),
                6 => {
                    for Forgotten { id, .. } in state.expire(now) {
                        assert!(!state.known.contains_key(&id), "what is forgotten is not known");
                        finals.remove(&id);
                    }
                }
                _ => {
                    let answer = match state.ask(id, now) {
                        Resolution::Known(_) | Resolution::Settling(_) => "known",
                        Resolution::Unknown => "unknown",
                        Resolution::Overflow => "overflow",
                        Resolution::Pending => "pending",
                    };
                    // An evicted id is told with the next `expire` only.
                    let forgotten = state.is_forgotten(id);
                    if let Some(before) = finals.get(&id)
                        && !forgotten
                    {
                        assert_eq!(answer, *before, "seed {seed}, id {id}");
                    }
                    if answer != "pending" && state.remembers(id) {
                        finals.insert(id, answer);
                    }
                }
            }
            let survivors = state.living();
            for id in living {
                assert!(survivors.contains(&id) || may_die.contains(&id), "only death ends a life");
            }
            state.check();
        }
    }
}

impl State {
    fn living(&self) -> HashSet<u64> {
        self.known.iter().filter(|(_, known)| known.died.is_none()).map(|(id, _)| *id).collect()
    }

    fn is_forgotten(&self, id: u64) -> bool {
        self.forgotten.iter().any(|forgotten| forgotten.id == id)
    }

    fn remembers(&self, id: u64) -> bool {
        self.known.contains_key(&id) || self.open.contains(id)
    }

    fn check(&self) {
        let stats = self.stats();
        assert!(self.known.len() <= self.bounds.containers);
        assert!(stats.pending + stats.given_up <= self.bounds.containers);
        assert!(self.forgotten.len() <= self.bounds.containers);
        assert!(self.known.keys().all(|id| !self.open.contains(*id)));
        assert_eq!(stats.alive + stats.dead, self.known.len());
        assert_eq!(self.known.values().filter(|known| known.died.is_some()).count(), self.dead.len());
        let ever_known = stats.kernel_event + stats.scan + stats.late;
        assert!(ever_known >= (stats.alive + stats.dead) as u64 + stats.evicted);
        assert!(!self.wants_scan() || stats.pending > 0);
    }
}
