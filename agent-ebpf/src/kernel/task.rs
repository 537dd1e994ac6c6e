//! Tasks: who they are, where they belong, and what we remember of them.

use core::ptr::{null, null_mut};

use aya_ebpf::{
    Global,
    bindings::{
        BPF_ANY, BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
    },
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task,
        bpf_get_current_task_btf, bpf_task_storage_get,
    },
    macros::map,
    maps::LruHashMap,
};

use super::{
    load::{KernelPtr, at, copied, field},
    maps::ProcessKey,
    offset,
    shared::CONTROL,
};

/// What is kept with a task, from its first need until the task is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TaskState {
    /// When the call began that the task slept in, `CLOCK_MONOTONIC` ns; 0 if it is in none.
    pub(crate) since_ns: u64,
    /// Number of that call.
    pub(crate) number: u64,
    /// When a call began that somebody watches, `CLOCK_MONOTONIC` ns; 0 if the task is in none.
    pub(crate) watched_ns: u64,
    /// Which call that is, and since which [`Watch::epoch`]: see `sensor::calls::watch`.
    ///
    /// [`Watch::epoch`]: agent_ebpf::contract::calls::Watch::epoch
    pub(crate) watched: u64,
    /// What the first of two programs has seen happen to a socket that the task owns: see `sensor::tcp::turn`.
    pub(crate) taken: Mark,
}

/// A transition of a TCP socket: the socket's address, 0 if there is none, and its new state.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) sk: u64,
    pub(crate) new: u64,
}

/// A BTF-defined map, as `libbpf` spells it: aya has no wrapper for task storage.
#[repr(C)]
pub(crate) struct TaskStorage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const TaskState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the fields are types for the loader, never values; the programs only use the map's address.
unsafe impl Sync for TaskStorage {}

#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
static TASKS: TaskStorage =
    TaskStorage { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() };

/// The same by thread id, for kernels whose task storage can't be used.
#[map]
static TASKS_BY_ID: LruHashMap<u32, TaskState> = LruHashMap::with_max_entries(128, 0);

/// Whether the kernel tells the type of the current task (since 5.11).
#[unsafe(no_mangle)]
static TYPED_TASKS: Global<u8> = Global::new(1);
/// Whether tasks have storage, which may be made while tasks are switched: see `kernel::old` of the agent.
#[unsafe(no_mangle)]
static TASKS_STORE: Global<u8> = Global::new(1);

#[inline(always)]
fn typed() -> bool {
    TYPED_TASKS.load() != 0
}

#[inline(always)]
fn stored() -> bool {
    TASKS_STORE.load() != 0
}

/// The running task: BTF-typed where the kernel can, else a mere number, good for [`current_ids`],
/// [`current_cgroup_id`], [`state`] and copies.
#[inline(always)]
pub(crate) fn current() -> KernelPtr {
    // SAFETY: the helpers take nothing and return the current task.
    unsafe {
        if typed() { bpf_get_current_task_btf() as KernelPtr } else { bpf_get_current_task() as KernelPtr }
    }
}

/// Process and thread id of the current task.
#[inline(always)]
pub(crate) fn current_ids(current: KernelPtr) -> (u32, u32) {
    // SAFETY: typed, as said; the helper takes nothing.
    unsafe {
        if typed() {
            return ids(current);
        }
        let both = bpf_get_current_pid_tgid();
        ((both >> 32) as u32, both as u32)
    }
}

/// Name of the current task, in words.
#[inline(always)]
pub(crate) fn current_comm(current: KernelPtr) -> [u64; 2] {
    let mut comm = [0; 2];
    // SAFETY: typed, as said; the helper writes into our own 16 bytes.
    unsafe {
        if typed() {
            return [field(current, &offset::TASK_COMM), field(current.wrapping_add(8), &offset::TASK_COMM)];
        }
        bpf_get_current_comm(comm.as_mut_ptr().cast(), 16);
    }
    comm
}

/// Process id of the current task.
#[inline(always)]
pub(crate) fn current_pid(current: KernelPtr) -> u32 {
    // SAFETY: typed, as said; the helper takes nothing.
    unsafe {
        if typed() { field(current, &offset::TASK_TGID) } else { (bpf_get_current_pid_tgid() >> 32) as u32 }
    }
}

/// The word of the current task in which the ABI of its call is told.
#[inline(always)]
pub(crate) fn current_abi(current: KernelPtr) -> u32 {
    // SAFETY: typed, as said.
    unsafe { if typed() { field(current, &offset::TASK_ABI) } else { copied(current, &offset::TASK_ABI) } }
}

/// Id of the current task's cgroup: see [`cgroup_id`]. The helper takes longer than direct loads, but those take the
/// verifier half of the agent's start: for each pointer that it sees loaded from a trusted one, it looks through the
/// kernel's types by name, up to four times (`btf_nested_type_is_trusted`, kernel/bpf/btf.c). Most calls find their slot
/// without this.
#[inline(always)]
pub(crate) fn current_cgroup_id(current: KernelPtr) -> u64 {
    // SAFETY: typed, as said; the helper takes nothing.
    unsafe {
        if BY_MEMORY.load() == 0 {
            return bpf_get_current_cgroup_id();
        }
        if typed() {
            return cgroup_id(current);
        }
    }
    let css_set = copied::<u64>(current, &offset::TASK_CGROUPS) as KernelPtr;
    let css = copied::<u64>(css_set, &offset::CSS_SET_MEMORY) as KernelPtr;
    let cgroup = copied::<u64>(css, &offset::CSS_CGROUP) as KernelPtr;
    let node = copied::<u64>(cgroup, &offset::CGROUP_KN) as KernelPtr;
    copied(node, &offset::KERNFS_NODE_ID)
}

/// The state kept with the current task, if there is any.
///
/// # Safety
///
/// `current` is what [`current`] returned.
#[inline(always)]
pub(crate) unsafe fn state(current: KernelPtr) -> Option<*mut TaskState> {
    if stored() {
        // SAFETY: the caller's promise, which the verifier checks; the map is ours.
        unsafe { storage(current, 0) }
    } else {
        TASKS_BY_ID.get_ptr_mut(current_ids(current).1)
    }
}

/// The current task ends: nothing of it is to be found by the next one that gets its id.
#[inline(always)]
pub(crate) fn forget(current: KernelPtr) {
    if !stored() {
        let _ = TASKS_BY_ID.remove(current_ids(current).1);
    }
}

/// The state kept with the current task, made if there is none; `None` if the kernel has no memory for it.
///
/// # Safety
///
/// As for [`state`].
#[inline(always)]
pub(crate) unsafe fn state_or_new(current: KernelPtr) -> Option<*mut TaskState> {
    if stored() {
        // SAFETY: as above.
        unsafe { storage(current, BPF_LOCAL_STORAGE_GET_F_CREATE as u64) }
    } else {
        by_id(current_ids(current).1)
    }
}

/// The same for a task that is not the current one.
///
/// # Safety
///
/// `task` is a BTF-typed argument of the hook.
#[inline(always)]
pub(crate) unsafe fn state_or_new_of(task: KernelPtr) -> Option<*mut TaskState> {
    // SAFETY: as above.
    unsafe {
        if stored() {
            storage(task, BPF_LOCAL_STORAGE_GET_F_CREATE as u64)
        } else {
            by_id(field(task, &offset::TASK_PID))
        }
    }
}

#[inline(always)]
fn by_id(tid: u32) -> Option<*mut TaskState> {
    if let Some(state) = TASKS_BY_ID.get_ptr_mut(tid) {
        return Some(state);
    }
    let fresh =
        TaskState { since_ns: 0, number: 0, watched_ns: 0, watched: 0, taken: Mark { sk: 0, new: 0 } };
    TASKS_BY_ID.insert(tid, fresh, BPF_ANY as u64).ok()?;
    TASKS_BY_ID.get_ptr_mut(tid)
}

#[inline(always)]
unsafe fn storage(task: KernelPtr, flags: u64) -> Option<*mut TaskState> {
    // SAFETY: the caller passes a task that the verifier trusts; a null initial value means zeros.
    let state = unsafe {
        bpf_task_storage_get((&raw const TASKS).cast_mut().cast(), task.cast_mut().cast(), null_mut(), flags)
    };
    (!state.is_null()).then_some(state.cast())
}

/// Whether cgroups are those of the v1 memory controller, because the node has no v2 hierarchy.
#[unsafe(no_mangle)]
static BY_MEMORY: Global<u8> = Global::new(0);

/// Id of the task's cgroup: `task->cgroups->dfl_cgrp->kn->id`, on a node with v1 alone
/// `task->cgroups->subsys[memory_cgrp_id]->cgroup->kn->id`.
///
/// # Safety
///
/// `task` is a BTF-typed argument of the hook, or the current task where tasks are typed.
#[inline(always)]
pub(crate) unsafe fn cgroup_id(task: KernelPtr) -> u64 {
    // SAFETY: every pointer of the chain is typed, as its predecessor was.
    unsafe {
        let css_set: KernelPtr = field(task, &offset::TASK_CGROUPS);
        if BY_MEMORY.load() == 0 {
            return cgroup_of(field(css_set, &offset::CSS_SET_DFL_CGRP));
        }
        let css: KernelPtr = field(css_set, &offset::CSS_SET_MEMORY);
        cgroup_of(field(css, &offset::CSS_CGROUP))
    }
}

/// Whether every socket tells its cgroup: see [`cgroup_of_socket`].
#[inline(always)]
pub(crate) fn sockets_tell() -> bool {
    BY_MEMORY.load() == 0
}

/// Id of a socket's cgroup, and on a node with v1 alone of the one its memory is charged to: 0 unless the kernel
/// charges sockets.
///
/// # Safety
///
/// `sk` is BTF-typed.
#[inline(always)]
pub(crate) unsafe fn cgroup_of_socket(sk: KernelPtr) -> u64 {
    // SAFETY: as above; loads through a null pointer give 0.
    unsafe {
        if BY_MEMORY.load() == 0 {
            return cgroup_of(field(sk, &offset::SOCK_CGROUP));
        }
        let memcg: KernelPtr = field(sk, &offset::SOCK_MEMCG);
        if memcg.is_null() { 0 } else { cgroup_of(field(memcg, &offset::MEMCG_CGROUP)) }
    }
}

/// Id of a cgroup: `cgroup->kn->id`.
///
/// # Safety
///
/// `cgroup` is BTF-typed.
#[inline(always)]
pub(crate) unsafe fn cgroup_of(cgroup: KernelPtr) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let node: KernelPtr = field(cgroup, &offset::CGROUP_KN);
        field(node, &offset::KERNFS_NODE_ID)
    }
}

/// Process and thread id in the initial pid namespace.
///
/// # Safety
///
/// As for [`cgroup_id`].
#[inline(always)]
pub(crate) unsafe fn ids(task: KernelPtr) -> (u32, u32) {
    // SAFETY: the caller's promise.
    unsafe { (field(task, &offset::TASK_TGID), field(task, &offset::TASK_PID)) }
}

/// What is behind a file descriptor of the task, null if nothing is; `None` if there can't be such a one.
#[inline(always)]
pub(crate) fn file(task: KernelPtr, fd: u32) -> Option<KernelPtr> {
    let files = copied::<u64>(task, &offset::TASK_FILES) as KernelPtr;
    let table = copied::<u64>(files, &offset::FILES_FDT) as KernelPtr;
    if fd >= copied::<u32>(table, &offset::FDTABLE_MAX_FDS) {
        return None;
    }
    let fds = copied::<u64>(table, &offset::FDTABLE_FD) as KernelPtr;
    Some(at::<u64>(fds.wrapping_add(fd as usize * 8)) as KernelPtr)
}

/// The process that the task is a thread of.
///
/// # Safety
///
/// As for [`cgroup_id`].
#[inline(always)]
pub(crate) unsafe fn process(task: KernelPtr) -> ProcessKey {
    // SAFETY: the caller's promise.
    unsafe {
        let leader: KernelPtr = field(task, &offset::TASK_GROUP_LEADER);
        let pid = field::<u32>(leader, &offset::TASK_TGID) as u64;
        ProcessKey { pid, started_ns: field(leader, &offset::TASK_START_BOOTTIME) }
    }
}

/// Whether the process is the agent.
#[inline(always)]
pub(crate) fn is_self(pid: u32) -> bool {
    // SAFETY: memory of ours; the value is plain data.
    unsafe { (*CONTROL.at()).self_pid == pid as u64 }
}
