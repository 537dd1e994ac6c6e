//! What is new, or is to be judged once more, is shown or folded.

use std::{cmp::Reverse, collections::HashMap};

use super::{Fresh, Key, Round, Route, Shelf, others};
use crate::metrics::budget::{
    Ceilings,
    fold::{Fold, workload_of},
    share::fair,
};

/// Room that is left while it is given away.
struct Room<'c> {
    ceilings: &'c Ceilings,
    /// Series on the page.
    taken: usize,
    /// Kept for the coarsest series of those who have details to fold, by shelf and base.
    floors: HashMap<(usize, u32), usize>,
    kept: usize,
}

impl Room<'_> {
    fn has(&self, fold: Fold, cost: usize) -> bool {
        self.taken + self.kept + cost <= self.ceilings.of(fold)
    }

    fn release(&mut self, floor: (usize, u32)) {
        self.kept -= self.floors.remove(&floor).unwrap_or(0);
    }
}

impl Round {
    pub(super) fn judge(&mut self, ceilings: &Ceilings) {
        let share = fair(&self.demands, ceilings.of(Fold::Syscall));
        let taken = self.demands.iter().map(|demand| demand.has).sum();
        let mut room = Room { ceilings, taken, floors: HashMap::new(), kept: 0 };
        let mut fresh = std::mem::take(&mut self.fresh);
        self.find_a_place_for_each(&fresh, &mut room);
        // The coarse ones first, of the others those that count most.
        let stage = |fresh: &Fresh| self.next.shelves[fresh.shelf].stage(fresh.key.own);
        fresh.sort_by_cached_key(|fresh| {
            (Reverse(stage(fresh)), fresh.shelf, fresh.key.base, Reverse(fresh.weight))
        });
        let mut rest = fresh.as_slice();
        while let Some(first) = rest.first() {
            let (at, base) = (first.shelf, first.key.base);
            let mut shelf = std::mem::take(&mut self.next.shelves[at]);
            let fold = shelf.stage(first.key.own);
            let is_same = |other: &&Fresh| {
                other.shelf == at && other.key.base == base && shelf.stage(other.key.own) == fold
            };
            let (same, others) = rest.split_at(rest.iter().take_while(is_same).count());
            rest = others;
            self.place(&mut shelf, same, fold, share, &mut room);
            self.next.shelves[at] = shelf;
        }
    }

    /// Who is new as a whole gets room for the coarsest of all series, or is folded as a whole.
    fn find_a_place_for_each(&mut self, fresh: &[Fresh], room: &mut Room<'_>) {
        let mut needs = vec![0; self.demands.len()];
        let mut floors = HashMap::new();
        for Fresh { shelf: at, key, .. } in fresh {
            let shelf = &self.next.shelves[*at];
            let floor = Key { own: shelf.coarsest(key.own), ..*key };
            let mut needs_floor =
                || !shelf.shown.contains(&floor) && floors.insert((*at, key.base), shelf.cost).is_none();
            if floor == *key || needs_floor() {
                needs[key.base as usize] += shelf.cost;
            }
        }
        let others = others();
        let mut planned = room.taken;
        let is_new: Vec<_> = self.demands.iter().map(|demand| demand.has == 0 && demand.wants > 0).collect();
        // Who is here already comes first.
        for (base, need) in needs.iter().enumerate().filter(|(base, _)| !is_new[*base]) {
            planned += if self.is_away[base] { 0 } else { *need };
        }
        for base in (0..needs.len()).filter(|base| is_new[*base]) {
            if self.is_away[base] {
                continue;
            }
            let fits = planned + needs[base] <= room.ceilings.of(Fold::Container);
            self.is_away[base] = !fits && self.next.bases.text(base as u32) != others;
            planned += if self.is_away[base] { 0 } else { needs[base] };
        }
        floors.retain(|(_, base), _| !self.is_away[*base as usize]);
        room.kept = floors.values().sum();
        room.floors = floors;
    }

    /// New series of one family and base, which begin at the same stage.
    fn place(&mut self, shelf: &mut Shelf, fresh: &[Fresh], fold: Fold, share: usize, room: &mut Room<'_>) {
        let Some(Fresh { shelf: at, key: Key { base, .. }, .. }) = fresh.first() else { return };
        let (floor, base) = ((*at, *base), *base);
        if self.is_away[base as usize] {
            return fresh.iter().for_each(|fresh| self.send_away(shelf, fresh.key, room));
        }
        let all = fresh.len() * shelf.cost;
        let kept = room.floors.get(&floor).copied().unwrap_or(0);
        let fits = self.demands[base as usize].has + all <= share
            && room.taken + room.kept - kept + all <= room.ceilings.of(fold);
        if fold < Fold::Container && fits {
            room.release(floor);
            return fresh.iter().for_each(|fresh| self.admit(shelf, fresh.key, room));
        }
        for fresh in fresh {
            self.fold(shelf, fresh.key, floor, share, room);
        }
    }

    /// Shows it, or what it becomes.
    fn fold(&mut self, shelf: &mut Shelf, key: Key, floor: (usize, u32), share: usize, room: &mut Room<'_>) {
        let (mut to, mut done) = (key, None);
        loop {
            if shelf.shown.contains(&to) {
                break;
            }
            match shelf.steps[to.own as usize] {
                Some((fold, own)) => {
                    let kept = room.floors.get(&floor).copied().unwrap_or(0);
                    let has_share = self.demands[key.base as usize].has + kept + shelf.cost <= share;
                    if has_share && room.has(fold, shelf.cost) {
                        self.admit(shelf, to, room);
                        break;
                    }
                    (to.own, done) = (own, Some(fold));
                }
                None => {
                    room.release(floor);
                    let is_last = self.next.bases.text(to.base) == others();
                    if !is_last && !room.has(Fold::Container, shelf.cost) {
                        return self.send_away(shelf, key, room);
                    }
                    self.admit(shelf, to, room);
                    break;
                }
            }
        }
        if let Some(fold) = done {
            shelf.routes.insert(key, Route { to, fold });
        }
    }

    /// To the others of its workload, or to all others.
    fn send_away(&mut self, shelf: &mut Shelf, key: Key, room: &mut Room<'_>) {
        let own = shelf.coarsest(key.own);
        let of_workload = workload_of(self.next.bases.text(key.base));
        let of_workload = of_workload.map(|text| Key { base: self.next.bases.of(&text), own });
        let fits = |to: &Key, shelf: &Shelf| shelf.shown.contains(to) || room.has(Fold::Workload, shelf.cost);
        let (to, fold) = match of_workload.filter(|to| fits(to, shelf)) {
            Some(to) => (to, Fold::Container),
            None => (Key { base: self.next.bases.of(&others()), own }, Fold::Workload),
        };
        self.admit(shelf, to, room);
        shelf.routes.insert(key, Route { to, fold });
        // How much there is to give is told where the page is written.
        shelf.given.entry(to).or_default();
    }

    fn admit(&mut self, shelf: &mut Shelf, key: Key, room: &mut Room<'_>) {
        if !shelf.shown.contains(&key) {
            room.taken += shelf.cost;
        }
        self.show(shelf, key);
    }
}

impl Shelf {
    /// What would be folded next of it.
    fn stage(&self, own: u32) -> Fold {
        self.steps[own as usize].map_or(Fold::Container, |(fold, _)| fold)
    }
}
