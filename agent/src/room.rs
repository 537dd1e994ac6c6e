//! Room that tables keep when those who filled it have gone: as much as they have ever needed at once.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash},
};

use hashlink::LinkedHashMap;

/// Entries that a table may have room for at any time.
const ALWAYS: usize = 64;

/// A table that can be made smaller.
pub(crate) trait Table {
    /// Gives most of the room back if less than a quarter of it is in use. Half of what stays is free then, so that a
    /// table whose size goes up and down a little is left as it is.
    fn give_room_back(&mut self);
}

impl<K: Eq + Hash, V, S: BuildHasher> Table for HashMap<K, V, S> {
    fn give_room_back(&mut self) {
        if let Some(room) = enough(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<T: Eq + Hash> Table for HashSet<T> {
    fn give_room_back(&mut self) {
        if let Some(room) = enough(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

/// A list that is filled again and again: its length is that of the last time.
impl<T> Table for Vec<T> {
    fn give_room_back(&mut self) {
        if let Some(room) = enough(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

/// Of one that knows who came first, no more stays than is in use.
impl<K: Eq + Hash, V, S: BuildHasher> Table for LinkedHashMap<K, V, S> {
    fn give_room_back(&mut self) {
        if enough(self.len(), self.capacity()).is_some() {
            self.shrink_to_fit();
        }
    }
}

/// How much room is enough, if there is too much.
fn enough(len: usize, capacity: usize) -> Option<usize> {
    let needed = len.max(ALWAYS);
    (capacity / 4 > needed).then_some(2 * needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_goes_with_those_who_needed_it_and_not_before() {
        let mut table: HashMap<u32, u32> = (0..10_000).map(|number| (number, number)).collect();
        let full = table.capacity();
        table.give_room_back();
        assert_eq!(table.capacity(), full);
        table.retain(|number, _| *number < 5000);
        table.give_room_back();
        assert!(table.capacity() > full / 2, "half full: {} of {full}", table.capacity());
        table.retain(|number, _| *number < 10);
        table.give_room_back();
        assert!(table.capacity() < full / 32 && table.len() == 10, "{} of {full}", table.capacity());
        table.clear();
        table.give_room_back();
        assert!(table.capacity() >= ALWAYS, "a little is kept");
    }
}
