//! How large the maps are made: their entries, and the memory that the kernel takes for them.

use std::collections::BTreeMap;

use agent_ebpf::contract::{
    calls::WATCHED,
    stats::{SENSORS_MAX, SensorId, SensorStats},
    syscalls::{Bank, Cell, ERROR_BUCKETS},
    tcp::SOCKETS_PER_GONE,
};

use super::{
    constants::{ConstantError, Definition, definitions},
    host,
};

/// Container slots that there have to be: the overflow slot and another one.
const LEAST_SLOTS: u32 = 2;

/// Types of maps (`enum bpf_map_type`, include/uapi/linux/bpf.h).
const HASH: u32 = 1;
const PER_CPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const RING: u32 = 27;
/// Bytes of `struct htab_elem` before the key, and of `struct bucket` (kernel/bpf/hashtab.c).
const ELEMENT: u64 = 48;
const BUCKET: u64 = 16;
/// Bytes of what any other map has besides its elements, such as `struct bpf_array`, at most.
const MAP: u64 = 512;

/// How many of everything there is room for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Bytes that all maps may take together.
    pub map_memory: u64,
    /// Container slots, the overflow slot included, if they fit.
    pub slots: u32,
    /// Cgroups that may be excluded at once.
    pub excluded: u32,
    /// TCP sockets tracked at once.
    pub sockets: u32,
    /// Tasks that sleep in a system call at once, where they have no storage that may be used.
    pub tasks: u32,
    /// Bytes of the bulk ring and of the rare ring; powers of two, multiples of the page size.
    pub ring_bytes: u32,
    pub rare_ring_bytes: u32,
}

/// What decides on the sizes.
pub(super) struct Needs<F> {
    pub(super) room: Room,
    /// CPUs that can come up.
    pub(super) cpus: u32,
    pub(super) enabled: F,
    /// Whether tasks have storage that may be used.
    pub(super) task_storage: bool,
}

/// Sizes of the maps of which the object has the least.
pub(super) struct Sizes {
    /// Container slots, the overflow slot included.
    pub(super) slots: u32,
    /// Elements by map.
    elements: BTreeMap<&'static str, u32>,
}

impl Sizes {
    /// With as many slots as are wanted, or as many as the memory has room for.
    pub(super) fn within(
        needs: &Needs<impl Fn(SensorId) -> bool>,
        object: &[u8],
    ) -> Result<Self, ConstantError> {
        let Needs { room, cpus, .. } = *needs;
        let definitions = definitions(object)?;
        let bytes = |slots| Self::of(needs, slots).bytes(&definitions, cpus);
        let (mut fitting, mut too_many) = (LEAST_SLOTS, room.slots.saturating_add(1));
        while fitting + 1 < too_many {
            let slots = fitting.midpoint(too_many);
            let half = if bytes(slots) <= room.map_memory { &mut fitting } else { &mut too_many };
            *half = slots;
        }
        if bytes(fitting) > room.map_memory {
            tracing::warn!(
                bytes = bytes(fitting),
                "the tables and rings take more than limits.map_memory, with as few container slots as there can be: raise \
                 it, or lower limits.sockets, limits.containers, limits.tasks or ring.size"
            );
        } else if fitting < room.slots {
            tracing::warn!(
                slots = fitting,
                wanted = room.slots,
                cpus,
                "limits.map_memory allows fewer container slots; those beyond share one: raise it to tell them apart"
            );
        }
        Ok(Self::of(needs, fitting))
    }

    fn of(needs: &Needs<impl Fn(SensorId) -> bool>, slots: u32) -> Self {
        let Needs { room, cpus, enabled, task_storage } = needs;
        // A sensor that is off needs no tables.
        let of_sensor = |sensor, elements| if enabled(sensor) { elements } else { 1 };
        let cells = cpus.next_power_of_two();
        let sockets = room.sockets + room.sockets / SOCKETS_PER_GONE;
        let elements = [
            ("EVENTS", room.ring_bytes),
            ("RARE", room.rare_ring_bytes),
            ("CGROUP_SLOTS", slots.saturating_add(room.excluded)),
            ("SLOT_OWNERS", slots),
            ("FREE_SLOTS", slots),
            ("BUCKETS", slots),
            ("SLOT_MODES", slots),
            ("CELLS", cells),
            ("STATS", cells * SENSORS_MAX),
            ("BANKS", of_sensor(SensorId::Syscalls, cpus * slots)),
            ("ERRORS", of_sensor(SensorId::Syscalls, cpus * ERROR_BUCKETS)),
            ("REQUESTS", of_sensor(SensorId::IoUring, cpus * slots)),
            ("SOCKETS", of_sensor(SensorId::Tcp, sockets)),
            ("WATCHED", of_sensor(SensorId::Calls, WATCHED)),
        ];
        let mut elements = BTreeMap::from(elements);
        if !task_storage {
            elements.insert("TASKS", 1);
            elements.insert("TASKS_BY_ID", room.tasks);
        }
        Self { slots, elements }
    }

    /// Elements by map.
    pub(super) fn elements(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.elements.iter().map(|(map, elements)| (*map, *elements))
    }

    pub(super) fn of_map(&self, map: &str) -> u32 {
        self.elements.get(map).map_or(1, |elements| *elements)
    }

    /// Bytes of all elements of a map, if they are to be one. So much of it, and no more, the verifier lets a program reach
    /// (`BPF_MAX_VAR_OFF`, include/linux/bpf_verifier.h).
    pub(super) fn in_one_element(&self, map: &str) -> Option<u32> {
        const REACH: u32 = 1 << 29;
        let size = match map {
            "CELLS" => size_of::<Cell>(),
            "STATS" => size_of::<SensorStats>(),
            "BANKS" if host::has_large_elements() => size_of::<Bank>(),
            _ => return None,
        };
        self.of_map(map).checked_mul(size as u32).filter(|bytes| *bytes < REACH)
    }

    /// Kernel memory in all maps, about as `bpf_map_memory_usage` (kernel/bpf/syscall.c) has it.
    fn bytes(&self, definitions: &[Definition<'_>], cpus: u32) -> u64 {
        let of_map = |map: &Definition<'_>| {
            let elements = self.elements.get(map.name).map_or(map.elements, |elements| *elements).into();
            bytes(map, elements, cpus.into())
        };
        definitions.iter().map(of_map).sum()
    }
}

fn bytes(map: &Definition<'_>, elements: u64, cpus: u64) -> u64 {
    let [key, value] = [map.key_size, map.value_size].map(|size| u64::from(size).next_multiple_of(8));
    let page = host::page_size();
    match map.kind {
        // What is mapped into user space has pages of its own. The data of a ring is mapped twice, by its pages' addresses.
        RING => elements + elements / page * 16 + 3 * page,
        HASH => (elements + cpus) * (ELEMENT + key + value) + elements.next_power_of_two() * BUCKET + MAP,
        LRU_HASH => elements * (ELEMENT + key + value) + elements.next_power_of_two() * BUCKET + MAP,
        PER_CPU_ARRAY => elements * value * cpus + MAP,
        _ => (elements * value).next_multiple_of(page) + page,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::object::OBJECT, *};

    fn slots(map_memory: u64, cpus: u32, sockets: u32) -> u32 {
        let room = Room { slots: 256, map_memory, sockets, ..Room::default() };
        let needs = Needs { room, cpus, enabled: |_| true, task_storage: true };
        Sizes::within(&needs, OBJECT).unwrap().slots
    }

    #[test]
    fn there_are_as_many_slots_as_fit() {
        assert_eq!(slots(64 << 20, 2, 16_384), 256);
        let with_many_cpus = slots(64 << 20, 64, 16_384);
        assert!((16..256).contains(&with_many_cpus), "{with_many_cpus}");
        let with_many_sockets = slots(64 << 20, 64, 200_000);
        assert!((2..with_many_cpus).contains(&with_many_sockets), "{with_many_sockets}");
        assert_eq!(slots(64 << 20, 64, 1 << 24), LEAST_SLOTS);
    }
}
