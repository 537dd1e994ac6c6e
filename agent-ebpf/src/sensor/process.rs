//! Processes: what they execute and how they end.

use agent_ebpf::contract::{
    event::EventKind,
    process::{ExecEvent, ExitEvent, FILENAME_LEN},
    stats::SensorId,
};
use aya_ebpf::{Global, bindings::BPF_NOEXIST, macros::btf_tracepoint, programs::BtfTracePointContext};

use super::syscalls;
use crate::kernel::{
    event::{Admission, Ring, fill_header, filtered, now_ns, reserve},
    load::{KernelPtr, copied, field, string_to},
    log::trace_event,
    maps::ENDED,
    offset, task,
};

/// Whether this sensor is on; the hook on exit serves `syscalls` too.
#[unsafe(no_mangle)]
static PROCESS: Global<u8> = Global::new(1);
/// Whether the hook on exit says that the thread was the last of its process (since 6.16).
#[unsafe(no_mangle)]
static EXIT_TELLS_LAST: Global<u8> = Global::new(0);

/// `signal_struct.flags`: the whole group exits with `group_exit_code` (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// match-proto: `void(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: KernelPtr = ctx.arg(0);
    let bprm: KernelPtr = ctx.arg(2);
    // SAFETY: the hook's typed argument.
    let (ids, cgroup_id) = unsafe { (task::ids(task), task::cgroup_id(task)) };
    if task::is_self(ids.0) {
        filtered(SensorId::Process);
        return 0;
    }
    let now = now_ns();
    let (sensor, admission) = (SensorId::Process, Admission::Throttled);
    let Some(mut record) = reserve::<ExecEvent>(sensor, cgroup_id, Ring::Bulk, admission, now) else {
        return 0;
    };
    let event = record.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written; typed pointers.
    unsafe {
        fill_header(&raw mut (*event).header, EventKind::ProcessExec, cgroup_id, ids, Some(task), now);
        (*event).ppid = parent(task);
        let filename: KernelPtr = field(bprm, &offset::BINPRM_FILENAME);
        let target = (&raw mut (*event).filename).cast::<u8>();
        (*event).filename_len = string_to(target, FILENAME_LEN as u32, filename);
    }
    record.submit();
    trace_event!(&ctx, "process: {} executes", ids.0);
    0
}

/// A thread of the kernel's own (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// Runs for every thread; the last one ends the process.
///
/// match-proto: `void(struct task_struct *p)`, since 6.16 `void(struct task_struct *p, bool group_dead)`
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: KernelPtr = ctx.arg(0);
    syscalls::thread_ended();
    if PROCESS.load() == 0 {
        return 0;
    }
    let last = if EXIT_TELLS_LAST.load() != 0 {
        let group_dead: u64 = ctx.arg(1);
        group_dead & 0xff != 0
    } else {
        is_last(task)
    };
    if !last {
        return 0;
    }
    // SAFETY: the hook's typed argument.
    let (leader, cgroup_id) =
        unsafe { (field::<KernelPtr>(task, &offset::TASK_GROUP_LEADER), task::cgroup_id(task)) };
    // SAFETY: typed, as `task` is.
    let ((pid, _), flags) = unsafe { (task::ids(leader), field::<u32>(leader, &offset::TASK_FLAGS)) };
    if flags & PF_KTHREAD != 0 {
        // It runs no program, and what its exit code means is the kernel's own affair.
        return 0;
    }
    if task::is_self(pid) {
        filtered(SensorId::Process);
        return 0;
    }
    let now = now_ns();
    let (sensor, admission) = (SensorId::Process, Admission::Throttled);
    let Some(mut record) = reserve::<ExitEvent>(sensor, cgroup_id, Ring::Rare, admission, now) else {
        return 0;
    };
    let event = record.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written; typed pointers.
    unsafe {
        // The process is named by its leader, whichever thread was the last.
        fill_header(
            &raw mut (*event).header,
            EventKind::ProcessExit,
            cgroup_id,
            (pid, pid),
            Some(leader),
            now,
        );
        let started: u64 = field(leader, &offset::TASK_START_BOOTTIME);
        (*event).duration_ns = now.wrapping_sub(started);
        (*event).ppid = parent(leader);
        (*event).wait_status = wait_status(leader);
    }
    record.submit();
    trace_event!(&ctx, "process: {} ended", pid);
    0
}

/// Before 6.16: nobody is left alive in the group. Two threads that end at once may both see that, so the first
/// to say it for this process wins.
#[inline(always)]
fn is_last(task: KernelPtr) -> bool {
    // SAFETY: the hook's typed argument.
    unsafe {
        let signal: KernelPtr = field(task, &offset::TASK_SIGNAL);
        copied::<i32>(signal, &offset::SIGNAL_LIVE) == 0
            && ENDED.insert(task::process(task), 1, BPF_NOEXIST as u64).is_ok()
    }
}

/// # Safety
///
/// `task` is BTF-typed.
#[inline(always)]
unsafe fn parent(task: KernelPtr) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let parent: KernelPtr = field(task, &offset::TASK_REAL_PARENT);
        field(parent, &offset::TASK_TGID)
    }
}

/// What wait(2) will report, by the rule of `wait_task_zombie` (kernel/exit.c).
///
/// # Safety
///
/// `leader` is BTF-typed.
#[inline(always)]
unsafe fn wait_status(leader: KernelPtr) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let signal: KernelPtr = field(leader, &offset::TASK_SIGNAL);
        let flags: u32 = field(signal, &offset::SIGNAL_FLAGS);
        // Both are loaded: of a choice between two pointers, older verifiers lose track of the types.
        let of_group: u32 = field(signal, &offset::SIGNAL_GROUP_EXIT_CODE);
        let of_leader: u32 = field(leader, &offset::TASK_EXIT_CODE);
        if flags & SIGNAL_GROUP_EXIT != 0 { of_group } else { of_leader }
    }
}
