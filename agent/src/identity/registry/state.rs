//! What the registry's lock protects: no file is read here, so that every order of events can be tried.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use super::{
    Bounds, Container, Forgotten, Labels, Listed, Names, Renamed, Resolution, Stats,
    naming::Naming,
    open::{OpenIds, Verdict},
};
use crate::room::Table as _;

#[derive(Debug)]
pub(super) struct State {
    bounds: Bounds,
    /// Number of scans begun. What was learned since a scan began can't be missed by it: its walk may have been
    /// past that place already.
    generation: u64,
    known: HashMap<u64, Known>,
    /// The dead among the known, longest dead first.
    dead: BTreeSet<(Instant, u64)>,
    open: OpenIds,
    naming: Naming,
    /// Forgotten since this was last asked for. Never longer than the bound: then nobody is evicted any more.
    forgotten: Vec<Forgotten>,
    /// What is counted here; the rest is filled in when somebody looks.
    stats: Stats,
}

/// How a container was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Event,
    Scan,
}

#[derive(Debug)]
struct Known {
    container: Arc<Container>,
    /// When it was heard of, or earlier.
    since: Instant,
    /// The newest generation in which it was there.
    seen: u64,
    /// Whether a scan has ever found it.
    is_found: bool,
    died: Option<Death>,
}

#[derive(Clone, Copy, Debug)]
struct Death {
    at: Instant,
    generation: u64,
}

impl State {
    pub(super) fn new(bounds: Bounds, names: Arc<Names>) -> Self {
        Self {
            bounds,
            generation: 0,
            known: HashMap::new(),
            dead: BTreeSet::new(),
            open: OpenIds::new(bounds),
            naming: Naming::new(bounds.hold, names),
            forgotten: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// The answer for an id about which everything is decided.
    pub(super) fn get(&self, id: u64) -> Option<Resolution> {
        match self.known.get(&id) {
            Some(known) if self.naming.is_settling(id) => {
                Some(Resolution::Settling(Arc::clone(&known.container)))
            }
            Some(known) => Some(Resolution::Known(Arc::clone(&known.container))),
            // No cgroup has the id 0: it stands for "none" in the kernel half.
            None if id == 0 => Some(Resolution::Unknown),
            None => self.open.given_up(id).map(Resolution::from),
        }
    }

    /// Answers for any id.
    pub(super) fn ask(&mut self, id: u64, now: Instant) -> Resolution {
        if let Some(resolution) = self.get(id) {
            return resolution;
        }
        let is_full = self.known.len() - self.dead.len() >= self.bounds.containers;
        self.open.ask(id, is_full, self.generation, now).into()
    }

    /// Takes in one that was heard of. Whether it is new is `Some(true)`; `None` if it was refused.
    pub(super) fn learn(&mut self, container: Arc<Container>, way: Way, now: Instant) -> Option<bool> {
        let id = container.cgroup_id;
        if let Some(known) = self.known.get_mut(&id) {
            // Ids are not used again, so the birth of a dead one is old news.
            known.seen = self.generation;
            return Some(false);
        }
        if matches!(self.open.settled(id, now), Some(Verdict::Unknown | Verdict::Overflow)) {
            return Some(false);
        }
        if !self.make_room() {
            self.open.refuse(id);
            return None;
        }
        let (was_awaited, died) = self.open.close(id);
        match way {
            _ if was_awaited => self.stats.late += 1,
            Way::Event => self.stats.kernel_event += 1,
            Way::Scan => self.stats.scan += 1,
        }
        self.naming.begin(&container, now);
        // Whoever asked for it knew of something that it had done; for longer than the hold nobody is asked for.
        let since = if was_awaited { now.checked_sub(self.bounds.hold).unwrap_or(now) } else { now };
        let is_found = way == Way::Scan;
        self.known.insert(id, Known { container, since, seen: self.generation, is_found, died: None });
        if let Some(at) = died {
            self.bury(id, at);
        }
        Some(true)
    }

    pub(super) fn died(&mut self, id: u64, container: Option<Arc<Container>>, now: Instant) {
        if let Some(container) = container {
            self.learn(container, Way::Event, now);
        }
        let is_remembered = self.known.contains_key(&id) || self.open.died(id, now);
        self.bury(id, now);
        if !is_remembered && self.forgotten.len() < self.bounds.containers {
            // There was no room for it. A slot it may have had all the same.
            self.forgotten.push(Forgotten { id, labels: Arc::new(Labels::other()) });
        }
    }

    pub(super) fn begin_scan(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Those alive when the scan of this generation began, and not found by it. If it isn't the whole tree that is
    /// scanned, only those who were found before.
    pub(super) fn unseen(
        &self,
        found: &[(u64, PathBuf)],
        generation: u64,
        is_whole: bool,
    ) -> Vec<(u64, PathBuf)> {
        let found: HashSet<u64> = found.iter().map(|(id, _)| *id).collect();
        let is_unseen =
            |known: &Known| known.died.is_none() && known.seen < generation && (is_whole || known.is_found);
        let unseen = self.known.iter().filter(|(id, known)| is_unseen(known) && !found.contains(id));
        unseen.map(|(id, known)| (*id, known.container.path.clone())).collect()
    }

    /// Those of `found` that are neither known nor given up.
    pub(super) fn unknown_among<'a>(&self, found: &'a [(u64, PathBuf)]) -> Vec<&'a (u64, PathBuf)> {
        let is_open = |id| !self.known.contains_key(&id) && self.open.given_up(id).is_none();
        found.iter().filter(|(id, _)| is_open(*id)).collect()
    }

    /// Takes in what the scan of this generation found, and marks dead those of `gone` that nobody has heard of
    /// since. Returns how many were added, have died and were refused.
    pub(super) fn end_scan(
        &mut self,
        generation: u64,
        found: &[(u64, PathBuf)],
        fresh: Vec<Arc<Container>>,
        gone: &[u64],
        is_complete: bool,
        now: Instant,
    ) -> (usize, usize, usize) {
        for (id, _) in found {
            self.seen_in(*id, generation);
        }
        let (mut added, mut refused, mut died) = (0, 0, 0);
        for container in fresh {
            match self.learn(container, Way::Scan, now) {
                Some(is_new) => added += usize::from(is_new),
                None => refused += 1,
            }
        }
        for id in gone {
            if self.known.get(id).is_some_and(|known| known.seen < generation) {
                died += usize::from(self.bury(*id, now));
            }
        }
        let found: HashSet<u64> = found.iter().map(|(id, _)| *id).collect();
        self.open.end_scan(generation, &found, is_complete, now);
        (added, died, refused)
    }

    /// How many wait for a name.
    pub(super) fn settling(&self) -> usize {
        self.naming.settling()
    }

    pub(super) fn settle(&mut self, now: Instant) {
        self.naming.settle(now);
    }

    /// Whether there may be better names than at the last [`State::rename`].
    pub(super) fn has_choices(&self) -> bool {
        self.naming.has_choices()
    }

    pub(super) fn choose(&mut self) {
        self.naming.choose(self.known.values().map(|known| &known.container));
    }

    pub(super) fn has_news(&self, generation: u64) -> bool {
        self.naming.has_news(generation)
    }

    pub(super) fn rename(&mut self, generation: u64) -> Vec<Renamed> {
        self.naming.rename(generation)
    }

    pub(super) fn wants_scan(&self) -> bool {
        self.open.wants_scan()
    }

    pub(super) fn expire(&mut self, now: Instant) -> Vec<Forgotten> {
        self.known.give_room_back();
        self.open.give_room_back();
        self.naming.give_room_back();
        let grace = self.bounds.grace;
        let is_past = |at: Instant| now.saturating_duration_since(at) >= grace;
        while self.dead.first().is_some_and(|(at, _)| is_past(*at)) {
            let forgotten = self.forget_longest_dead();
            self.forgotten.extend(forgotten);
        }
        let given_up = self.open.expire(now).map(|(id, verdict)| Forgotten { id, labels: verdict.labels() });
        self.forgotten.extend(given_up);
        let mut forgotten = std::mem::take(&mut self.forgotten);
        // A scan that was slow may have brought an evicted one back.
        forgotten.retain(|forgotten| !self.known.contains_key(&forgotten.id));
        forgotten
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let listed = |known: &Known| Listed {
            since: known.since,
            is_settling: self.naming.is_settling(known.container.cgroup_id),
            container: Arc::clone(&known.container),
            died: known.died.map(|death| death.at),
        };
        self.known.values().map(listed).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let (pending, given_up) = self.open.counts();
        Stats {
            never: self.open.never,
            refused: self.open.refused,
            alive: self.known.len() - self.dead.len(),
            dead: self.dead.len(),
            pending,
            given_up,
            settling: self.naming.settling(),
            renamed: self.naming.renamed,
            ..self.stats
        }
    }

    /// A directory that was there in this generation; it lives, unless it has died since.
    fn seen_in(&mut self, id: u64, generation: u64) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        known.seen = known.seen.max(generation);
        known.is_found = true;
        if let Some(death) = known.died.filter(|death| death.generation < generation) {
            known.died = None;
            self.dead.remove(&(death.at, id));
        }
    }

    /// Marks a known one dead; whether it was alive.
    fn bury(&mut self, id: u64, at: Instant) -> bool {
        let Some(known) = self.known.get_mut(&id).filter(|known| known.died.is_none()) else {
            return false;
        };
        known.died = Some(Death { at, generation: self.generation });
        self.dead.insert((at, id))
    }

    /// Whether one more can be known, for which the longest dead may have to go.
    fn make_room(&mut self) -> bool {
        if self.known.len() < self.bounds.containers {
            return true;
        }
        if self.forgotten.len() >= self.bounds.containers {
            return false;
        }
        let Some(evicted) = self.forget_longest_dead() else { return false };
        self.forgotten.push(evicted);
        self.stats.evicted += 1;
        true
    }

    fn forget_longest_dead(&mut self) -> Option<Forgotten> {
        let (_, id) = self.dead.pop_first()?;
        let known = self.known.remove(&id)?;
        self.naming.forget(id);
        Some(Forgotten { id, labels: known.container.labels() })
    }
}

impl From<Verdict> for Resolution {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pending => Self::Pending,
            Verdict::Unknown => Self::Unknown,
            Verdict::Overflow => Self::Overflow,
        }
    }
}

#[cfg(test)]
mod tests;
