//! How long a call took.
//!
//! At its entry a call leaves its number and the tick of the kernel's clock in the cell of its CPU, and reads the
//! precise clock if its turn has come ([`Mode`]). Most calls return before another task runs; then the cell still has
//! it. If the task is switched out within the call, the call is slow: what the cell has moves into task storage.

use agent_ebpf::contract::{
    stats::SensorId,
    syscalls::{Cell, Mode, SAMPLED, SLOW_TICKS, by_ticks, gap},
};
use aya_ebpf::{
    Global,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
};

use crate::{
    kernel::{
        cell,
        event::stats,
        maps::SLOT_MODES,
        registers::Registers,
        task::{self, TaskState},
    },
    sensor::tcp,
};

/// A [`Mode`]: that of the node.
#[unsafe(no_mangle)]
static MODE: Global<u64> = Global::new(Mode::Full as u64);
/// Whether containers may have another one (`SLOT_MODES`).
#[unsafe(no_mangle)]
static MODES_DIFFER: Global<u8> = Global::new(0);
/// Nanoseconds of a tick.
#[unsafe(no_mangle)]
static TICK_NS: Global<u64> = Global::new(u64::MAX);

const COUNTS: u64 = Mode::Counts as u64;
const FULL: u64 = Mode::Full as u64;

/// What is known of the time that a call took. All of it has a value in any case: older verifiers refuse a program that
/// takes what has none onto its stack.
#[derive(Clone, Copy)]
pub(super) struct Timing {
    /// Whether its beginning was seen.
    pub(super) began: bool,
    /// Whether it should have a duration, but nobody knows when it began.
    pub(super) is_missed: bool,
    /// The call's, if its beginning was seen.
    pub(super) number: u64,
    /// 0 where that isn't known.
    pub(super) took_ns: u64,
    /// For how many calls of the histogram it stands; 0 where the clock wasn't read.
    pub(super) weight: u64,
}

impl Timing {
    /// Calls of this container are not timed.
    pub(super) const UNWANTED: Self =
        Self { began: false, is_missed: false, number: 0, took_ns: 0, weight: 0 };
    const MISSED: Self = Self { is_missed: true, ..Self::UNWANTED };

    #[inline(always)]
    fn began(number: u64, took_ns: u64, weight: u64) -> Self {
        Self { began: true, is_missed: false, number, took_ns, weight }
    }
}

/// Whether every call on the node is timed.
#[inline(always)]
fn is_full() -> bool {
    MODES_DIFFER.load() == 0 && MODE.load() == FULL
}

/// The time, where every call is timed; else 0. It is read before anything else is done: the processor ends whatever
/// it has begun before it reads its clock, and what comes later it does beside the call itself.
#[inline(always)]
pub(super) fn now_if_full() -> u64 {
    if is_full() { now_ns() } else { 0 }
}

/// A call begins.
#[inline(always)]
pub(super) fn begin<R: Registers>(regs: impl Fn() -> R, number: u64) {
    let now = now_if_full();
    let cell = cell::of(cell::processor());
    // SAFETY: this CPU's cell.
    unsafe {
        (*cell).number = number;
        if is_full() {
            (*cell).entered = now;
            return;
        }
        let mode = mode(cell, regs);
        if mode == COUNTS {
            return;
        }
        (*cell).entered = ticks();
        // How long a refused connect took is part of its event.
        if mode == FULL || tcp::is_connect(number) {
            (*cell).clock_ns = now_ns();
            (*cell).weight = 1;
            return;
        }
        let until_sampled = (*cell).until_sampled;
        if until_sampled > 1 {
            (*cell).until_sampled = until_sampled - 1;
            (*cell).weight = 0;
        } else {
            let now = now_ns();
            (*cell).clock_ns = now;
            (*cell).weight = SAMPLED;
            (*cell).until_sampled = gap(now);
        }
    }
}

/// Whether calls of the running task are not timed. If the one that has returned was to be when it began, its beginning is
/// forgotten: it is not that of the next one.
///
/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
pub(super) unsafe fn is_unwanted<R: Registers>(cell: *mut Cell, regs: impl Fn() -> R) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let is_unwanted = mode(cell, regs) == COUNTS;
        if is_unwanted && MODES_DIFFER.load() != 0 {
            (*cell).entered = 0;
        }
        is_unwanted
    }
}

/// The current task's call has returned; where all are timed, it is `now`. `None` if another task ran meanwhile or
/// nobody saw the call begin: that is for [`end_after_switch`].
///
/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
pub(super) unsafe fn end(cell: *mut Cell, now: u64) -> Option<Timing> {
    // SAFETY: the caller's promise.
    unsafe {
        let entered = (*cell).entered;
        if entered == 0 {
            return None;
        }
        (*cell).entered = 0;
        let number = (*cell).number;
        if is_full() {
            return Some(Timing::began(number, now.wrapping_sub(entered), 1));
        }
        let weight = (*cell).weight;
        let passed = ticks().wrapping_sub(entered);
        if passed < SLOW_TICKS && weight == 0 {
            return Some(Timing::began(number, 0, 0));
        }
        let since_read = now_ns().wrapping_sub((*cell).clock_ns);
        let took_ns = if weight == 0 { by_ticks(passed, TICK_NS.load(), since_read) } else { since_read };
        Some(Timing::began(number, took_ns, if passed < SLOW_TICKS { weight } else { 1 }))
    }
}

/// The current task's call has returned that the cell knows nothing of. `number` is what the registers say; `u64::MAX`
/// where they are of no call any more.
///
/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
pub(super) unsafe fn end_after_switch(cell: *mut Cell, number: u64) -> Timing {
    // SAFETY: the caller's promise; the current task, whose state is ours.
    unsafe {
        let Some(state) = task::state(task::current()) else { return Timing::MISSED };
        let since_ns = (*state).since_ns;
        (*state).since_ns = 0;
        // The call that slept may have returned while its container was not timed: then this is another one.
        if since_ns == 0 || number != u64::MAX && number != (*state).number {
            return Timing::MISSED;
        }
        let now = now_ns();
        (*cell).clock_ns = now;
        Timing::began((*state).number, now.wrapping_sub(since_ns), 1)
    }
}

/// A task leaves this CPU, maybe in the middle of a call. Where the clock wasn't read at its entry it is now: that
/// takes off what the call took before it slept, but for whole ticks.
///
/// # Safety
///
/// `cell` is this CPU's; `state_of_prev` is that task's, made if there was none.
#[inline(always)]
pub(super) unsafe fn leave_processor(
    cell: *mut Cell,
    state_of_prev: impl FnOnce() -> Option<*mut TaskState>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let entered = (*cell).entered;
        if entered == 0 {
            return;
        }
        (*cell).entered = 0;
        let Some(state) = state_of_prev() else {
            (*stats(SensorId::Syscalls)).untracked += 1;
            return;
        };
        (*state).number = (*cell).number;
        if is_full() {
            (*state).since_ns = entered;
            return;
        }
        let clock_ns = (*cell).clock_ns;
        (*state).since_ns = if (*cell).weight != 0 {
            clock_ns
        } else {
            // A tick may have passed right after the entry: only those after it are sure.
            let sure = ticks().wrapping_sub(entered).saturating_sub(1);
            let now = now_ns();
            (*cell).clock_ns = now;
            now.wrapping_sub(by_ticks(sure, TICK_NS.load(), now.wrapping_sub(clock_ns)))
        };
    }
}

/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
unsafe fn mode<R: Registers>(cell: *mut Cell, regs: impl Fn() -> R) -> u64 {
    if MODES_DIFFER.load() == 0 {
        return MODE.load();
    }
    // SAFETY: the caller's promise; a cell of our own array map.
    unsafe {
        let slot = cell::place(cell, regs).slot();
        SLOT_MODES.get_ptr(slot).map_or(COUNTS, |mode| mode.read_volatile())
    }
}

#[inline(always)]
fn ticks() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_jiffies64() }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}
