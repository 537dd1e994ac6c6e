//! Who waits for a name, and who got by without one.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Container, Names, Renamed};
use crate::{identity::names::Named, room::Table as _};

/// The known ones whose labels are not the best there could be.
#[derive(Debug)]
pub(super) struct Naming {
    hold: Duration,
    names: Arc<Names>,
    /// Those that wait, and since when.
    settling: HashMap<u64, (Arc<Container>, Instant)>,
    /// Those whose labels are fixed, and how much was known about them then.
    poor: HashMap<u64, (Arc<Container>, u8)>,
    /// Generation of the names at the last look at those that wait, and at the poor.
    settled_at: u64,
    renamed_at: u64,
    /// Count of choices at the last look at who is to be observed.
    chosen_at: u64,
    /// When sources are asked again for those that wait, and how long after the last time that is.
    ask_at: Option<Instant>,
    ask_step: Duration,
    pub(super) renamed: u64,
}

/// How soon a source is asked a second time: it may know a container a moment later than the kernel.
const ASK_AGAIN: Duration = Duration::from_millis(125);
/// Containers that sources are told to look for at a time; a list finds the others.
const ASKED_AT_ONCE: usize = 64;

impl Naming {
    pub(super) fn new(hold: Duration, names: Arc<Names>) -> Self {
        let (settling, poor) = Default::default();
        Self {
            hold,
            names,
            settling,
            poor,
            settled_at: 0,
            renamed_at: 0,
            chosen_at: 0,
            ask_at: None,
            ask_step: ASK_AGAIN,
            renamed: 0,
        }
    }

    /// A new one: it is named, or it waits.
    pub(super) fn begin(&mut self, container: &Arc<Container>, now: Instant) {
        let named = self.names.labels(&container.placement);
        if named.complete || self.hold.is_zero() {
            self.fix(container, named);
        } else {
            self.settling.insert(container.cgroup_id, (Arc::clone(container), now));
            self.ask_step = ASK_AGAIN;
            self.ask(now);
        }
    }

    pub(super) fn give_room_back(&mut self) {
        self.settling.give_room_back();
        self.poor.give_room_back();
    }

    pub(super) fn is_settling(&self, id: u64) -> bool {
        !self.settling.is_empty() && self.settling.contains_key(&id)
    }

    pub(super) fn settling(&self) -> usize {
        self.settling.len()
    }

    pub(super) fn settle(&mut self, now: Instant) {
        let generation = self.names.generation();
        let has_news = generation != self.settled_at;
        self.settled_at = generation;
        let mut done = Vec::new();
        for (container, since) in self.settling.values() {
            let is_due = now.saturating_duration_since(*since) >= self.hold;
            if has_news || is_due {
                let named = self.names.labels(&container.placement);
                if named.complete || is_due {
                    done.push((Arc::clone(container), named));
                }
            }
        }
        for (container, named) in done {
            self.settling.remove(&container.cgroup_id);
            self.fix(&container, named);
        }
        if self.settling.is_empty() {
            self.ask_at = None;
            self.names.satisfied();
        } else if self.ask_at.is_none_or(|at| now >= at) {
            self.ask_step *= 2;
            self.ask(now);
        }
    }

    pub(super) fn has_news(&self, generation: u64) -> bool {
        !self.poor.is_empty() && generation != self.renamed_at
    }

    pub(super) fn rename(&mut self, generation: u64) -> Vec<Renamed> {
        self.renamed_at = generation;
        let better: Vec<(Arc<Container>, Named)> = self
            .poor
            .values()
            .map(|(container, rank)| (container, rank, self.names.labels(&container.placement)))
            .filter(|(_, rank, named)| named.rank() > **rank)
            .map(|(container, _, named)| (Arc::clone(container), named))
            .collect();
        let mut renamed = Vec::new();
        for (container, named) in better {
            self.poor.remove(&container.cgroup_id);
            let from = self.fix(&container, named);
            let to = container.labels();
            if from != to {
                renamed.push(Renamed { from, to });
            }
        }
        self.renamed += renamed.len() as u64;
        renamed
    }

    pub(super) fn has_choices(&self) -> bool {
        self.names.choices() != self.chosen_at
    }

    /// Whether these are to be observed may be otherwise than when they were named.
    pub(super) fn choose<'a>(&mut self, known: impl Iterator<Item = &'a Arc<Container>>) {
        self.chosen_at = self.names.choices();
        for container in known {
            let observe = self.names.labels(&container.placement).observe;
            container.declines.store(observe == Some(false), Ordering::Relaxed);
        }
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.settling.remove(&id);
        self.poor.remove(&id);
    }

    /// Tells the sources for whom to look, the youngest first: the others were looked for.
    fn ask(&mut self, now: Instant) {
        let mut waiting: Vec<_> = self.settling.values().collect();
        waiting.sort_by_key(|(_, since)| Reverse(*since));
        let ids = waiting.into_iter().filter_map(|(container, _)| container.placement.container_id());
        self.names.want(ids.take(ASKED_AT_ONCE).map(str::to_owned).collect());
        self.ask_at = Some(now + self.ask_step);
    }

    /// Returns the labels that it had.
    fn fix(&mut self, container: &Arc<Container>, named: Named) -> Arc<crate::identity::Labels> {
        self.names.used(&named);
        if !named.settled {
            self.poor.insert(container.cgroup_id, (Arc::clone(container), named.rank()));
        }
        container.declines.store(named.observe == Some(false), Ordering::Relaxed);
        container.name(named.labels, named.details)
    }
}

#[cfg(test)]
mod tests;
