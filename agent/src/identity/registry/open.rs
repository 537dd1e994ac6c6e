//! The ids that were asked for and are not known.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{Bounds, Labels};
use crate::room::Table as _;

#[derive(Debug)]
pub(super) struct OpenIds {
    bounds: Bounds,
    ids: HashMap<u64, Open>,
    /// Whether something may be pending that no scan has looked for.
    unscanned: bool,
    /// Ids given up as unknown, and ids turned away. Both only grow.
    pub(super) never: u64,
    pub(super) refused: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pending,
    Unknown,
    Overflow,
}

impl Verdict {
    /// Under which those are shown about whom this was decided.
    pub(super) fn labels(self) -> Arc<Labels> {
        Arc::new(match self {
            Self::Pending | Self::Unknown => Labels::unknown(),
            Self::Overflow => Labels::other(),
        })
    }
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// Scans that had begun when it was first asked for.
    generation: u64,
    /// Whether one that began later has looked for it.
    scanned: bool,
    verdict: Verdict,
    died: Option<Instant>,
}

impl OpenIds {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, ids: HashMap::new(), unscanned: false, never: 0, refused: 0 }
    }

    /// Answers for an id; a new one is pending, unless there is no room where it could become known (`is_full`).
    pub(super) fn ask(&mut self, id: u64, is_full: bool, generation: u64, now: Instant) -> Verdict {
        if !self.ids.contains_key(&id) {
            let has_place = self.ids.len() < self.bounds.containers;
            self.refused += u64::from(is_full || !has_place);
            if !has_place {
                return Verdict::Overflow;
            }
            let verdict = if is_full { Verdict::Overflow } else { Verdict::Pending };
            self.unscanned |= !is_full;
            self.ids.insert(id, Open { since: now, generation, scanned: false, verdict, died: None });
        }
        self.settled(id, now).unwrap_or(Verdict::Unknown)
    }

    /// What has become of an id by now, if it was asked for: pending ones are given up after the hold.
    pub(super) fn settled(&mut self, id: u64, now: Instant) -> Option<Verdict> {
        let open = self.ids.get_mut(&id)?;
        self.never += u64::from(open.settle(&self.bounds, now));
        Some(open.verdict)
    }

    /// What was decided about an id, if it was: never [`Verdict::Pending`].
    pub(super) fn given_up(&self, id: u64) -> Option<Verdict> {
        self.ids.get(&id).map(|open| open.verdict).filter(|verdict| *verdict != Verdict::Pending)
    }

    /// There was no room for this one.
    pub(super) fn refuse(&mut self, id: u64) {
        self.refused += 1;
        if let Some(open) = self.ids.get_mut(&id) {
            open.verdict = Verdict::Overflow;
        }
    }

    /// This one is known now. Answers whether it was waited for, and when it died if it has.
    pub(super) fn close(&mut self, id: u64) -> (bool, Option<Instant>) {
        let open = self.ids.remove(&id);
        (open.is_some(), open.and_then(|open| open.died))
    }

    /// Answers whether it was asked for.
    pub(super) fn died(&mut self, id: u64, now: Instant) -> bool {
        let open = self.ids.get_mut(&id);
        open.map(|open| open.died.get_or_insert(now)).is_some()
    }

    /// The scan of this generation found these; if its walk was complete, nothing else is there.
    pub(super) fn end_scan(
        &mut self,
        generation: u64,
        found: &HashSet<u64>,
        is_complete: bool,
        now: Instant,
    ) {
        for (id, open) in self.ids.iter_mut().filter(|(_, open)| open.generation < generation) {
            open.scanned = true;
            if is_complete && !found.contains(id) {
                open.died.get_or_insert(now);
            }
        }
        self.unscanned = self.ids.values().any(Open::wants_scan);
    }

    pub(super) fn wants_scan(&self) -> bool {
        self.unscanned && self.ids.values().any(Open::wants_scan)
    }

    /// Gives up what is due, and forgets what was given up and has been dead for the grace.
    pub(super) fn expire(&mut self, now: Instant) -> impl Iterator<Item = (u64, Verdict)> {
        let Bounds { grace, .. } = self.bounds;
        for open in self.ids.values_mut() {
            self.never += u64::from(open.settle(&self.bounds, now));
        }
        let is_past = move |at: Instant| now.saturating_duration_since(at) >= grace;
        let is_done = move |_: &u64, open: &mut Open| {
            open.verdict != Verdict::Pending && open.died.is_some_and(is_past)
        };
        self.ids.extract_if(is_done).map(|(id, open)| (id, open.verdict))
    }

    pub(super) fn give_room_back(&mut self) {
        self.ids.give_room_back();
    }

    #[cfg(test)]
    pub(super) fn contains(&self, id: u64) -> bool {
        self.ids.contains_key(&id)
    }

    /// How many are pending and how many given up.
    pub(super) fn counts(&self) -> (usize, usize) {
        let pending = self.ids.values().filter(|open| open.verdict == Verdict::Pending).count();
        (pending, self.ids.len() - pending)
    }
}

impl Open {
    /// Whether it is given up just now.
    fn settle(&mut self, bounds: &Bounds, now: Instant) -> bool {
        let is_due = now.saturating_duration_since(self.since) >= bounds.hold;
        let gives_up = self.verdict == Verdict::Pending && is_due;
        if gives_up {
            self.verdict = Verdict::Unknown;
        }
        gives_up
    }

    fn wants_scan(&self) -> bool {
        self.verdict == Verdict::Pending && !self.scanned
    }
}
