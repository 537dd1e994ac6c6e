//! The same hooks as raw tracepoints, which need no types of the kernel. Their arguments are mere numbers, so registers are
//! copied, which costs more than to load them.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use super::{entered, returned, switched, thread_ended};
use crate::kernel::{cell, registers::Untyped, task};

/// `TP_PROTO(struct pt_regs *regs, long id)` (include/trace/events/syscalls.h)
#[raw_tracepoint(tracepoint = "sys_enter")]
fn sys_enter_raw(ctx: RawTracePointContext) -> i32 {
    entered(|| Untyped(ctx.arg(0)), ctx.arg(1));
    0
}

/// `TP_PROTO(struct pt_regs *regs, long ret)`
#[raw_tracepoint(tracepoint = "sys_exit")]
fn sys_exit_raw(ctx: RawTracePointContext) -> i32 {
    returned(Untyped(ctx.arg(0)), ctx.arg(1));
    0
}

/// Runs before the switch (`__schedule`, kernel/sched/core.c): the task that leaves is still the current one.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn sched_switch_raw(_: RawTracePointContext) -> i32 {
    // SAFETY: the current task, as `task` gives it.
    switched(|| unsafe { task::state_or_new(task::current()) });
    0
}

#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
fn cgroup_attach_task_raw(_: RawTracePointContext) -> i32 {
    cell::forget_all();
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit_raw(_: RawTracePointContext) -> i32 {
    thread_ended();
    0
}
