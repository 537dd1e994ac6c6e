//! Container slots, seen from user space: who has which, and how a dead one's comes back.

use std::sync::atomic::Ordering;

use agent_ebpf::contract::{
    control::{Bucket, Control},
    slot::{CACHE_CELLS, EXCLUDED, OVERFLOW, cache_hit, cache_index},
    syscalls::Mode,
};
use aya::maps::{HashMap, MapData, MapError, Stack};

use super::Table;

pub(super) const GENERATION: usize = std::mem::offset_of!(Control, generation) / 8;

/// The slots of one loaded kernel half.
pub struct Slots {
    pub(super) owners: Table<u64>,
    pub(super) cache: Table<u64>,
    pub(super) by_cgroup: HashMap<MapData, u64, u32>,
    pub(super) free: Stack<MapData, u32>,
    pub(super) buckets: Table<Bucket>,
    pub(super) modes: Table<u64>,
    pub(super) control: Table<Control>,
    /// What a slot's mode is until somebody sets another one.
    pub(super) mode: Mode,
}

impl Slots {
    /// Fills the stack of free slots: all but the overflow slot. The lowest ones are given out first, and those that
    /// come back again before others, so that of the tables no more is in use than has to be.
    pub(super) fn offer_all(&mut self) -> Result<(), MapError> {
        (OVERFLOW..self.count()).for_each(|slot| self.set_mode(slot, self.mode));
        (OVERFLOW + 1..self.owners.entries()).rev().try_for_each(|slot| self.free.push(slot, 0))
    }

    /// Slots in the tables, the overflow slot included.
    pub fn count(&self) -> u32 {
        self.owners.entries()
    }

    /// Slots that are given out, with their cgroups' ids.
    pub fn owners(&self) -> impl Iterator<Item = (u32, u64)> {
        (OVERFLOW + 1..self.count()).map(|slot| (slot, self.owners.load(slot, 0))).filter(|(_, id)| *id != 0)
    }

    /// Events of this slot's container that its token bucket has refused.
    pub fn throttled(&self, slot: u32) -> u64 {
        self.buckets.load(slot, std::mem::offset_of!(Bucket, throttled) / 8)
    }

    /// How the system calls of the slot's container are measured from now on, where containers may differ in that.
    pub fn set_mode(&self, slot: u32, mode: Mode) {
        self.modes.store(slot, 0, mode as u64);
    }

    /// Takes the slot from a cgroup that has died. No task is left in it, so no program asks for the slot; its
    /// counters stay as they are until [`Self::give_back`].
    pub fn unbind(&mut self, slot: u32, cgroup_id: u64) {
        // Not there any more: somebody else's business is done already.
        let _ = self.by_cgroup.remove(&cgroup_id);
        self.forget_cached(cgroup_id);
        self.owners.store(slot, 0, 0);
    }

    /// From now on, programs pass over the cgroup. Its slot, if it has one, is to be given back a while later: a
    /// program under way may still write to it, or put it into the cache once more.
    pub fn exclude(&mut self, cgroup_id: u64) -> Result<Option<u32>, MapError> {
        let slot = self.owners().find(|(_, owner)| *owner == cgroup_id).map(|(slot, _)| slot);
        self.by_cgroup.insert(cgroup_id, EXCLUDED, 0)?;
        self.forget_cached(cgroup_id);
        if let Some(slot) = slot {
            self.owners.store(slot, 0, 0);
        }
        Ok(slot)
    }

    /// Ends [`Self::exclude`], because the cgroup has died or somebody wants to observe it again.
    pub fn include(&mut self, cgroup_id: u64) {
        let _ = self.by_cgroup.remove(&cgroup_id);
        self.forget_cached(cgroup_id);
    }

    /// Makes programs ask the hash about this cgroup again.
    pub fn forget_cached(&self, cgroup_id: u64) {
        if let [cell] = self.cache.words(cache_index(cgroup_id)) {
            let seen = cell.load(Ordering::Relaxed);
            if cache_hit(seen, cgroup_id).is_some() {
                // Only if it still is this cgroup's: a program may put another one there at any time.
                let _ = cell.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        self.forget_running();
    }

    /// Makes every CPU look up again whose task runs there.
    fn forget_running(&self) {
        if let Some(generation) = self.control.words(0).get(GENERATION)
            && generation.load(Ordering::Relaxed) != 0
        {
            generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Makes an unbound slot, whose counters were zeroed, free for the next cgroup.
    pub fn give_back(&mut self, slot: u32) -> Result<(), MapError> {
        self.buckets.clear(slot);
        self.set_mode(slot, self.mode);
        self.free.push(slot, 0)?;
        // Cgroups that had to share the overflow slot may now ask again.
        for index in 0..CACHE_CELLS {
            if let [cell] = self.cache.words(index) {
                let seen = cell.load(Ordering::Relaxed);
                if seen != 0 && cache_hit(seen, seen >> 16) == Some(OVERFLOW) {
                    let _ = cell.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
                }
            }
        }
        self.forget_running();
        Ok(())
    }
}
