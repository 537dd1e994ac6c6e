//! Which series are shown, and where what isn't shown is counted instead.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hash},
    sync::Arc,
};

use super::{
    Ceilings, Figures,
    fold::{Fold, folded, is_whole, workload},
    share::Demand,
};
use crate::{
    metrics::page::{Family, Page, Sample},
    mixer::Mixer,
};

mod judge;
mod write;

type Quick = BuildHasherDefault<Mixer>;

/// A series of a family: whose it is and which, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    base: u32,
    own: u32,
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.base) << 32 | u64::from(self.own));
    }
}

/// Texts by number, and the other way round.
#[derive(Default)]
struct Numbers {
    texts: Vec<Arc<str>>,
    by_text: HashMap<Arc<str>, u32>,
}

impl Numbers {
    fn of(&mut self, text: &str) -> u32 {
        if let Some(number) = self.by_text.get(text) {
            return *number;
        }
        let (text, number): (Arc<str>, _) = (text.into(), self.texts.len() as u32);
        self.texts.push(Arc::clone(&text));
        self.by_text.insert(text, number);
        number
    }

    fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }
}

/// Where a series without room is counted.
#[derive(Clone, Copy)]
struct Route {
    to: Key,
    /// What was folded last on the way there.
    fold: Fold,
}

/// A part of what a series has counted, which was given to another base and is shown there.
struct Taken {
    by: u32,
    amounts: Box<[u64]>,
}

/// What is known of one family.
#[derive(Default)]
struct Shelf {
    /// Series that one of its samples makes.
    cost: usize,
    /// Texts of its own labels.
    owns: Numbers,
    /// By the number of such a text: what it becomes when the next detail is folded.
    steps: Vec<Option<(Fold, u32)>>,
    shown: HashSet<Key, Quick>,
    routes: HashMap<Key, Route, Quick>,
    /// Of what is or was counted elsewhere: how much of it was given there, for each base once.
    taken: HashMap<Key, Vec<Taken>, Quick>,
    /// What was given to a series by others. It stays when they are gone, or shown for themselves.
    given: HashMap<Key, Box<[u64]>, Quick>,
}

impl Shelf {
    fn new(family: &Family) -> Self {
        Self { cost: family.cost(), ..Self::default() }
    }

    /// The number of a text of own labels, with all that it may become.
    fn own(&mut self, text: &str, names: &[&str]) -> u32 {
        let own = self.owns.of(text);
        if own as usize == self.steps.len() {
            self.steps.push(None);
            if let Some((fold, text)) = folded(text, names) {
                let next = self.own(&text, names);
                self.steps[own as usize] = Some((fold, next));
            }
        }
        own
    }

    /// How much of a series was given to a base.
    fn taken_by(&mut self, key: Key, by: u32, width: usize) -> &mut [u64] {
        let parts = self.taken.entry(key).or_default();
        let at = parts.iter().position(|part| part.by == by).unwrap_or_else(|| {
            parts.push(Taken { by, amounts: vec![0; width].into() });
            parts.len() - 1
        });
        &mut parts[at].amounts
    }

    /// What folding makes of it in the end.
    fn coarsest(&self, mut own: u32) -> u32 {
        while let Some((_, next)) = self.steps[own as usize] {
            own = next;
        }
        own
    }
}

/// The state of one page.
#[derive(Default)]
pub(super) struct Folding {
    bases: Numbers,
    /// In the order of the page.
    shelves: Vec<Shelf>,
}

/// A series that was not there before.
struct Fresh {
    shelf: usize,
    key: Key,
    /// What it counts.
    weight: u64,
}

/// A page on its way to what is shown of it.
struct Round {
    page: Page,
    next: Folding,
    /// By the page's number of a base: ours.
    bases: Vec<Option<u32>>,
    /// For each family, by the page's number of own labels: ours.
    owns: Vec<Vec<u32>>,
    demands: Vec<Demand>,
    /// Bases that are shown in others, with all that they have.
    is_away: Vec<bool>,
    fresh: Vec<Fresh>,
    /// For each family, what may be counted elsewhere from now on, and where it was counted until now.
    left: Vec<HashMap<Key, Key, Quick>>,
    /// Bases that were given something by those who are here, whatever they are called now.
    claimed: HashSet<u32>,
}

impl Folding {
    /// All of the page is shown.
    pub(super) fn of(page: Option<&Page>) -> Self {
        let mut folding = Self::default();
        let Some(page) = page else { return folding };
        let mut bases = vec![None; page.bases.len()];
        for family in page.families.iter().filter(|family| family.is_based) {
            let mut shelf = Shelf::new(family);
            let owns: Vec<_> = family.own.iter().map(|text| shelf.own(text, &family.names)).collect();
            shelf.shown.extend(family.samples.iter().map(|sample| {
                let number = || folding.bases.of(page.bases.piece(sample.base));
                let base = *bases[sample.base as usize].get_or_insert_with(number);
                Key { base, own: owns[sample.own as usize] }
            }));
            folding.shelves.push(shelf);
        }
        folding
    }

    /// Nothing is folded.
    pub(super) fn is_idle(&self) -> bool {
        self.shelves
            .iter()
            .all(|shelf| shelf.routes.is_empty() && shelf.given.is_empty() && shelf.taken.is_empty())
    }

    /// Who goes by other labels now takes along what was taken, and shows again what ends with the former labels.
    fn rename(&mut self, renamed: &[(String, String)], page: &Page) {
        if renamed.is_empty() {
            return;
        }
        let bases: HashSet<u32> =
            page.families.iter().flat_map(|family| &family.samples).map(|at| at.base).collect();
        let living: HashSet<&str> = bases.into_iter().map(|base| page.bases.piece(base)).collect();
        let workloads: HashSet<&str> = living.iter().map(|base| workload(base)).collect();
        let leaving: HashSet<&str> = renamed.iter().map(|(from, _)| from.as_str()).collect();
        let stays = |base: &str| living.contains(base) && !leaving.contains(base);
        let taken = self.shelves.iter().flat_map(|shelf| &shelf.taken);
        let claimed: HashSet<u32> = taken
            .filter(|(key, _)| stays(self.bases.text(key.base)))
            .flat_map(|(_, parts)| parts.iter().map(|part| part.by))
            .collect();
        let all = self.bases.texts.iter().map(|base| is_kept(base, &living, &workloads));
        let kept: Vec<bool> = (0..).zip(all).map(|(base, kept)| kept || claimed.contains(&base)).collect();
        for (from, to) in renamed {
            let Some(from) = self.bases.by_text.get(from.as_str()).copied() else { continue };
            let to = self.bases.of(to);
            for shelf in &mut self.shelves {
                let theirs: Vec<_> = shelf.taken.extract_if(|key, _| key.base == from).collect();
                for (key, parts) in theirs {
                    for part in parts.into_iter().filter(|part| kept[part.by as usize]) {
                        let taken = shelf.taken_by(Key { base: to, ..key }, part.by, part.amounts.len());
                        add(taken, &part.amounts);
                    }
                }
            }
        }
    }

    /// What follows with this page, and what of it is shown.
    pub(super) fn next(
        mut self,
        page: Page,
        renamed: &[(String, String)],
        ceilings: &Ceilings,
    ) -> (Self, Page, Figures) {
        self.rename(renamed, &page);
        let mut round = Round::new(page);
        round.take_over(self);
        if round.demands.iter().map(|demand| demand.has).sum::<usize>() < ceilings.plenty() {
            round.reconsider();
        }
        round.judge(ceilings);
        round.write()
    }
}

impl Round {
    fn new(page: Page) -> Self {
        let bases = vec![None; page.bases.len()];
        let owns = Vec::with_capacity(page.families.len());
        let (next, demands, is_away, fresh, left, claimed) = Default::default();
        Self { page, next, bases, owns, demands, is_away, fresh, left, claimed }
    }

    /// What was shown is shown again, and what was folded is folded as before.
    fn take_over(&mut self, mut former: Folding) {
        let mut nothing = Shelf::default();
        // By the page's number of a base, as with ours.
        let mut former_bases: Vec<Option<u32>> = vec![None; self.bases.len()];
        // By the former number of a base: ours.
        let mut became: Vec<Option<u32>> = vec![None; former.bases.texts.len()];
        let Folding { bases: former_texts, shelves: former_shelves } = &mut former;
        let families = std::mem::take(&mut self.page.families);
        for (at, family) in families.iter().enumerate() {
            let mut shelf = Shelf::new(family);
            let mut left = HashMap::default();
            let old = former_shelves.get_mut(at).unwrap_or(&mut nothing);
            let owns: Vec<_> = family.own.iter().map(|text| shelf.own(text, &family.names)).collect();
            let old_owns: Vec<_> =
                family.own.iter().map(|text| old.owns.by_text.get(text).copied()).collect();
            for sample in &family.samples {
                let place = sample.base as usize;
                let base = match self.bases[place] {
                    Some(base) => base,
                    None => {
                        let text = self.page.bases.piece(sample.base);
                        former_bases[place] = former_texts.by_text.get(text).copied();
                        *self.bases[place].insert(self.next.bases.of(text))
                    }
                };
                self.make_room(base);
                let key = Key { base, own: owns[sample.own as usize] };
                let was = former_bases[place].zip(old_owns[sample.own as usize]);
                let was = was.map(|(base, own)| Key { base, own });
                let mut ours = |base: u32| {
                    let new = || self.next.bases.of(former_texts.text(base));
                    *became[base as usize].get_or_insert_with(new)
                };
                if let Some(mut parts) = was.and_then(|was| old.taken.remove(&was)) {
                    parts.iter_mut().for_each(|part| part.by = ours(part.by));
                    self.claimed.extend(parts.iter().map(|part| part.by));
                    shelf.taken.insert(key, parts);
                }
                let route = was.and_then(|was| old.routes.get(&was)).map(|route| {
                    let own = shelf.own(old.owns.text(route.to.own), &family.names);
                    Route { to: Key { base: ours(route.to.base), own }, ..*route }
                });
                if let Some(Route { to, .. }) = route.filter(|route| route.to.base == base) {
                    self.show(&mut shelf, to);
                }
                match route {
                    // It was shown for others, and is for itself from now on.
                    route if was.is_some_and(|was| old.shown.contains(&was)) => {
                        self.show(&mut shelf, key);
                        left.extend(route.map(|route| (key, route.to)));
                    }
                    Some(route) => {
                        shelf.routes.insert(key, route);
                        self.is_away[base as usize] |= route.to.base != base;
                    }
                    None => self.judge_later(at, key, family, sample, shelf.cost),
                }
            }
            self.owns.push(owns);
            self.next.shelves.push(shelf);
            self.left.push(left);
        }
        self.page.families = families;
        self.keep_given(former);
        // One of which something is shown is not away as a whole.
        for (is_away, demand) in self.is_away.iter_mut().zip(&self.demands) {
            *is_away &= demand.has == 0;
        }
    }

    /// What is folded is judged once more, as if it were new.
    fn reconsider(&mut self) {
        let families = std::mem::take(&mut self.page.families);
        for (at, family) in families.iter().enumerate() {
            for sample in &family.samples {
                let Some(base) = self.bases[sample.base as usize] else { continue };
                let key = Key { base, own: self.owns[at][sample.own as usize] };
                let shelf = &mut self.next.shelves[at];
                let cost = shelf.cost;
                if let Some(Route { to, .. }) = shelf.routes.remove(&key) {
                    self.left[at].insert(key, to);
                    self.is_away[base as usize] = false;
                    self.judge_later(at, key, family, sample, cost);
                }
            }
        }
        self.page.families = families;
    }

    fn judge_later(&mut self, shelf: usize, key: Key, family: &Family, sample: &Sample, cost: usize) {
        let amounts = family.amounts(sample);
        let weight = if amounts.len() > 1 { amounts[1..].iter().sum() } else { amounts[0] };
        self.fresh.push(Fresh { shelf, key, weight });
        self.demands[key.base as usize].wants += cost;
    }

    /// What was given stays for as long as there is somebody of the same workload, or somebody who has given.
    fn keep_given(&mut self, former: Folding) {
        let here = self.bases.iter().flatten();
        let texts: Vec<_> = here.map(|base| Arc::clone(&self.next.bases.texts[*base as usize])).collect();
        let living: HashSet<&str> = texts.iter().map(|text| &**text).collect();
        let workloads: HashSet<&str> = living.iter().map(|text| workload(text)).collect();
        for (at, old) in former.shelves.into_iter().enumerate().take(self.next.shelves.len()) {
            let mut shelf = std::mem::take(&mut self.next.shelves[at]);
            for (was, amounts) in old.given {
                let text = former.bases.text(was.base);
                let is_claimed =
                    self.next.bases.by_text.get(text).is_some_and(|base| self.claimed.contains(base));
                if is_claimed || is_kept(text, &living, &workloads) {
                    let own = shelf.own(old.owns.text(was.own), &self.page.families[at].names);
                    let key = Key { base: self.next.bases.of(text), own };
                    shelf.given.insert(key, amounts);
                    self.show(&mut shelf, key);
                }
            }
            self.next.shelves[at] = shelf;
        }
    }

    fn show(&mut self, shelf: &mut Shelf, key: Key) {
        self.make_room(key.base);
        if shelf.shown.insert(key) {
            self.demands[key.base as usize].has += shelf.cost;
        }
    }

    fn make_room(&mut self, base: u32) {
        let room = (base as usize + 1).max(self.demands.len());
        self.demands.resize(room, Demand::default());
        self.is_away.resize(room, false);
    }
}

/// Whether a base is there for itself, for its workload, or for all others.
fn is_kept(base: &str, living: &HashSet<&str>, workloads: &HashSet<&str>) -> bool {
    living.contains(base) || is_whole(base) && workloads.contains(workload(base)) || base == others()
}

fn add(sums: &mut [u64], amounts: &[u64]) {
    sums.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount);
}

/// The base labels of all others.
fn others() -> String {
    crate::metrics::labels::text(&crate::identity::Labels::other())
}
