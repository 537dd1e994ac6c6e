//! Kernels before 5.11, which have no task storage, and those before 6.4, where it must not be made while tasks are switched:
//! there the programs use a hash map instead.

use aya::{maps::MapType, sys::is_map_supported};

use super::{btf::Btf, host};

/// `BPF_MAP_TYPE_HASH` (include/uapi/linux/bpf.h).
const HASH: u32 = 1;

/// The first bytes of BTF: its magic number and version.
const BTF_HEAD: [u8; 3] = [0x9f, 0xeb, 1];

/// Tries it out. In case of doubt there is one: whatever else is wrong will be said by the load itself.
pub(super) fn has_task_storage() -> bool {
    is_map_supported(MapType::TaskStorage).unwrap_or(true)
}

/// Whether task storage may be made with a run queue locked, as it is in `sched_switch`. Until 6.3 the kernel takes the memory
/// for it as for anything else (`bpf_map_kzalloc`) and charges the agent's memory cgroup; where that is at its limit, it wakes
/// a worker to tell of it, which needs the lock of a run queue: the node hangs. Later kernels have an allocator of their own
/// for it (`selem_ma`, kernel/bpf/bpf_local_storage.c), which distributions may have brought to older ones, and since 7.0 one
/// that takes no locks.
pub(super) fn may_store_anywhere(btf: &Btf) -> bool {
    host::has_storage_allocator() || btf.field("bpf_local_storage_map.selem_ma").is_ok()
}

/// Puts an ordinary map in the place of the task storage, which the programs then leave alone: every map has to be
/// created, and aya can be told another size of a map but not another type.
pub(super) fn replace_task_storage(object: &mut [u8]) -> Option<()> {
    // An object's types are a section of their own, aligned like this; what else looks like their beginning knows no
    // such structure.
    let heads = (0..object.len()).step_by(4).filter(|at| object[*at..].starts_with(&BTF_HEAD));
    let at = heads.into_iter().find_map(|at| {
        let types = Btf::parse(object[at..].to_vec()).ok()?;
        types.length_of_array_at("TaskStorage.type").map(|inside| at + inside)
    })?;
    object.get_mut(at..at + 4)?.copy_from_slice(&HASH.to_ne_bytes());
    Some(())
}
