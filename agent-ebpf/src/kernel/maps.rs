//! The maps. Sizes given here are the least; the agent sets the real ones before load.

use agent_ebpf::contract::{
    calls::{CallSet, ERRNO_WORDS, Rule, WATCHED as WATCHED_MAX, Watch},
    control::Bucket,
    io_uring::RequestBank,
    syscalls::{ErrorBucket, NUMBERS},
};
use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, LruHashMap, RingBuf, Stack},
};

/// CPUs that can ever come up: banks per map.
#[unsafe(no_mangle)]
pub(crate) static CPUS: Global<u32> = Global::new(1);
/// Slots per CPU, the overflow slot included.
#[unsafe(no_mangle)]
pub(crate) static SLOTS: Global<u32> = Global::new(1);
/// Bytes in the bulk ring past which a record wakes the reader.
#[unsafe(no_mangle)]
pub(crate) static EVENTS_MARK: Global<u64> = Global::new(u64::MAX);
/// The same for the ring of rare events.
#[unsafe(no_mangle)]
pub(crate) static RARE_MARK: Global<u64> = Global::new(u64::MAX);

/// Events in bulk.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// The rare and precious: OOM kills, exits, failed connects, cgroups.
#[map]
pub(crate) static RARE: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Cgroup id → slot, all of them.
#[map]
pub(crate) static CGROUP_SLOTS: HashMap<u64, u32> = HashMap::with_max_entries(1, 0);
/// Slot → cgroup id, for the reader; 0 while the slot is free.
#[map]
pub(crate) static SLOT_OWNERS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Slots that nobody has.
#[map]
pub(crate) static FREE_SLOTS: Stack<u32> = Stack::with_max_entries(1, 0);
/// Token buckets by slot.
#[map]
pub(crate) static BUCKETS: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `ERROR_BUCKETS` per CPU.
#[map]
pub(crate) static ERRORS: Array<ErrorBucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// By system call number: which calls are slow, and what their arguments are.
#[map]
pub(crate) static RULES: Array<Rule> = Array::with_max_entries(NUMBERS as u32, BPF_F_MMAPABLE);
/// Errnos whose calls become events: a bit for each.
#[map]
pub(crate) static FAILURES: Array<u64> = Array::with_max_entries(ERRNO_WORDS as u32, BPF_F_MMAPABLE);
/// What somebody watches.
#[map]
pub(crate) static WATCH: Array<Watch> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Cgroup id → what somebody watches there.
#[map]
pub(crate) static WATCHED: HashMap<u64, CallSet> = HashMap::with_max_entries(WATCHED_MAX, 0);

/// [`SLOTS`] banks per CPU.
#[map]
pub(crate) static REQUESTS: Array<RequestBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Slot → how its container's system calls are measured ([`Mode`]), where containers differ in that.
///
/// [`Mode`]: agent_ebpf::contract::syscalls::Mode
#[map]
pub(crate) static SLOT_MODES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A process, told from an earlier one of the same id by its start: `CLOCK_BOOTTIME` ns.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ProcessKey {
    pub(crate) pid: u64,
    pub(crate) started_ns: u64,
}

/// The kernel's latest search for an OOM victim.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OomSearch {
    /// Address of the task that searches.
    pub(crate) task: u64,
    /// Address of the memory cgroup that is short; 0 if the node is.
    pub(crate) memcg: u64,
}

#[map]
pub(crate) static OOM_SEARCH: Array<OomSearch> = Array::with_max_entries(1, 0);

/// Thread id → address of the task that the kernel, in that thread, killed last.
#[map]
pub(crate) static KILLED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(128, 0);
/// Processes that ended of late, where the kernel doesn't say which thread was the last.
#[map]
pub(crate) static ENDED: LruHashMap<ProcessKey, u8> = LruHashMap::with_max_entries(4096, 0);
