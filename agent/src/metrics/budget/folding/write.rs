//! The page as it is shown.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{Folding, Key, Quick, Round, Shelf, add};
use crate::metrics::{
    budget::Figures,
    labels::Texts,
    page::{Family, Page, Sample},
};

/// Sums of series, all of the same width.
struct Sums {
    width: usize,
    at: HashMap<Key, usize, Quick>,
    values: Vec<u64>,
}

impl Sums {
    fn add(&mut self, key: Key, amounts: &[u64]) {
        let at = *self.at.entry(key).or_insert(self.values.len());
        if at == self.values.len() {
            self.values.extend_from_slice(amounts);
        } else {
            add(&mut self.values[at..][..self.width], amounts);
        }
    }
}

/// What has come since. What has gone back has begun anew.
fn since(amounts: &[u64], taken: &[u64]) -> Vec<u64> {
    amounts.iter().zip(taken).map(|(amount, taken)| amount.saturating_sub(*taken)).collect()
}

impl Round {
    pub(super) fn write(self) -> (Folding, Page, Figures) {
        let Self { mut page, mut next, bases, owns, left, .. } = self;
        let mut figures = Figures::default();
        // By our number, the page's.
        let mut places: Vec<Option<u32>> = vec![None; next.bases.texts.len()];
        for (place, base) in (0..).zip(&bases) {
            if let Some(base) = base {
                places[*base as usize] = Some(place);
            }
        }
        let mut texts: Option<Texts> = None;
        let families = page.families.iter_mut().zip(&mut next.shelves).zip(&owns).zip(&left);
        for (((family, shelf), owns), left) in families {
            let sums = sums(family, shelf, &bases, owns, left);
            let mut own_places: Vec<Option<u32>> = vec![None; shelf.owns.texts.len()];
            for (place, own) in (0..).zip(owns) {
                own_places[*own as usize] = Some(place);
            }
            let mut rows: Vec<(u32, u32, usize)> = Vec::with_capacity(sums.at.len());
            for (key, at) in sums.at {
                let base = places[key.base as usize].get_or_insert_with(|| {
                    let texts = texts.get_or_insert_with(|| Texts::clone(&page.bases));
                    texts.push(next.bases.text(key.base))
                });
                let own = own_places[key.own as usize]
                    .get_or_insert_with(|| family.own.push(shelf.owns.text(key.own)));
                rows.push((*base, *own, at));
            }
            rows.sort_unstable();
            // An exemplar is one of what its series stands for, too.
            family.marks.retain_mut(|mark| {
                let Some(base) = bases[mark.base as usize] else { return false };
                let key = Key { base, own: owns[mark.own as usize] };
                let to = shelf.routes.get(&key).map_or(key, |route| route.to);
                let place = places[to.base as usize].zip(own_places[to.own as usize]);
                place.map(|(base, own)| (mark.base, mark.own) = (base, own)).is_some()
            });
            family.settle_marks();
            family.samples.clear();
            family.counts.clear();
            for (base, own, at) in rows {
                let values = &sums.values[at..][..sums.width];
                let value = if sums.width > 1 {
                    family.counts.extend_from_slice(values);
                    (family.counts.len() - sums.width) as u64
                } else {
                    values[0]
                };
                family.samples.push(Sample { base, own, value });
            }
            figures.series += family.samples.len() * shelf.cost;
            for route in shelf.routes.values() {
                figures.folded[route.fold as usize] += shelf.cost;
            }
        }
        if let Some(texts) = texts {
            page.bases = Arc::new(texts);
        }
        (next, page, figures)
    }
}

impl Shelf {
    /// Shows in another series what has come since this was done last.
    fn give(&mut self, key: Key, to: Key, amounts: &[u64]) {
        let parts = self.taken.get(&key).into_iter().flatten().filter(|part| part.by != to.base);
        let theirs = parts.fold(Cow::Borrowed(amounts), |rest, part| since(&rest, &part.amounts).into());
        let taken = self.taken_by(key, to.base, amounts.len());
        let more = since(&theirs, taken);
        taken.copy_from_slice(&theirs);
        let given = self.given.entry(to).or_default();
        if given.is_empty() {
            *given = more.into();
        } else {
            add(given, &more);
        }
    }

    /// What of a series isn't shown in others.
    fn rest<'a>(&self, key: Key, amounts: &'a [u64]) -> Cow<'a, [u64]> {
        let parts = self.taken.get(&key).into_iter().flatten();
        parts.fold(Cow::Borrowed(amounts), |rest, part| since(&rest, &part.amounts).into())
    }
}

/// What each series shows.
fn sums(
    family: &Family,
    shelf: &mut Shelf,
    bases: &[Option<u32>],
    owns: &[u32],
    left: &HashMap<Key, Key, Quick>,
) -> Sums {
    let mut sums = Sums { width: family.width(), at: HashMap::default(), values: Vec::new() };
    for sample in &family.samples {
        let amounts = family.amounts(sample);
        let Some(base) = bases[sample.base as usize] else { continue };
        let key = Key { base, own: owns[sample.own as usize] };
        let to = shelf.routes.get(&key).map_or(key, |route| route.to);
        // What it has counted where it was until now stays there.
        if let Some(former) = left.get(&key).filter(|former| **former != to) {
            shelf.give(key, *former, amounts);
        }
        if to.base == base {
            sums.add(to, &shelf.rest(key, amounts));
        } else {
            shelf.give(key, to, amounts);
        }
    }
    for (key, given) in &shelf.given {
        sums.add(*key, given);
    }
    sums
}
