//! Which series are shown, and where what isn't shown is counted instead.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{BuildHasherDefault, Hash},
    sync::Arc,
};

use self::write::add;
use super::{
    Figures,
    fold::{Fold, folded, workload},
    share::Demand,
};
use crate::{
    metrics::page::{Family, Page},
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
    /// Of what is or was counted for another base: how much of it was given there.
    taken: HashMap<Key, Box<[u64]>, Quick>,
    /// What was given to a base by others. It stays when they are gone.
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

    /// What was taken from one is taken from the other, but for what was given to a workload that it leaves.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let Some(from) = self.bases.by_text.get(from).copied().filter(|_| from != to) else { return };
        let stays = workload(self.bases.text(from)) == workload(to);
        let to = self.bases.of(to);
        for shelf in &mut self.shelves {
            let theirs: Vec<_> = shelf.taken.extract_if(|key, _| key.base == from).collect();
            for (key, amounts) in theirs {
                if !stays && shelf.routes.get(&key).is_some_and(|route| route.fold == Fold::Container) {
                    continue;
                }
                match shelf.taken.entry(Key { base: to, ..key }) {
                    Entry::Occupied(mut taken) => add(taken.get_mut(), &amounts),
                    Entry::Vacant(place) => drop(place.insert(amounts)),
                }
            }
        }
    }

    /// What follows with this page, and what of it is shown.
    pub(super) fn next(self, page: Page, ceiling: impl Fn(Fold) -> usize) -> (Self, Page, Figures) {
        let mut round = Round::new(page);
        round.take_over(self);
        round.judge(ceiling);
        round.write()
    }
}

impl Round {
    fn new(page: Page) -> Self {
        let bases = vec![None; page.bases.len()];
        let owns = Vec::with_capacity(page.families.len());
        let (next, demands, is_away, fresh) = Default::default();
        Self { page, next, bases, owns, demands, is_away, fresh }
    }

    /// What was shown is shown again, and what was folded is folded as before.
    fn take_over(&mut self, mut former: Folding) {
        let mut nothing = Shelf::default();
        // By the page's number of a base, as with ours.
        let mut former_bases: Vec<Option<u32>> = vec![None; self.bases.len()];
        let families = std::mem::take(&mut self.page.families);
        for (at, family) in families.iter().enumerate() {
            let mut shelf = Shelf::new(family);
            let old = former.shelves.get_mut(at).unwrap_or(&mut nothing);
            let owns: Vec<_> = family.own.iter().map(|text| shelf.own(text, &family.names)).collect();
            let old_owns: Vec<_> =
                family.own.iter().map(|text| old.owns.by_text.get(text).copied()).collect();
            for sample in &family.samples {
                let place = sample.base as usize;
                let base = match self.bases[place] {
                    Some(base) => base,
                    None => {
                        let text = self.page.bases.piece(sample.base);
                        former_bases[place] = former.bases.by_text.get(text).copied();
                        *self.bases[place].insert(self.next.bases.of(text))
                    }
                };
                self.make_room(base);
                let key = Key { base, own: owns[sample.own as usize] };
                let was = former_bases[place].zip(old_owns[sample.own as usize]);
                let was = was.map(|(base, own)| Key { base, own });
                shelf.taken.extend(was.and_then(|was| Some((key, old.taken.remove(&was)?))));
                if was.is_some_and(|was| old.shown.contains(&was)) {
                    self.show(&mut shelf, key);
                } else if let Some((was, route)) = was.and_then(|was| Some((was, *old.routes.get(&was)?))) {
                    let own = shelf.own(old.owns.text(route.to.own), &family.names);
                    if route.to.base == was.base {
                        let to = Key { base, own };
                        shelf.routes.insert(key, Route { to, ..route });
                        self.show(&mut shelf, to);
                    } else {
                        let to = Key { base: self.next.bases.of(former.bases.text(route.to.base)), own };
                        shelf.routes.insert(key, Route { to, ..route });
                        self.is_away[base as usize] = true;
                    }
                } else {
                    let amounts = family.amounts(sample);
                    let weight = if amounts.len() > 1 { amounts[1..].iter().sum() } else { amounts[0] };
                    self.fresh.push(Fresh { shelf: at, key, weight });
                    self.demands[base as usize].wants += shelf.cost;
                }
            }
            self.owns.push(owns);
            self.next.shelves.push(shelf);
        }
        self.page.families = families;
        self.keep_given(former);
        // One of which something is shown is not away as a whole.
        for (is_away, demand) in self.is_away.iter_mut().zip(&self.demands) {
            *is_away &= demand.has == 0;
        }
    }

    /// What was given stays for as long as there is somebody of the same workload.
    fn keep_given(&mut self, former: Folding) {
        let rows = self.bases.iter().flatten();
        let living: HashSet<String> =
            rows.map(|base| workload(self.next.bases.text(*base)).to_owned()).collect();
        let others = others();
        for (at, old) in former.shelves.into_iter().enumerate().take(self.next.shelves.len()) {
            let mut shelf = std::mem::take(&mut self.next.shelves[at]);
            for (was, amounts) in old.given {
                let text = former.bases.text(was.base);
                if text == others || living.contains(workload(text)) {
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

/// The base labels of all others.
fn others() -> String {
    crate::metrics::labels::text(&crate::identity::Labels::other())
}
