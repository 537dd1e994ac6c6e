//! A map with a bound, out of which the oldest go.

use std::{hash::Hash, num::NonZeroUsize};

use lru::LruCache;

/// Reading keeps nothing young: what counts is when something came.
#[derive(Debug)]
pub(super) struct Oldest<K: Eq + Hash, V> {
    entries: LruCache<K, V>,
    evicted: u64,
}

impl<K: Copy + Eq + Hash, V> Oldest<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        let bound = NonZeroUsize::new(bound).unwrap_or(NonZeroUsize::MIN);
        Self { entries: LruCache::sparse(bound), evicted: 0 }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.peek_mut(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.pop(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let gone = self.entries.push(key, value);
        // What has made room for others, not for what is called the same.
        self.evicted += u64::from(gone.is_some_and(|(gone, _)| gone != key));
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
