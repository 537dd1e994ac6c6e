//! System calls: counted, timed and their errors told apart in the kernel, per container.
//!
//! A call is counted when it returns ([`bank`]); those that never return when their thread ends. The child of a fork
//! returns from a call that its parent made, and is not counted. How calls are timed, and which, depends on the mode
//! ([`timing`]); where none is timed, the hooks on entry and on the switch of tasks are not attached.
//!
//! Entry and exit have two programs each, of which one is attached: where tasks can preempt a BTF-typed tracepoint
//! (since 7.0) the kernel would refuse the runs of all others on that CPU meanwhile, so there the classic
//! tracepoint is taken, which is dearer but is never preempted.

mod bank;
mod timing;

use agent_ebpf::contract::syscalls::{COMPAT, number_index};
use aya_ebpf::{
    EbpfContext as _, Global,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use timing::Timing;

use super::tcp;
use crate::kernel::{
    cell,
    load::{KernelPtr, field},
    offset, task,
};

/// Whether this sensor is on; its hooks serve `tcp` and `process` too.
#[unsafe(no_mangle)]
static SYSCALLS: Global<u8> = Global::new(1);
/// Whether the kernel hands out the registers of the current task (since 5.15).
#[unsafe(no_mangle)]
pub(super) static REGS_TELL: Global<u8> = Global::new(1);
/// The bit of `task_struct.thread_info` that says that the task is in a call of the 32-bit ABI; 0 where there is none.
#[unsafe(no_mangle)]
static COMPAT_MASK: Global<u32> = Global::new(0);
/// Numbers of the calls that the programs treat in a way of their own; `u64::MAX` where there is none.
#[unsafe(no_mangle)]
static NR_EXIT: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_EXIT_GROUP: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_CLONE: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_CLONE3: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_FORK: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_VFORK: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_RT_SIGRETURN: Global<u64> = Global::new(u64::MAX);

/// Numbers of the 32-bit ABI: the same on i386 and arm but for exit_group (arch/x86/entry/syscalls/syscall_32.tbl,
/// arch/arm/tools/syscall.tbl).
mod compat {
    pub(super) const EXIT: u64 = 1;
    pub(super) const EXIT_GROUP_I386: u64 = 252;
    pub(super) const EXIT_GROUP_ARM: u64 = 248;
    pub(super) const FORK: u64 = 2;
    pub(super) const CLONE: u64 = 120;
    pub(super) const VFORK: u64 = 190;
    pub(super) const CLONE3: u64 = 435;
}

/// match-proto: `void(struct pt_regs *regs, long id)`
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    entered(ctx.arg(1));
    0
}

#[tracepoint(category = "raw_syscalls", name = "sys_enter")]
fn sys_enter_classic(ctx: TracePointContext) -> u32 {
    entered(argument(&ctx, 0));
    0
}

/// match-proto: `void(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    returned(ctx.arg(0), ctx.arg(1));
    0
}

#[tracepoint(category = "raw_syscalls", name = "sys_exit")]
fn sys_exit_classic(ctx: TracePointContext) -> u32 {
    // SAFETY: the helpers take the current task, as the verifier knows it.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) };
    returned(regs as KernelPtr, argument(&ctx, 1) as i64);
    0
}

/// A number out of a classic tracepoint's record: `struct trace_entry`, then one long after the other
/// (`TP_STRUCT__entry` in include/trace/events/syscalls.h).
#[inline(always)]
fn argument(ctx: &TracePointContext, index: usize) -> u64 {
    // SAFETY: the verifier checks the load against the size of the record.
    unsafe { ctx.as_ptr().cast::<u64>().add(1 + index).read_volatile() }
}

/// match-proto: `void(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let prev: KernelPtr = ctx.arg(1);
    if let Some(cell) = cell::of(cell::processor()) {
        // SAFETY: this CPU's cell; `prev` is a trusted argument of the hook.
        unsafe {
            timing::leave_processor(cell, prev);
            cell::switched(cell);
        }
    }
    0
}

/// match-proto: `void(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`
#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach_task(_: BtfTracePointContext) -> i32 {
    cell::forget_all();
    0
}

#[inline(always)]
fn entered(number: u64) {
    let processor = cell::processor();
    let Some(cell) = cell::of(processor) else { return };
    if REGS_TELL.load() == 0 && (number == NR_EXIT.load() || number == NR_EXIT_GROUP.load()) {
        bank::book_without_result(processor, number_index(number));
    } else {
        // SAFETY: this CPU's cell.
        unsafe { timing::begin(cell, number) };
    }
}

#[inline(always)]
fn returned(regs: KernelPtr, result: i64) {
    let processor = cell::processor();
    let Some(cell) = cell::of(processor) else { return };
    // SAFETY: this CPU's cell.
    let timing = unsafe { timing::end(cell) };
    let number = match timing {
        Timing::Began { number, .. } => number,
        // SAFETY: the registers are typed in both programs.
        _ => match unsafe { field(regs, &offset::REGS_NUMBER) } {
            // rt_sigreturn(2) has put back the registers of what a signal interrupted.
            u64::MAX => NR_RT_SIGRETURN.load(),
            number => number,
        },
    };
    let is_compat = is_compat();
    if !is_compat {
        tcp::call_returned(regs, number, result, timing.since_ns());
    }
    if SYSCALLS.load() == 0 || result == 0 && !timing.began() && is_fork(number, is_compat) {
        return;
    }
    let index = if is_compat { COMPAT } else { number_index(number) };
    // SAFETY: as above.
    unsafe { bank::book(cell, processor, index, result, timing) };
}

/// A thread ends: if by its own call of exit(2) or exit_group(2), that is counted now, since it won't return.
#[inline(always)]
pub(super) fn thread_ended() {
    cell::forget_all();
    if SYSCALLS.load() == 0 || REGS_TELL.load() == 0 {
        return;
    }
    let processor = cell::processor();
    let Some(cell) = cell::of(processor) else { return };
    // SAFETY: the ending thread is the current one, as the verifier knows it; this CPU's cell.
    unsafe {
        (*cell).entered = 0;
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as KernelPtr;
        let number: u64 = field(regs, &offset::REGS_NUMBER);
        if is_compat() {
            if matches!(number, compat::EXIT | compat::EXIT_GROUP_I386 | compat::EXIT_GROUP_ARM) {
                bank::book_without_result(processor, COMPAT);
            }
        } else if number == NR_EXIT.load() || number == NR_EXIT_GROUP.load() {
            bank::book_without_result(processor, number_index(number));
        }
    }
}

/// Whether the current task is in a call of the 32-bit ABI.
#[inline(always)]
fn is_compat() -> bool {
    // SAFETY: the current task is typed wherever the agent sets the mask.
    COMPAT_MASK.load() != 0
        && unsafe { field::<u32>(task::current(), &offset::TASK_ABI) } & COMPAT_MASK.load() != 0
}

#[inline(always)]
fn is_fork(number: u64, is_compat: bool) -> bool {
    if is_compat {
        return matches!(number, compat::FORK | compat::CLONE | compat::VFORK | compat::CLONE3);
    }
    number == NR_CLONE.load()
        || number == NR_CLONE3.load()
        || number == NR_FORK.load()
        || number == NR_VFORK.load()
}
