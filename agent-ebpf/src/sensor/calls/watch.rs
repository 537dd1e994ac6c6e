//! Calls that somebody watches. Attached only meanwhile; what begins before isn't seen.
//!
//! Entry decides: the call's number and the task's cgroup are looked up there, and what is wanted is noted with the
//! task. So a call has its duration, however long it sleeps, and one that overwrites its registers has its number.

use agent_ebpf::contract::{
    calls::{CallSet, Watch},
    event::EventKind,
    stats::SensorId,
};
use aya_ebpf::{
    helpers::generated::bpf_ktime_get_ns,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};

use super::{NO_RESULT, report};
use crate::{
    kernel::{
        event::{filtered, untracked},
        load::{KernelPtr, masked},
        maps::{WATCH, WATCHED},
        registers::Typed,
        task,
    },
    sensor::syscalls::{abi, argument, index, registers},
};

/// match-proto: `void(struct pt_regs *regs, long id)`
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter_watch(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the hook's typed argument.
    entered(unsafe { Typed::new(ctx.arg(0)) }, ctx.arg(1));
    0
}

#[tracepoint(category = "raw_syscalls", name = "sys_enter")]
fn sys_enter_watch_classic(ctx: TracePointContext) -> u32 {
    entered(registers(), argument(&ctx, 0));
    0
}

/// match-proto: `void(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
fn sys_exit_watch(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the hook's typed argument.
    returned(unsafe { Typed::new(ctx.arg(0)) }, ctx.arg(1));
    0
}

#[tracepoint(category = "raw_syscalls", name = "sys_exit")]
fn sys_exit_watch_classic(ctx: TracePointContext) -> u32 {
    returned(registers(), argument(&ctx, 1) as i64);
    0
}

#[inline(always)]
fn entered(regs: Typed, number: u64) {
    let Some(watch) = WATCH.get_ptr(0) else { return };
    let is_compat = abi::is_compat(regs);
    let index = index(number, is_compat);
    let current = task::current();
    if !is_wanted(watch, index, current) {
        return;
    }
    if task::is_self(task::current_pid(current)) {
        return filtered(SensorId::Calls);
    }
    if abi::is_exit(number, is_compat) {
        return report(regs, index, NO_RESULT, 0, EventKind::SyscallCall as u32);
    }
    // SAFETY: the current task; the state is ours; a cell of our own array map.
    unsafe {
        match task::state_or_new(current) {
            Some(state) => {
                (*state).watched = mark(watch, index);
                (*state).watched_ns = bpf_ktime_get_ns();
            }
            None => untracked(SensorId::Calls),
        }
    }
}

#[inline(always)]
fn returned(regs: Typed, result: i64) {
    let Some(watch) = WATCH.get_ptr(0) else { return };
    let current = task::current();
    // SAFETY: the current task; the state is ours; a cell of our own array map.
    unsafe {
        let state = task::state(current);
        let since_ns = state.map_or(0, |state| (*state).watched_ns);
        let Some(state) = state.filter(|_| since_ns != 0) else {
            return returned_unentered(watch, regs, result, current);
        };
        (*state).watched_ns = 0;
        // rt_sigreturn(2) leaves what it has put back, in the register for the result, too.
        let result = if abi::number(regs) == u64::MAX { 0 } else { result };
        let watched = (*state).watched;
        let index = watched as u32;
        if watched == mark(watch, index) {
            let took_ns = bpf_ktime_get_ns().wrapping_sub(since_ns);
            report(regs, index, result, took_ns, EventKind::SyscallCall as u32);
        }
    }
}

/// A call that nobody has seen begin, and that failed. The kernel asks seccomp before it tells of an entry
/// (`syscall_trace_enter`, kernel/entry/common.c), so this is how a call looks that seccomp has refused. One that was
/// under way when somebody began to watch looks the same; its failure is as true.
#[inline(always)]
fn returned_unentered(watch: *const Watch, regs: Typed, result: i64, current: KernelPtr) {
    let number = abi::number(regs);
    if result >= 0 || number == u64::MAX {
        return;
    }
    let index = index(number, abi::is_compat(regs));
    if !is_wanted(watch, index, current) {
        return;
    }
    if task::is_self(task::current_pid(current)) {
        return filtered(SensorId::Calls);
    }
    report(regs, index, result, 0, EventKind::SyscallCall as u32);
}

/// # Safety
///
/// `watch` is the cell of [`WATCH`].
#[inline(always)]
unsafe fn mark(watch: *const Watch, index: u32) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (&raw const (*watch).epoch).read_volatile() << 32 | index as u64 }
}

#[inline(always)]
fn is_wanted(watch: *const Watch, index: u32, current: KernelPtr) -> bool {
    // SAFETY: a cell of our own array map, and a value of our own hash map, read at once.
    unsafe {
        if !contains(&raw const (*watch).any, index) {
            return false;
        }
        contains(&raw const (*watch).everywhere, index)
            || WATCHED.get_ptr(task::current_cgroup_id(current)).is_some_and(|set| contains(set, index))
    }
}

/// # Safety
///
/// `set` lies in one of our maps.
#[inline(always)]
unsafe fn contains(set: *const CallSet, index: u32) -> bool {
    // SAFETY: the caller's promise; the word is masked to the length of the set.
    unsafe {
        let word = set.cast::<u64>().add(masked::<7>((index >> 6).into())).read_volatile();
        word >> (index & 63) & 1 != 0
    }
}
