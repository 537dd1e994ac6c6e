//! How long a call took.
//!
//! At its entry a call leaves its number and the tick of the kernel's clock in the cell of its CPU, and reads the
//! precise clock if its turn has come ([`Mode`]). Most calls return before another task runs; then the cell still has
//! it. If the task is switched out within the call, the call is slow: what the cell has moves into task storage.

use agent_ebpf::contract::{
    stats::SensorId,
    syscalls::{Cell, Mode, SAMPLED, SLOW_TICKS, gap},
};
use aya_ebpf::{
    Global,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
};

use crate::{
    kernel::{cell, event::stats, load::KernelPtr, maps::SLOT_MODES, task},
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

/// What is known of the time that a call took.
#[derive(Clone, Copy)]
pub(super) enum Timing {
    /// Its beginning was seen: it took `took_ns`, and stands for `weight` calls of the histogram; for none where the
    /// clock wasn't read.
    Began { number: u64, since_ns: u64, took_ns: u64, weight: u64 },
    /// It should have a duration, but nobody knows when it began.
    Missed,
    /// Calls of this container are not timed.
    Unwanted,
}

impl Timing {
    #[inline(always)]
    pub(super) fn began(&self) -> bool {
        matches!(self, Self::Began { .. })
    }

    /// `CLOCK_MONOTONIC` ns of the entry; 0 if the clock wasn't read there.
    #[inline(always)]
    pub(super) fn since_ns(&self) -> u64 {
        if let Self::Began { since_ns, .. } = *self { since_ns } else { 0 }
    }
}

impl Timing {
    /// 0 where that isn't known.
    #[inline(always)]
    pub(super) fn took_ns(&self) -> u64 {
        if let Self::Began { took_ns, .. } = *self { took_ns } else { 0 }
    }
}

/// A call begins.
///
/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
pub(super) unsafe fn begin(cell: *mut Cell, regs: impl Fn() -> KernelPtr, number: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let mode = mode(cell, regs);
        if mode == COUNTS {
            return;
        }
        (*cell).number = number;
        (*cell).entered = ticks();
        // How long a refused connect took is part of its event.
        if mode == FULL || tcp::is_connect(number) {
            (*cell).since_ns = now_ns();
            (*cell).weight = 1;
            return;
        }
        let until_sampled = (*cell).until_sampled;
        if until_sampled > 1 {
            (*cell).until_sampled = until_sampled - 1;
            (*cell).since_ns = 0;
        } else {
            let now = now_ns();
            (*cell).since_ns = now;
            (*cell).weight = SAMPLED;
            (*cell).until_sampled = gap(now);
        }
    }
}

/// The current task's call has returned.
///
/// # Safety
///
/// As for [`begin`].
#[inline(always)]
pub(super) unsafe fn end(cell: *mut Cell, regs: impl Fn() -> KernelPtr) -> Timing {
    // SAFETY: the caller's promise.
    unsafe {
        if mode(cell, regs) == COUNTS {
            return Timing::Unwanted;
        }
        let entered = (*cell).entered;
        if entered == 0 {
            return end_after_switch();
        }
        (*cell).entered = 0;
        let (number, since_ns) = ((*cell).number, (*cell).since_ns);
        let passed = ticks().wrapping_sub(entered);
        let (took_ns, weight) = if since_ns != 0 {
            (now_ns().wrapping_sub(since_ns), if passed < SLOW_TICKS { (*cell).weight } else { 1 })
        } else if passed >= SLOW_TICKS {
            (passed * TICK_NS.load(), 1)
        } else {
            (0, 0)
        };
        Timing::Began { number, since_ns, took_ns, weight }
    }
}

/// The same for a call that another task ran during.
#[inline(always)]
fn end_after_switch() -> Timing {
    // SAFETY: the current task; the state is ours.
    unsafe {
        let Some(state) = task::state(task::current()) else { return Timing::Missed };
        let since_ns = (*state).since_ns;
        if since_ns == 0 {
            return Timing::Missed;
        }
        (*state).since_ns = 0;
        let took_ns = now_ns().wrapping_sub(since_ns);
        Timing::Began { number: (*state).number, since_ns, took_ns, weight: 1 }
    }
}

/// `prev` leaves this CPU, maybe in the middle of a call. Where the clock wasn't read at its entry it is now: that
/// takes off what the call took before it slept, but for whole ticks.
///
/// # Safety
///
/// As for [`begin`]; `prev` is a trusted argument of the hook.
#[inline(always)]
pub(super) unsafe fn leave_processor(cell: *mut Cell, prev: KernelPtr) {
    // SAFETY: the caller's promise.
    unsafe {
        let entered = (*cell).entered;
        if entered == 0 {
            return;
        }
        (*cell).entered = 0;
        let Some(state) = task::state_or_new_of(prev) else {
            if let Some(stats) = stats(SensorId::Syscalls) {
                (*stats).untracked += 1;
            }
            return;
        };
        (*state).number = (*cell).number;
        (*state).since_ns = if (*cell).since_ns != 0 {
            (*cell).since_ns
        } else {
            // A tick may have passed right after the entry: only those after it are sure.
            let sure = ticks().wrapping_sub(entered).saturating_sub(1);
            now_ns().wrapping_sub(sure * TICK_NS.load())
        };
    }
}

/// # Safety
///
/// As for [`begin`].
#[inline(always)]
unsafe fn mode(cell: *mut Cell, regs: impl Fn() -> KernelPtr) -> u64 {
    if MODES_DIFFER.load() == 0 {
        return MODE.load();
    }
    // SAFETY: the caller's promise; a cell of our own array map.
    unsafe {
        let slot = cell::slot(cell, regs);
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
