//! Which of the two programs on the hook takes a transition.
//!
//! The kernel runs a program once at a time on a CPU and refuses a run that nests (`bpf_prog.active`,
//! kernel/trace/bpf_trace.c). Transitions do nest: a system call's may be interrupted by a softirq that handles a
//! whole batch of packets, and with one program everything in the batch would go unseen. So each transition is
//! offered to two programs, in the order in which they were attached. The first takes what it gets and leaves a
//! mark; the second takes what bears no mark. Whichever of them is interrupted, the other is not running, so that
//! nothing is refused by both.
//!
//! A mark must outlive a softirq between the two programs. Who holds the socket tells the levels apart: a system
//! call owns it (`sk_lock.owned`) while softirqs are let in, and a softirq leaves an owned socket alone. So there
//! is a mark for each level, and nothing interrupts its own level. Since 7.0, programs on tracepoints can be
//! preempted: there a third task may find both programs busy, and the agent shows how often.

use agent_ebpf::contract::stats::SensorId;
use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::kernel::{
    event::{bump, stats},
    load::{KernelPtr, field},
    offset,
};

/// A transition that the first program took: the socket's address, 0 if the second has found the mark, and its
/// new state.
#[repr(C)]
#[derive(Clone, Copy)]
struct Mark {
    sk: u64,
    new: u64,
}

/// The latest marks on this CPU, by whether the socket was owned.
#[map]
static MARKS: PerCpuArray<[Mark; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Marks a transition as taken by the first program.
#[inline(always)]
pub(super) fn take(sk: KernelPtr, new: u32) {
    if let Some(mark) = mark(sk) {
        // SAFETY: a cell of our own map, on this CPU.
        unsafe { mark.write(Mark { sk: sk as u64, new: new.into() }) };
    }
}

/// Whether the first program took the transition; its mark is wiped.
#[inline(always)]
pub(super) fn is_taken(sk: KernelPtr, new: u32) -> bool {
    let Some(mark) = mark(sk) else { return true };
    // SAFETY: as above.
    unsafe {
        if (*mark).sk != sk as u64 || (*mark).new != u64::from(new) {
            return false;
        }
        (*mark).sk = 0;
    }
    true
}

/// Counts a transition that the first program was refused.
#[inline(always)]
pub(super) fn count() {
    if let Some(stats) = stats(SensorId::Tcp) {
        // SAFETY: a counter in our map.
        unsafe { bump(&raw mut (*stats).nested) };
    }
}

#[inline(always)]
fn mark(sk: KernelPtr) -> Option<*mut Mark> {
    // SAFETY: the hook's typed argument.
    let is_owned = unsafe { field::<u32>(sk, &offset::SOCK_OWNED) } != 0;
    let marks = MARKS.get_ptr_mut(0)?;
    // SAFETY: a cell of our own map.
    Some(unsafe { &raw mut (*marks)[is_owned as usize] })
}
