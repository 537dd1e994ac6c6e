//! The way into the ring buffers: count, throttle, reserve, fill, submit.

use agent_ebpf::contract::{
    control::refill,
    event::{EventKind, Header},
    slot::EXCLUDED,
    stats::{SENSORS_MAX, SensorId, SensorStats},
};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    maps::{RingBuf, ring_buf::RingBufEntry},
};

use super::{
    cell,
    load::{KernelPtr, copy_to},
    maps::{BUCKETS, EVENTS, EVENTS_MARK, RARE, RARE_MARK},
    offset,
    shared::{CONTROL, STATS, of_cpu},
    slot,
};

/// Which ring a record goes into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    Bulk,
    Rare,
}

/// Whether the container has a say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nobody may want to observe it, and its token bucket may be empty.
    Throttled,
    /// Nobody may want to observe it; too precious to be throttled.
    Observed,
    /// What identity learns from.
    Always,
}

/// The counters of a sensor on this CPU.
#[inline(always)]
pub(crate) fn stats(sensor: SensorId) -> *mut SensorStats {
    of_cpu::<_, { SENSORS_MAX as usize }>(&STATS, cell::processor()).wrapping_add(sensor as usize)
}

/// Adds one, atomically: programs of one sensor interrupt each other (a softirq, a system call).
///
/// # Safety
///
/// `counter` lies in one of our maps.
#[inline(always)]
pub(crate) unsafe fn bump(counter: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { add(counter, 1) };
}

/// The same for any number; `u64::MAX` takes one off.
///
/// # Safety
///
/// As for [`bump`].
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, number: u64) {
    // An instruction that core's atomics don't offer for this target, which has no compare-and-swap.
    // SAFETY: the counter is aligned, as all of the contract are, and lives as long as the map.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {number}",
            counter = in(reg) counter,
            number = in(reg) number,
        );
    }
}

/// Counts something that happened and that nobody wants.
#[inline(always)]
pub(crate) fn filtered(sensor: SensorId) {
    let stats = stats(sensor);
    // SAFETY: counters in our map.
    unsafe {
        bump(&raw mut (*stats).seen);
        bump(&raw mut (*stats).filtered);
    }
}

/// Counts a beginning that found no room, so that its end will lack a duration, or not be told.
#[inline(always)]
pub(crate) fn untracked(sensor: SensorId) {
    // SAFETY: a counter in our map.
    unsafe { bump(&raw mut (*stats(sensor)).untracked) };
}

/// A record that was given room in a ring, and is to be filled and submitted.
#[must_use]
pub(crate) struct Record<T: 'static> {
    entry: RingBufEntry<T>,
    ring: Ring,
    /// Whether it is this one's turn to look how full the ring is.
    looks: bool,
}

/// How many records in bulk share one look at how full their ring is, on average; a power of two.
const RECORDS_A_LOOK: u64 = 8;

/// Whether it is the turn of a record of `now`. The clock decides: by a counter, a rhythm of wanted and unwanted events
/// might have the turn always come to one that is not sent.
#[inline(always)]
fn is_turn(now: u64) -> bool {
    now.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RECORDS_A_LOOK.trailing_zeros()) == 0
}

/// `CLOCK_BOOTTIME`, ns.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Counts an event of `now` and makes room for its record; `None`, and counted, if it is throttled or lost.
/// The record isn't zeroed: every field has to be written.
#[inline(always)]
pub(crate) fn reserve<T: 'static>(
    sensor: SensorId,
    cgroup_id: u64,
    ring: Ring,
    admission: Admission,
    now: u64,
) -> Option<Record<T>> {
    let stats = stats(sensor);
    // SAFETY: counters in our map.
    unsafe { bump(&raw mut (*stats).seen) };
    if admission != Admission::Always {
        let slot = slot::of(cgroup_id);
        if slot == EXCLUDED {
            // SAFETY: as above.
            unsafe { bump(&raw mut (*stats).filtered) };
            return None;
        }
        if admission == Admission::Throttled && !has_token(slot, now) {
            // SAFETY: as above.
            unsafe { bump(&raw mut (*stats).throttled) };
            return None;
        }
    }
    let Some(entry) = ring.map().reserve::<T>(0) else {
        // SAFETY: as above.
        unsafe { bump(&raw mut (*stats).lost) };
        return None;
    };
    Some(Record { entry, ring, looks: ring == Ring::Rare || is_turn(now) })
}

impl<T> Record<T> {
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.entry.as_mut_ptr()
    }

    /// Hands it to the reader, who is woken only when the ring fills: it looks by itself otherwise.
    #[inline(always)]
    pub(crate) fn submit(self) {
        let ring = self.ring;
        let is_filling = self.looks && ring.map().query(BPF_RB_AVAIL_DATA as u64) > ring.mark();
        let flags = if is_filling { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
        self.entry.submit(flags as u64);
    }

    /// Hands it to the reader at once: for what can't wait until the reader looks by itself.
    #[inline(always)]
    pub(crate) fn submit_waking(self) {
        self.entry.submit(BPF_RB_FORCE_WAKEUP as u64);
    }
}

impl Ring {
    #[inline(always)]
    fn map(self) -> &'static RingBuf {
        match self {
            Self::Bulk => &EVENTS,
            Self::Rare => &RARE,
        }
    }

    #[inline(always)]
    fn mark(self) -> u64 {
        match self {
            Self::Bulk => EVENTS_MARK.load(),
            Self::Rare => RARE_MARK.load(),
        }
    }
}

/// What an event takes out of a bucket: see [`refill`].
const TOKEN: u64 = 1000;

/// Takes one of the fewer tokens that there are for slow and failed calls; counts the event as seen and throttled if
/// none is left.
#[inline(always)]
pub(crate) fn has_token_for_call(sensor: SensorId, slot: u32) -> bool {
    let (control, Some(bucket)) = (CONTROL.at(), BUCKETS.get_ptr_mut(slot)) else { return true };
    // SAFETY: memory of ours; a torn update only bends the limit.
    unsafe {
        let (rate, burst) = ((*control).calls_rate, (*control).calls_burst);
        let now = now_ns();
        let before = (*bucket).calls_spent;
        let spent = refill(before, now.saturating_sub((*bucket).calls_refilled_ns), rate);
        if spent != before {
            (*bucket).calls_refilled_ns = now;
        }
        if spent + TOKEN > burst * TOKEN {
            (*bucket).calls_spent = spent;
            bump(&raw mut (*bucket).throttled);
            let stats = stats(sensor);
            bump(&raw mut (*stats).seen);
            bump(&raw mut (*stats).throttled);
            return false;
        }
        (*bucket).calls_spent = spent + TOKEN;
    }
    true
}

/// Takes a token from the container's bucket. Two CPUs may take the same one: the limit is a fence, not a count. One that
/// has read its clock before the other gains nothing.
#[inline(always)]
fn has_token(slot: u32, now: u64) -> bool {
    let control = CONTROL.at();
    // SAFETY: memory of ours.
    let (rate, burst) = unsafe { ((*control).rate, (*control).burst) };
    if rate == 0 {
        return true;
    }
    let Some(bucket) = BUCKETS.get_ptr_mut(slot) else { return true };
    // SAFETY: a cell of our own array map; a torn update only bends the limit.
    unsafe {
        let before = (*bucket).spent;
        let spent = refill(before, now.saturating_sub((*bucket).refilled_ns), rate);
        if spent != before {
            // Time too short for a gain stays on the clock, or a busy container would never gain any.
            (*bucket).refilled_ns = now;
        }
        if spent + TOKEN > burst * TOKEN {
            (*bucket).spent = spent;
            bump(&raw mut (*bucket).throttled);
            return false;
        }
        (*bucket).spent = spent + TOKEN;
    }
    true
}

/// Fills the header of an event of `now` in place. `comm` is copied from the task if one is given, else it is left to
/// the caller.
///
/// # Safety
///
/// `header` lies in a reserved record.
#[inline(always)]
pub(crate) unsafe fn fill_header(
    header: *mut Header,
    kind: EventKind,
    cgroup_id: u64,
    (pid, tid): (u32, u32),
    comm_of: Option<KernelPtr>,
    now: u64,
) {
    // SAFETY: the caller's promise; every field is written.
    unsafe {
        (&raw mut (*header).time_ns).write(now);
        (&raw mut (*header).cgroup_id).write(cgroup_id);
        (&raw mut (*header).pid).write(pid);
        (&raw mut (*header).tid).write(tid);
        (&raw mut (*header).kind).write(kind as u32);
        (&raw mut (*header).cpu).write(bpf_get_smp_processor_id());
        if let Some(task) = comm_of {
            let comm = (&raw mut (*header).comm).cast::<u8>();
            copy_to(comm, 16, task.wrapping_add(offset::TASK_COMM.load() as usize));
        }
    }
}
