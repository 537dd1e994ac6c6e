//! Texts of labels, and what is kept of them from one scrape to the next.
//!
//! Most containers are there at every scrape. Their place on the page and the text of their base labels are worked
//! out once, and found again by where their labels lie.

use std::{collections::HashMap, hash::BuildHasherDefault, sync::Arc};

use super::{Detail, page::Base};
use crate::{identity::Labels, mixer::Mixer};

/// Entries that may be kept for nothing, besides a quarter of those that are needed.
const SPARE: usize = 64;

/// Pieces of text in one block.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Where the next piece is to be written.
    pub(super) fn begin(&mut self) -> &mut String {
        &mut self.text
    }

    /// The piece is complete; its number.
    pub(super) fn end(&mut self) -> u32 {
        self.ends.push(self.text.len());
        self.ends.len() as u32 - 1
    }

    pub(super) fn piece(&self, number: u32) -> &str {
        let number = number as usize;
        let begin = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.text[begin..self.ends[number]]
    }

    /// One more piece; its number.
    pub(super) fn push(&mut self, piece: &str) -> u32 {
        self.begin().push_str(piece);
        self.end()
    }

    /// Pieces so far.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|number| self.piece(number))
    }

    fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// Labels that were shown, in the order of the page.
#[derive(Default)]
pub(super) struct Bases {
    /// In the order in which they came.
    entries: Vec<Entry>,
    /// By the address of the labels, of which there is only one as long as the entry holds them.
    by_address: HashMap<usize, u32, BuildHasherDefault<Mixer>>,
    texts: Arc<Texts>,
    scrape: u64,
    detail: Detail,
}

struct Entry {
    /// By whose address it is known.
    origin: Arc<Labels>,
    /// As they are shown.
    labels: Arc<Labels>,
    /// None until it was placed.
    base: Option<Base>,
    /// The last scrape that it was part of.
    seen: u64,
}

impl Bases {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, ..Self::default() }
    }

    /// Gives all of these their places. Equal labels share one.
    pub(super) fn place<'a>(&mut self, shown: impl Iterator<Item = &'a Arc<Labels>>) -> Vec<Base> {
        self.forget();
        self.scrape += 1;
        let entries: Vec<usize> = shown.map(|labels| self.entry(labels)).collect();
        if self.entries.iter().any(|entry| entry.base.is_none()) {
            self.arrange();
        }
        let base = |entry: usize| self.entries[entry].base.unwrap_or(Base(0));
        entries.into_iter().map(base).collect()
    }

    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text of each place.
    pub(super) fn texts(&self) -> Arc<Texts> {
        Arc::clone(&self.texts)
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        // A table of the standard library has a byte for each place besides.
        let by_address = self.by_address.capacity() * (size_of::<(usize, u32)>() + 1);
        self.texts.bytes() + self.entries.capacity() * size_of::<Entry>() + by_address
    }

    fn entry(&mut self, labels: &Arc<Labels>) -> usize {
        let next = self.entries.len();
        let entry = *self.by_address.entry(Arc::as_ptr(labels).addr()).or_insert(next as u32) as usize;
        if entry == next {
            let shown = self.detail.shown(labels);
            self.entries.push(Entry { origin: Arc::clone(labels), labels: shown, base: None, seen: 0 });
        }
        self.entries[entry].seen = self.scrape;
        entry
    }

    /// Forgets those that were not part of the last scrape, if they are many.
    fn forget(&mut self) {
        let is_needed = |entry: &Entry| entry.seen == self.scrape;
        let needed = self.entries.iter().filter(|entry| is_needed(entry)).count();
        if self.entries.len() - needed <= needed / 4 + SPARE {
            return;
        }
        self.entries.retain(is_needed);
        self.entries.shrink_to_fit();
        let address = |entry: &Entry| Arc::as_ptr(&entry.origin).addr();
        self.by_address = self.entries.iter().map(address).zip(0..).collect();
        self.arrange();
    }

    /// Sorts anew. Texts that are there are taken over.
    fn arrange(&mut self) {
        let mut order: Vec<&mut Entry> = self.entries.iter_mut().collect();
        // The old ones among themselves first: a stable sort takes a run that is in order as it is.
        order.sort_by_key(|entry| entry.base.map_or(u32::MAX, |base| base.0));
        order.sort_by(|one, other| one.labels.cmp(&other.labels));
        let former = std::mem::take(&mut self.texts);
        let mut texts = Texts::default();
        let mut before: Option<(&Labels, Base)> = None;
        for Entry { labels, base, .. } in order {
            let place = match before {
                Some((equal, place)) if *equal == **labels => place,
                _ => {
                    let text = texts.begin();
                    match base {
                        Some(old) => text.push_str(former.piece(old.0)),
                        None => render(text, labels),
                    }
                    Base(texts.end())
                }
            };
            *base = Some(place);
            before = Some((labels, place));
        }
        texts.text.shrink_to_fit();
        texts.ends.shrink_to_fit();
        self.texts = Arc::new(texts);
    }
}

/// As they stand on the page.
pub(super) fn text(labels: &Labels) -> String {
    let mut text = String::new();
    render(&mut text, labels);
    text
}

fn render(text: &mut String, labels: &Labels) {
    for (i, (name, value)) in Labels::NAMES.into_iter().zip(labels.values()).enumerate() {
        if i > 0 {
            text.push(',');
        }
        push(text, name, value);
    }
}

/// `name="value"`, as both formats want it.
pub(super) fn push(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str("=\"");
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(workload: &str) -> Arc<Labels> {
        Arc::new(Labels { workload: workload.into(), ..Labels::default() })
    }

    fn workloads(bases: &mut Bases, shown: &[Arc<Labels>]) -> Vec<String> {
        let places = bases.place(shown.iter());
        let texts = bases.texts();
        let mut sorted: Vec<_> = places.iter().zip(shown).collect();
        sorted.sort_by_key(|(base, _)| **base);
        for (base, labels) in &sorted {
            assert!(texts.piece(base.0).contains(&format!("workload=\"{}\"", labels.workload)));
        }
        sorted.into_iter().map(|(_, labels)| labels.workload.clone()).collect()
    }

    #[test]
    fn whoever_comes_finds_a_place_among_the_others() {
        let mut bases = Bases::default();
        let mut shown = vec![labels("m"), labels("c"), labels("x")];
        assert_eq!(workloads(&mut bases, &shown), ["c", "m", "x"]);
        shown.extend([labels("n"), labels("a"), labels("c")]);
        assert_eq!(workloads(&mut bases, &shown), ["a", "c", "c", "m", "n", "x"]);
        let places = bases.place(shown.iter());
        assert_eq!(places[1], places[5], "equal labels share a place");
        shown.remove(0);
        assert_eq!(workloads(&mut bases, &shown), ["a", "c", "c", "n", "x"]);
    }

    #[test]
    fn whoever_is_gone_is_forgotten_in_time() {
        let mut bases = Bases::default();
        let many: Vec<_> = (0..1000).map(|number| labels(&number.to_string())).collect();
        workloads(&mut bases, &many);
        let kept = bases.bytes();
        let few = [Arc::clone(&many[7]), labels("new")];
        workloads(&mut bases, &few);
        assert_eq!(workloads(&mut bases, &few), ["7", "new"]);
        assert_eq!(bases.entries.len(), 2);
        assert!(bases.bytes() < kept / 100, "{} of {kept}", bases.bytes());
        assert_eq!(Arc::strong_count(&many[0]), 1);
    }

    #[test]
    fn values_are_escaped() {
        let mut text = String::new();
        push(&mut text, "a", "b\\\"c\nd");
        assert_eq!(text, r#"a="b\\\"c\nd""#);
    }
}
