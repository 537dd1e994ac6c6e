//! A map with a bound, out of which the oldest go.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

#[derive(Debug)]
pub(super) struct Oldest<K, V> {
    bound: usize,
    entries: HashMap<K, (u64, V)>,
    /// Keys in the order in which they came, some of which are gone or have come again.
    order: VecDeque<(u64, K)>,
    next: u64,
    evicted: u64,
}

impl<K: Copy + Eq + Hash, V> Oldest<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound: bound.max(1), entries: HashMap::new(), order: VecDeque::new(), next: 0, evicted: 0 }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.next += 1;
        let is_new = self.entries.insert(key, (self.next, value)).is_none();
        self.order.push_back((self.next, key));
        while is_new && self.entries.len() > self.bound {
            let Some((stamp, oldest)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|(current, _)| *current == stamp) {
                self.entries.remove(&oldest);
                self.evicted += 1;
            }
        }
        if self.order.len() > 2 * self.bound {
            let entries = &self.entries;
            self.order.retain(|(stamp, key)| entries.get(key).is_some_and(|(current, _)| current == stamp));
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

    #[test]
    fn the_order_does_not_grow_without_end() {
        let mut map = Oldest::new(4);
        for key in 0..10_000u32 {
            map.insert(key % 3, key);
            map.remove(&(key % 2));
        }
        assert!(map.order.len() <= 9 && map.evicted() == 0, "{}", map.order.len());
    }
}
