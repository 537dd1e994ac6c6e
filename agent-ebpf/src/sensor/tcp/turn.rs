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
//! is a mark for each level, and nothing interrupts its own level. Where tasks preempt each other in between (since
//! 7.0), a system call's mark is kept with its task; there a third task may still find both programs busy, and the
//! agent shows how often.

use agent_ebpf::contract::stats::SensorId;
use aya_ebpf::{Global, macros::map, maps::PerCpuArray};

use crate::kernel::{
    event::{bump, stats},
    load::{KernelPtr, field},
    offset,
    task::{self, Mark},
};

/// Whether tasks preempt each other inside of a tracepoint. They have task storage, then.
#[unsafe(no_mangle)]
static PREEMPTED: Global<u8> = Global::new(0);

/// The latest transitions that the first program took on this CPU, by whether the socket was owned.
#[map]
static MARKS: PerCpuArray<[Mark; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Marks a transition as taken by the first program.
#[inline(always)]
pub(super) fn take(sk: KernelPtr, new: u32) {
    if let Some(mark) = mark(sk) {
        // SAFETY: a cell of our own map, of this CPU and level or of this task.
        unsafe { mark.write(Mark { sk: sk as u64, new: new.into() }) };
    }
}

/// Whether the first program took the transition; the mark is wiped.
#[inline(always)]
pub(super) fn is_taken(sk: KernelPtr, new: u32) -> bool {
    let Some(mark) = mark(sk) else { return true };
    // SAFETY: as above.
    unsafe {
        let is_taken = (*mark).sk == sk as u64 && (*mark).new == u64::from(new);
        // Also if it is an old one, which the second program was refused to wipe.
        (*mark).sk = 0;
        is_taken
    }
}

/// Counts a transition that the first program was refused.
#[inline(always)]
pub(super) fn count() {
    // SAFETY: a counter in our map.
    unsafe { bump(&raw mut (*stats(SensorId::Tcp)).nested) };
}

#[inline(always)]
fn mark(sk: KernelPtr) -> Option<*mut Mark> {
    // SAFETY: the hook's typed argument.
    let is_owned = unsafe { field::<u32>(sk, &offset::SOCK_OWNED) } != 0;
    if PREEMPTED.load() != 0 && is_owned {
        // SAFETY: the current task; the state is ours.
        return unsafe { task::state_or_new(task::current()) }
            .map(|state| unsafe { &raw mut (*state).taken });
    }
    let marks = MARKS.get_ptr_mut(0)?;
    // SAFETY: a cell of our own map.
    Some(unsafe { &raw mut (*marks)[is_owned as usize] })
}
