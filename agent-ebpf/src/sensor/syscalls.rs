//! System calls: counted, timed and their errors told apart in the kernel, per container.
//!
//! A call is counted when it ends. Those that never return are counted when they begin; the child of a fork
//! returns from a call that its parent made, and is not counted. The time of entry waits in a per-CPU cell
//! while the task stays on its CPU, and moves into task storage when the task is switched out.
//!
//! Entry and exit have two programs each, of which one is attached: where tasks can preempt a BTF-typed tracepoint
//! (since 7.0) the kernel would refuse the runs of all others on that CPU meanwhile, so there the classic
//! tracepoint is taken, which is dearer but is never preempted.

use agent_ebpf::contract::{
    slot::EXCLUDED,
    stats::SensorId,
    syscalls::{
        BUCKETS, Bank, CLASSES, ERRNO_MAX, ERROR_BUCKETS, ERROR_WAYS, ErrorBucket, NUMBERS, bucket,
        error_bucket, error_key, number_index,
    },
};
use aya_ebpf::{
    EbpfContext as _, Global,
    helpers::generated::{
        bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_task_pt_regs,
    },
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};

use super::tcp;
use crate::kernel::{
    event::stats,
    load::{KernelPtr, field, masked},
    maps::{BANKS, CLASS_OF, ERRORS, IN_CALL, InCall, SLOTS},
    offset, slot, task,
};

/// Whether this sensor is on; the hooks below serve `tcp` too.
#[unsafe(no_mangle)]
static SYSCALLS: Global<u8> = Global::new(1);
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

#[inline(always)]
fn entered(number: u64) {
    let task = task::current();
    if number == NR_EXIT.load() || number == NR_EXIT_GROUP.load() {
        ended(task, number, 0, Timing::None);
    } else if let Some(call) = IN_CALL.get_ptr_mut(0) {
        // SAFETY: this CPU's cell of our own map, which only this hook, its exit and the switch touch, none of
        // which can interrupt another.
        unsafe { call.write(InCall { task: task as u64, since_ns: bpf_ktime_get_ns(), number }) };
    }
}

#[inline(always)]
fn returned(regs: KernelPtr, result: i64) {
    let task = task::current();
    // SAFETY: the registers are typed in both programs.
    let in_regs: u64 = unsafe { field(regs, &offset::REGS_NUMBER) };
    let (began, since_ns) = began(task);
    // What was asked for is what began: rt_sigreturn(2) leaves no number in its registers.
    let number = if since_ns != 0 { began } else { in_regs };
    tcp::call_returned(regs, task, number, result, since_ns);
    if SYSCALLS.load() != 0 && !(result == 0 && since_ns == 0 && is_fork(number)) {
        let timing = if since_ns != 0 {
            // SAFETY: the helper takes nothing.
            Timing::Took(unsafe { bpf_ktime_get_ns() }.wrapping_sub(since_ns))
        } else {
            Timing::Unknown
        };
        ended(task, number, result, timing);
    }
}

/// match-proto: `void(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let prev: KernelPtr = ctx.arg(1);
    if let Some(call) = IN_CALL.get_ptr_mut(0) {
        // SAFETY: as in `sys_enter`; `prev` is a trusted argument of the hook.
        unsafe {
            if (*call).task == prev as u64 {
                if let Some(state) = task::state_or_new_of(prev) {
                    (*state).since_ns = (*call).since_ns;
                    (*state).number = (*call).number;
                } else if let Some(stats) = stats(SensorId::Syscalls) {
                    (*stats).untracked += 1;
                }
                (*call).task = 0;
            }
        }
    }
    0
}

/// Number and time of entry of the call that `task` returns from; zeros if its entry was not seen. (An `Option` would
/// leave a part of the stack unwritten, and the verifier of 5.10 refuses to have that copied.)
#[inline(always)]
fn began(task: KernelPtr) -> (u64, u64) {
    let Some(call) = IN_CALL.get_ptr_mut(0) else { return (0, 0) };
    // SAFETY: as in `sys_enter`; `task` is the current one.
    unsafe {
        if (*call).task == task as u64 {
            (*call).task = 0;
            return ((*call).number, (*call).since_ns);
        }
        let Some(state) = task::state(task) else { return (0, 0) };
        let since_ns = (*state).since_ns;
        (*state).since_ns = 0;
        ((*state).number, since_ns)
    }
}

#[inline(always)]
fn is_fork(number: u64) -> bool {
    number == NR_CLONE.load()
        || number == NR_CLONE3.load()
        || number == NR_FORK.load()
        || number == NR_VFORK.load()
}

/// How long a call took.
#[derive(Clone, Copy)]
enum Timing {
    /// Nanoseconds.
    Took(u64),
    /// It ended, but nobody knows when it began.
    Unknown,
    /// It does not return.
    None,
}

/// Books a call that has ended.
#[inline(always)]
fn ended(task: KernelPtr, number: u64, result: i64, timing: Timing) {
    let slot = slot::of(task::current_cgroup_id(task));
    // SAFETY: the helper takes nothing.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if slot == EXCLUDED || task::is_self(task::current_pid(task)) {
        if let Some(stats) = stats(SensorId::Syscalls) {
            // SAFETY: this CPU's counter, which only this hook adds to.
            unsafe { (*stats).filtered += 1 };
        }
        return;
    }
    let index = number_index(number);
    let Some(bank) = BANKS.get_ptr_mut(cpu * SLOTS.load() + slot) else { return };
    // SAFETY: this CPU's bank, which only this program writes to; all indexes are masked.
    unsafe {
        *(&raw mut (*bank).calls).cast::<u64>().add(masked::<{ NUMBERS as u32 - 1 }>(index.into())) += 1;
        match timing {
            Timing::Took(duration_ns) => record_duration(bank, index, duration_ns),
            Timing::Unknown => (*bank).untimed += 1,
            Timing::None => {}
        }
    }
    if result < 0 && result >= -(ERRNO_MAX as i64) {
        record_error(bank, cpu, slot, index, -result as u32);
    }
}

/// # Safety
///
/// `bank` is this CPU's.
#[inline(always)]
unsafe fn record_duration(bank: *mut Bank, index: u32, duration_ns: u64) {
    let class = CLASS_OF.get(index).map_or(0, |class| *class as usize & (CLASSES - 1));
    let bucket = bucket(duration_ns).min(BUCKETS - 1);
    // SAFETY: the caller's promise; class and bucket are below the lengths of their arrays.
    unsafe {
        let cell = (&raw mut (*bank).classes).cast::<agent_ebpf::contract::syscalls::ClassCell>().add(class);
        *(&raw mut (*cell).buckets).cast::<u64>().add(bucket) += 1;
        (*cell).sum_ns += duration_ns;
    }
}

/// Counts an error in this CPU's table; where its bucket is full, the errno is forgotten and that is counted.
#[inline(never)]
fn record_error(bank: *mut Bank, cpu: u32, slot: u32, index: u32, errno: u32) {
    let key = error_key(slot, index, errno);
    let Some(bucket) = ERRORS.get_ptr_mut(cpu * ERROR_BUCKETS + error_bucket(key)) else { return };
    // SAFETY: this CPU's bucket, which only this program writes to; user space frees entries of dead slots by
    // zeroing their key last, so a free entry has no count that anybody still adds to.
    unsafe {
        let keys = (&raw mut (*bucket).keys).cast::<u64>();
        let counts = (&raw mut (*bucket).counts).cast::<u64>();
        let mut free = ERROR_WAYS;
        for way in 0..ERROR_WAYS {
            let found = keys.add(way).read_volatile();
            if found == key {
                *counts.add(way) += 1;
                return;
            }
            if found == 0 && free == ERROR_WAYS {
                free = way;
            }
        }
        if free < ERROR_WAYS {
            counts.add(free).write_volatile(1);
            keys.add(free).write_volatile(key);
        } else {
            (*bank).errors_folded += 1;
        }
    }
}

const _: () = assert!(size_of::<ErrorBucket>() == 128);
