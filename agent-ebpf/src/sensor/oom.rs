//! OOM kills: the victim, who triggered the kill, and whose limit was hit.

use agent_ebpf::contract::{
    event::EventKind,
    oom::{LIMIT_NODE, LIMIT_UNKNOWN, MAX_LEVELS, OomEvent},
    stats::SensorId,
};
use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    helpers::generated::bpf_get_current_comm,
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};

use crate::kernel::{
    event::{Admission, Ring, fill_header, now_ns, reserve, untracked},
    load::{KernelPtr, at, copied, field},
    log::trace_event,
    maps::{KILLED, OOM_SEARCH},
    offset, task,
};

/// Whether a task's memory cgroup can be found at all.
#[unsafe(no_mangle)]
static MEMCG_KNOWN: Global<u8> = Global::new(0);
/// Whether this kernel has `mem_cgroup.oom_lock`, by which the limit is found: not so without v1 cgroups, since 6.11.
#[unsafe(no_mangle)]
static MEMCG_TELLS: Global<u8> = Global::new(0);

/// Says for sure what the memory cgroups' locks say mostly.
///
/// match-proto: `bool(struct oom_control *oc)`
#[fentry(function = "out_of_memory")]
fn out_of_memory(ctx: FEntryContext) -> i32 {
    let control: KernelPtr = ctx.arg(0);
    if let Some(search) = OOM_SEARCH.get_ptr_mut(0) {
        // SAFETY: a cell of our own array map; the kernel searches for one victim at a time, under its global
        // `oom_lock`. The hook's typed argument.
        unsafe {
            (*search).task = task::current() as u64;
            (*search).memcg = field(control, &offset::OOM_CONTROL_MEMCG);
        }
    }
    0
}

/// Somebody gets a signal. The kernel marks as victims also who is dying already; those that it kills get SIGKILL right
/// before, in the same task.
///
/// match-proto: `void(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
#[btf_tracepoint(function = "signal_generate")]
fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    /// `SEND_SIG_PRIV` (include/linux/sched/signal.h): from the kernel itself.
    const FROM_KERNEL: u64 = 1;
    const SIGKILL: i32 = 9;
    let (signal, from, to): (i32, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    if signal == SIGKILL && from == FROM_KERNEL {
        let (_, killer) = task::current_ids(task::current());
        if KILLED.insert(killer, to, BPF_ANY as u64).is_err() {
            untracked(SensorId::Oom);
        }
    }
    0
}

/// Runs in the task that triggered the kill, or in one that dies already and asks for memory.
///
/// match-proto: `void(struct task_struct *task, uid_t uid)`
#[btf_tracepoint(function = "mark_victim")]
fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    let victim: KernelPtr = ctx.arg(0);
    let uid: u64 = ctx.arg(1);
    let current = task::current();
    let (trigger_pid, trigger_tid) = task::current_ids(current);
    // Who is dying is marked, too, and every thread of it that asks for memory: those are no kills.
    // SAFETY: copied at once.
    let killed = KILLED.get_ptr(trigger_tid).map(|killed| unsafe { *killed });
    if killed != Some(victim as u64) {
        return 0;
    }
    let _ = KILLED.remove(trigger_tid);
    // SAFETY: the hook's typed argument.
    let cgroup_id = unsafe { task::cgroup_id(victim) };
    let now = now_ns();
    let (sensor, admission) = (SensorId::Oom, Admission::Observed);
    let Some(mut record) = reserve::<OomEvent>(sensor, cgroup_id, Ring::Rare, admission, now) else {
        return 0;
    };
    let event = record.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written; typed pointers.
    unsafe {
        fill_header(
            &raw mut (*event).header,
            EventKind::OomKill,
            cgroup_id,
            task::ids(victim),
            Some(victim),
            now,
        );
        (*event).trigger_cgroup_id = task::current_cgroup_id(current);
        (*event).trigger_pid = trigger_pid;
        (*event).trigger_tid = trigger_tid;
        bpf_get_current_comm((&raw mut (*event).trigger_comm).cast(), 16);
        let mm: KernelPtr = field(victim, &offset::TASK_MM);
        (*event).total_vm_pages = copied(mm, &offset::MM_TOTAL_VM);
        (*event).anon_pages = pages(mm, offset::MM_ANON_PAGES.load());
        (*event).file_pages = pages(mm, offset::MM_FILE_PAGES.load());
        (*event).shmem_pages = pages(mm, offset::MM_SHMEM_PAGES.load());
        (*event).pgtables_bytes = copied(mm, &offset::MM_PGTABLES_BYTES);
        (*event).uid = uid as u32;
        let signal: KernelPtr = field(victim, &offset::TASK_SIGNAL);
        (*event).oom_score_adj = copied::<i16>(signal, &offset::SIGNAL_OOM_SCORE_ADJ) as i32;
        let (level, depth) = limit(victim);
        (*event).limit_level = level;
        (*event).memcg_depth = depth;
    }
    record.submit();
    trace_event!(&ctx, "oom: a victim in cgroup {}", cgroup_id);
    0
}

/// Resident pages of one kind; the kernel's counters run below zero for a moment.
#[inline(always)]
fn pages(mm: KernelPtr, offset: u64) -> u64 {
    at::<i64>(mm.wrapping_add(offset as usize)).max(0) as u64
}

/// How far above the victim's memory cgroup the limit lies that was hit, and that cgroup's depth.
///
/// Either the search for a victim was seen to begin: it names the memory cgroup. Or, while a victim is sought for
/// one, it and all below it hold their `oom_lock` (mm/memcontrol-v1.c, `mem_cgroup_oom_trylock`, on v1 and v2
/// alike): the topmost locked ancestor is the one that was short.
///
/// # Safety
///
/// `victim` is BTF-typed.
#[inline(always)]
unsafe fn limit(victim: KernelPtr) -> (i32, i32) {
    if MEMCG_KNOWN.load() == 0 {
        return (LIMIT_UNKNOWN, 0);
    }
    let sought = sought();
    // SAFETY: the caller's promise. From here on copies: a `mem_cgroup` begins with its `css` (the agent has
    // checked that), which the verifier can't know.
    let css_set: KernelPtr = unsafe { field(victim, &offset::TASK_CGROUPS) };
    let mut css = copied::<u64>(css_set, &offset::CSS_SET_MEMORY) as KernelPtr;
    let cgroup = copied::<u64>(css, &offset::CSS_CGROUP) as KernelPtr;
    let depth = copied::<i32>(cgroup, &offset::CGROUP_LEVEL);
    let mut topmost = match sought {
        Some(0) => return (LIMIT_NODE, depth),
        // Not among the victim's ancestors: nothing that could be explained.
        Some(_) => LIMIT_UNKNOWN,
        None if MEMCG_TELLS.load() == 0 => return (LIMIT_UNKNOWN, depth),
        None => LIMIT_NODE,
    };
    for level in 0..MAX_LEVELS {
        if css.is_null() {
            break;
        }
        let was_short = match sought {
            Some(memcg) => css as u64 == memcg,
            None => copied::<u8>(css, &offset::MEMCG_OOM_LOCK) != 0,
        };
        if was_short {
            topmost = level;
        }
        css = copied::<u64>(css, &offset::CSS_PARENT) as KernelPtr;
    }
    (topmost, depth)
}

/// The memory cgroup that the current task seeks a victim for, 0 for the node; `None` if that wasn't seen.
#[inline(always)]
fn sought() -> Option<u64> {
    let search = OOM_SEARCH.get_ptr(0)?;
    // SAFETY: a cell of our own array map; see `out_of_memory`.
    unsafe { ((*search).task == task::current() as u64).then_some((*search).memcg) }
}
