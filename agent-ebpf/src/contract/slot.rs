//! Slots: small numbers for the cgroups that are alive, so that their counters can lie in plain arrays.
//!
//! The kernel half gives a slot to a cgroup at its first use (off the stack `FREE_SLOTS`, remembered in the
//! hash `CGROUP_SLOTS`), user space takes it back after the cgroup's death. A direct-mapped cache in front of the
//! hash holds id and slot in one word, so that a lookup is one load, exact, and can't be torn.

/// The slot of everything that has none of its own, because all were taken.
pub const OVERFLOW: u32 = 0;

/// The slot of cgroups that nobody wants to observe: no counters lie behind it.
pub const EXCLUDED: u32 = SLOTS_MAX - 1;

/// Cells of the cache; a power of two.
pub const CACHE_CELLS: u32 = 4096;

/// One more than the highest slot, so that any fits into the low bits of a cache cell; the highest is
/// [`EXCLUDED`].
pub const SLOTS_MAX: u32 = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 16;

/// The cache cell that `cgroup_id` maps to.
#[inline(always)]
pub fn cache_index(cgroup_id: u64) -> u32 {
    cgroup_id as u32 & (CACHE_CELLS - 1)
}

/// The cache cell's content for this cgroup, or `None` if its id is too wide to be cached.
#[inline(always)]
pub fn cache_pack(cgroup_id: u64, slot: u32) -> Option<u64> {
    (cgroup_id >> (64 - SLOT_BITS) == 0).then_some(cgroup_id << SLOT_BITS | (slot & (SLOTS_MAX - 1)) as u64)
}

/// The slot in `cell`, if it is the cell of `cgroup_id`.
#[inline(always)]
pub fn cache_hit(cell: u64, cgroup_id: u64) -> Option<u32> {
    (cell >> SLOT_BITS == cgroup_id && cell != 0).then_some(cell as u32 & (SLOTS_MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_answers_for_its_own_cgroup_only() {
        let cell = cache_pack(4097, 7).unwrap();
        assert_eq!(cache_hit(cell, 4097), Some(7));
        assert_eq!(cache_hit(cell, 1), None);
        assert_eq!(cache_index(4097), cache_index(1));
    }

    #[test]
    fn an_empty_cell_answers_for_nobody() {
        assert_eq!(cache_hit(0, 0), None);
        assert_eq!(cache_hit(0, 1), None);
    }

    #[test]
    fn ids_of_more_than_48_bits_are_not_cached() {
        assert_eq!(cache_pack(1 << 48, 1), None);
        let widest = (1 << 48) - 1;
        assert_eq!(cache_hit(cache_pack(widest, 65_535).unwrap(), widest), Some(65_535));
    }
}
