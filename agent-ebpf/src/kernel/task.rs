//! Tasks: who they are, where they belong, and what we remember of them.

use core::ptr::{null, null_mut};

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE},
    helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get},
};

use super::{
    load::{KernelPtr, field},
    maps::{CONTROL, ProcessKey},
    offset,
};

/// What is kept with a task, from its first need until the task is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TaskState {
    /// When the call began that the task slept in, `CLOCK_MONOTONIC` ns; 0 if it is in none.
    pub(crate) since_ns: u64,
    /// Number of that call.
    pub(crate) number: u64,
    /// The socket that the task's connect(2) has sent a SYN for; 0 outside of connect(2).
    pub(crate) connecting: u64,
    /// That socket was closed again without an error of its own: connect(2) will say why.
    pub(crate) unexplained: u64,
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

/// The running task.
#[inline(always)]
pub(crate) fn current() -> KernelPtr {
    // SAFETY: the helper takes nothing and returns a BTF-typed pointer to the current task.
    unsafe { bpf_get_current_task_btf() as KernelPtr }
}

/// The state kept with `task`, if there is any.
///
/// # Safety
///
/// `task` is a BTF-typed pointer: the current task, or a trusted argument of the hook.
#[inline(always)]
pub(crate) unsafe fn state(task: KernelPtr) -> Option<*mut TaskState> {
    // SAFETY: the caller's promise, which the verifier checks; the map is ours.
    unsafe { storage(task, 0) }
}

/// The state kept with `task`, made if there is none; `None` if the kernel has no memory for it.
///
/// # Safety
///
/// As for [`state`].
#[inline(always)]
pub(crate) unsafe fn state_or_new(task: KernelPtr) -> Option<*mut TaskState> {
    // SAFETY: as above.
    unsafe { storage(task, BPF_LOCAL_STORAGE_GET_F_CREATE as u64) }
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
/// As for [`state`].
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
/// As for [`state`].
#[inline(always)]
pub(crate) unsafe fn ids(task: KernelPtr) -> (u32, u32) {
    // SAFETY: the caller's promise.
    unsafe { (field(task, &offset::TASK_TGID), field(task, &offset::TASK_PID)) }
}

/// The process that the task is a thread of.
///
/// # Safety
///
/// As for [`state`].
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
    // SAFETY: a cell of our own array map; the value is plain data.
    CONTROL.get_ptr(0).is_some_and(|control| unsafe { (*control).self_pid } == pid as u64)
}
