//! The container slots: see `contract::slot`.

use agent_ebpf::contract::slot::{CACHE_CELLS, OVERFLOW, cache_hit, cache_index, cache_pack};
use aya_ebpf::bindings::BPF_NOEXIST;

use super::{
    load::masked,
    maps::{CGROUP_SLOTS, FREE_SLOTS, SLOT_OWNERS},
    shared::SLOT_CACHE,
};

/// The slot of a cgroup, given out at its first use.
#[inline(always)]
pub(crate) fn of(cgroup_id: u64) -> u32 {
    // SAFETY: memory of ours, read as one word.
    match cache_hit(unsafe { place(cgroup_id).read_volatile() }, cgroup_id) {
        Some(slot) => slot,
        None => find(cgroup_id),
    }
}

/// The cell of the cache that this cgroup maps to.
#[inline(always)]
fn place(cgroup_id: u64) -> *mut u64 {
    let index = masked::<{ CACHE_CELLS - 1 }>(cache_index(cgroup_id).into());
    SLOT_CACHE.at().cast::<u64>().wrapping_add(index)
}

/// The long way, taken when the cache knows another cgroup at this place.
#[inline(never)]
fn find(cgroup_id: u64) -> u32 {
    let slot = lookup(cgroup_id).unwrap_or_else(|| give(cgroup_id));
    if let Some(packed) = cache_pack(cgroup_id, slot) {
        // SAFETY: memory of ours, written as one word: id and slot can't be torn apart.
        unsafe { place(cgroup_id).write_volatile(packed) };
    }
    slot
}

#[inline(always)]
fn lookup(cgroup_id: u64) -> Option<u32> {
    // SAFETY: read at once; a slot is taken back only after its cgroup has died and nobody asks for it.
    unsafe { CGROUP_SLOTS.get(cgroup_id).copied() }
}

#[inline(always)]
fn give(cgroup_id: u64) -> u32 {
    let Ok(Some(slot)) = FREE_SLOTS.pop() else {
        return OVERFLOW;
    };
    if CGROUP_SLOTS.insert(cgroup_id, slot, BPF_NOEXIST as u64).is_err() {
        // Another CPU was first (or the hash is full, which the loader's sizes rule out).
        let _ = FREE_SLOTS.push(slot, 0);
        return lookup(cgroup_id).unwrap_or(OVERFLOW);
    }
    if let Some(owner) = SLOT_OWNERS.get_ptr_mut(slot) {
        // SAFETY: a cell of our own array map.
        unsafe { owner.write_volatile(cgroup_id) };
    }
    slot
}
