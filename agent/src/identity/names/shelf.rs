//! The facts of one kind from one source, by key.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::NameBounds;
use crate::room::Table as _;

pub(super) trait Fact: PartialEq {
    fn key(&self) -> &str;

    /// Other keys to find it by.
    fn aliases(&self) -> &[String] {
        &[]
    }

    /// How much of what was said there was no room for.
    fn left_out(&self) -> u64 {
        0
    }
}

#[derive(Debug)]
pub(super) struct Shelf<T> {
    bounds: NameBounds,
    facts: HashMap<String, Entry<T>>,
    /// Alias to key.
    aliases: HashMap<String, String>,
    /// The keys of the dead, longest dead first.
    dead: BTreeSet<(Instant, String)>,
    /// New since [`Shelf::take_fresh`].
    fresh: Vec<String>,
    refused: u64,
}

#[derive(Debug)]
struct Entry<T> {
    fact: T,
    died: Option<Instant>,
    /// Whether somebody who disagrees was counted.
    disputed: AtomicBool,
}

impl<T: Fact> Shelf<T> {
    pub(super) fn new(bounds: NameBounds) -> Self {
        Self {
            bounds,
            facts: HashMap::new(),
            aliases: HashMap::new(),
            dead: BTreeSet::new(),
            fresh: Vec::new(),
            refused: 0,
        }
    }

    /// By key or alias, alive or dead.
    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.entry(key).map(|entry| &entry.fact)
    }

    /// Whether this is the first dispute about the fact.
    pub(super) fn dispute(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|entry| !entry.disputed.swap(true, Ordering::Relaxed))
    }

    /// Whether this is news.
    pub(super) fn put(&mut self, fact: T, now: Instant) -> bool {
        self.expire(now);
        let key = fact.key().to_owned();
        if let Some(entry) = self.facts.get_mut(&key) {
            if let Some(died) = entry.died.take() {
                self.dead.remove(&(died, key.clone()));
            }
            if entry.fact == fact {
                return false;
            }
        } else if !self.make_room() {
            self.refused += 1;
            return false;
        }
        self.remove(&key);
        for alias in fact.aliases() {
            self.aliases.insert(alias.clone(), key.clone());
        }
        self.refused += fact.left_out();
        self.fresh.push(key.clone());
        self.facts.insert(key, Entry { fact, died: None, disputed: AtomicBool::new(false) });
        true
    }

    /// The one that the fact is about is gone.
    pub(super) fn bury(&mut self, key: &str, now: Instant) {
        if let Some(entry) = self.facts.get_mut(key).filter(|entry| entry.died.is_none()) {
            entry.died = Some(now);
            self.dead.insert((now, key.to_owned()));
        }
    }

    /// Takes in all that there is. Whether any of it is news.
    pub(super) fn replace(&mut self, facts: Vec<T>, now: Instant) -> bool {
        let listed: HashSet<&str> = facts.iter().map(T::key).collect();
        let gone: Vec<String> =
            self.facts.keys().filter(|key| !listed.contains(key.as_str())).cloned().collect();
        for key in gone {
            self.bury(&key, now);
        }
        facts.into_iter().map(|fact| self.put(fact, now)).filter(|is_news| *is_news).count() > 0
    }

    /// Forgets who has been dead for the grace.
    pub(super) fn expire(&mut self, now: Instant) {
        let grace = self.bounds.grace;
        while self.dead.first().is_some_and(|(died, _)| now.saturating_duration_since(*died) >= grace) {
            self.forget_longest_dead();
        }
    }

    pub(super) fn give_room_back(&mut self) {
        self.facts.give_room_back();
        self.aliases.give_room_back();
    }

    /// The facts that came since this was last asked for, by key.
    pub(super) fn take_fresh(&mut self) -> Vec<String> {
        std::mem::take(&mut self.fresh)
    }

    pub(super) fn len(&self) -> usize {
        self.facts.len()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    fn entry(&self, key: &str) -> Option<&Entry<T>> {
        self.facts.get(key).or_else(|| self.facts.get(self.aliases.get(key)?))
    }

    fn make_room(&mut self) -> bool {
        self.facts.len() < self.bounds.containers || self.forget_longest_dead()
    }

    fn forget_longest_dead(&mut self) -> bool {
        let Some((_, key)) = self.dead.pop_first() else {
            return false;
        };
        self.remove(&key);
        true
    }

    fn remove(&mut self, key: &str) {
        let Some(entry) = self.facts.remove(key) else {
            return;
        };
        for alias in entry.fact.aliases() {
            // A successor may have taken the alias over: a static pod whose mirror was made again.
            if self.aliases.get(alias).is_some_and(|owner| owner == key) {
                self.aliases.remove(alias);
            }
        }
    }
}
