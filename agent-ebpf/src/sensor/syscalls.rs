//! System calls: counted, timed and their errors told apart in the kernel, per container.
//!
//! A call is counted when it returns ([`bank`]); those that never return when their thread ends. The child of a fork
//! returns from a call that its parent made, and is not counted. How calls are timed, and which, depends on the mode
//! ([`timing`]); where none is timed, the hooks on entry and on the switch of tasks are not attached.
//!
//! Entry and exit have two programs each, of which one is attached: where tasks can preempt a BTF-typed tracepoint
//! (since 7.0) the kernel would refuse the runs of all others on that CPU meanwhile, so there the classic
//! tracepoint is taken, which is dearer but is never preempted. Where the kernel shows no types, all hooks have raw
//! tracepoints ([`raw`]).

pub(super) mod abi;
mod bank;
mod raw;
mod timing;

use agent_ebpf::contract::syscalls::{COMPAT, Cell, number_index};
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
    load::KernelPtr,
    registers::{Registers, Typed},
    task::{self, TaskState},
};

/// Whether this sensor is on; its hooks serve `tcp` and `process` too.
#[unsafe(no_mangle)]
static SYSCALLS: Global<u8> = Global::new(1);
/// Whether the kernel hands out the registers of the current task (since 5.15).
#[unsafe(no_mangle)]
pub(super) static REGS_TELL: Global<u8> = Global::new(1);
/// Number of rt_sigreturn(2).
#[unsafe(no_mangle)]
static NR_RT_SIGRETURN: Global<u64> = Global::new(u64::MAX);

/// match-proto: `void(struct pt_regs *regs, long id)`
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the hook's typed argument.
    entered(|| unsafe { Typed::new(ctx.arg(0)) }, ctx.arg(1));
    0
}

#[tracepoint(category = "raw_syscalls", name = "sys_enter")]
fn sys_enter_classic(ctx: TracePointContext) -> u32 {
    entered(registers, argument(&ctx, 0));
    0
}

/// match-proto: `void(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the hook's typed argument.
    returned(unsafe { Typed::new(ctx.arg(0)) }, ctx.arg(1));
    0
}

#[tracepoint(category = "raw_syscalls", name = "sys_exit")]
fn sys_exit_classic(ctx: TracePointContext) -> u32 {
    returned(registers(), argument(&ctx, 1) as i64);
    0
}

/// The registers with which the current task entered the kernel.
#[inline(always)]
pub(super) fn registers() -> Typed {
    // SAFETY: the helpers take the current task, as the verifier knows it.
    unsafe { Typed::new(bpf_task_pt_regs(bpf_get_current_task_btf()) as KernelPtr) }
}

/// A number out of a classic tracepoint's record: `struct trace_entry`, then one long after the other
/// (`TP_STRUCT__entry` in include/trace/events/syscalls.h).
#[inline(always)]
pub(super) fn argument(ctx: &TracePointContext, index: usize) -> u64 {
    // SAFETY: the verifier checks the load against the size of the record.
    unsafe { ctx.as_ptr().cast::<u64>().add(1 + index).read_volatile() }
}

/// match-proto: `void(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let prev: KernelPtr = ctx.arg(1);
    // SAFETY: `prev` is a trusted argument of the hook.
    switched(|| unsafe { task::state_or_new_of(prev) });
    0
}

/// match-proto: `void(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`
#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach_task(_: BtfTracePointContext) -> i32 {
    cell::forget_all();
    0
}

/// Another task will run, after the one whose state this is.
#[inline(always)]
fn switched(state_of_prev: impl FnOnce() -> Option<*mut TaskState>) {
    let cell = cell::of(cell::processor());
    // SAFETY: this CPU's cell.
    unsafe {
        timing::leave_processor(cell, state_of_prev);
        cell::switched(cell);
    }
}

#[inline(always)]
fn entered<R: Registers>(regs: impl Fn() -> R, number: u64) {
    if REGS_TELL.load() == 0 && abi::may_be_exit(number) {
        let is_compat = abi::is_compat(regs());
        if abi::is_exit(number, is_compat) {
            return bank::book_without_result(index(number, is_compat));
        }
    }
    timing::begin(regs, number);
}

#[inline(always)]
fn returned<R: Registers>(regs: R, result: i64) {
    let now = timing::now_if_full();
    let cell = cell::of(cell::processor());
    // SAFETY: this CPU's cell.
    unsafe {
        if timing::is_unwanted(cell, || regs) {
            count(cell, regs, result, Timing::UNWANTED);
        } else if let Some(timing) = timing::end(cell, now) {
            count(cell, regs, result, timing);
        } else {
            count_after_switch(cell, regs, result);
        }
    }
}

/// Counts a call that took its time anyway. It has a subprogram of its own, so that the others, of which more is known, need
/// no stack for what isn't.
///
/// # Safety
///
/// `cell` is this CPU's.
#[inline(never)]
unsafe fn count_after_switch<R: Registers>(cell: *mut Cell, regs: R, result: i64) {
    // SAFETY: the caller's promise.
    unsafe { count(cell, regs, result, timing::end_after_switch(cell, abi::number(regs))) };
}

/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
unsafe fn count<R: Registers>(cell: *mut Cell, regs: R, result: i64, timing: Timing) {
    let is_compat = abi::is_compat(regs);
    // The registers know better than the entry does if execve(2) has gone over to another ABI. To copy them is dear.
    let number = if timing.began && R::ARE_COPIED { timing.number } else { abi::number(regs) };
    let (number, result) = match number {
        // rt_sigreturn(2) has put back the registers of what a signal interrupted, the one for the result among them.
        u64::MAX => (NR_RT_SIGRETURN.load(), 0),
        _ if R::ARE_COPIED && !is_compat && number == NR_RT_SIGRETURN.load() => (number, 0),
        _ => (number, result),
    };
    if !is_compat && tcp::is_connect(number) {
        // SAFETY: the caller's promise; the number is at hand.
        let took_ns = unsafe { cell::forgotten(cell, timing.took_ns) };
        tcp::connect_returned(regs, result, took_ns);
    }
    if SYSCALLS.load() == 0 || result == 0 && !timing.began && abi::is_fork(number, is_compat) {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { bank::book(cell, regs, index(number, is_compat), result, timing) };
}

/// A thread ends: if by its own call of exit(2) or exit_group(2), that is counted now, since it won't return.
#[inline(always)]
pub(super) fn thread_ended() {
    cell::forget_all();
    task::forget(task::current());
    if SYSCALLS.load() == 0 || REGS_TELL.load() == 0 {
        return;
    }
    let cell = cell::of(cell::processor());
    // SAFETY: this CPU's cell.
    unsafe { (*cell).entered = 0 };
    // The ending thread is the current one.
    let regs = registers();
    let (number, is_compat) = (abi::number(regs), abi::is_compat(regs));
    if abi::is_exit(number, is_compat) {
        bank::book_without_result(index(number, is_compat));
    }
}

/// Where a call is counted in a bank.
#[inline(always)]
pub(super) fn index(number: u64, is_compat: bool) -> u32 {
    if is_compat { COMPAT } else { number_index(number) }
}
