//! A map with a bound, out of which the oldest go.

use std::hash::Hash;

use hashlink::LinkedHashMap;

use crate::room::Table as _;

/// Reading keeps nothing young: what counts is when something came.
#[derive(Debug)]
pub(super) struct Oldest<K: Eq + Hash, V> {
    entries: LinkedHashMap<K, V>,
    bound: usize,
    evicted: u64,
}

impl<K: Copy + Eq + Hash, V> Oldest<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        Self { entries: LinkedHashMap::new(), bound: bound.max(1), evicted: 0 }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let removed = self.entries.remove(key);
        self.entries.give_room_back();
        removed
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        // One that is there makes room for itself: it comes again, and is young.
        self.entries.insert(key, value);
        if self.entries.len() > self.bound {
            self.entries.pop_front();
            self.evicted += 1;
        }
    }

    /// How many have gone for others.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::Oldest;

    #[test]
    fn the_oldest_go_and_are_counted() {
        let mut map = Oldest::new(3);
        for key in 0..5 {
            map.insert(key, key * 10);
        }
        assert_eq!((map.remove(&1), map.remove(&2), map.evicted()), (None, Some(20), 2));
        // One that comes again is young.
        map.insert(3, 31);
        map.insert(5, 50);
        map.insert(6, 60);
        assert_eq!(map.get_mut(&4), None);
        assert_eq!(map.get_mut(&3), Some(&mut 31));
    }
}
