//! What each CPU remembers of the task that runs on it: see `contract::syscalls::Cell`.
//!
//! A cell is touched by the hooks of its own CPU alone, of which none interrupts another: they run in the context of
//! a task, with preemption disabled. So it takes plain loads and stores. The end of a thread (`sched_process_exit`) can
//! be preempted since 7.0, so it leaves nothing in the cell: see [`place_unremembered`].

use agent_ebpf::contract::{
    slot::EXCLUDED,
    syscalls::{Cell, placed},
};
use aya_ebpf::{Global, helpers::generated::bpf_get_smp_processor_id};

use super::{
    event::bump,
    maps::SLOTS,
    registers::Registers,
    shared::{CELLS, CONTROL, of_cpu},
    slot, task,
};

/// Whether `sched_switch` tells when another task runs: its program calls [`switched`].
#[unsafe(no_mangle)]
static SWITCHES_SEEN: Global<u8> = Global::new(0);

#[inline(always)]
pub(crate) fn processor() -> u32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_smp_processor_id() }
}

/// This CPU's cell.
#[inline(always)]
pub(crate) fn of(processor: u32) -> *mut Cell {
    of_cpu::<_, 1>(&CELLS, processor)
}

/// Where the running task's calls are counted.
#[derive(Clone, Copy)]
pub(crate) struct Place(u64);

impl Place {
    /// [`EXCLUDED`] if nobody wants to observe the task, the agent included.
    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        self.0 as u32
    }

    /// Index of the slot's bank of this CPU.
    #[inline(always)]
    pub(crate) fn bank(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The place of the running task.
///
/// Most tasks make many calls while they run, so what was found stays in the cell until something may have changed
/// it: another task runs, or the generation is another one. A task is known by where its registers are kept, at the
/// top of a stack of its own: that costs less than to ask for the task.
///
/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
pub(crate) unsafe fn place<R: Registers>(cell: *mut Cell, regs: impl Fn() -> R) -> Place {
    // SAFETY: the caller's promise; memory of ours.
    unsafe {
        let generation = (&raw const (*CONTROL.at()).generation).read_volatile();
        let is_same = SWITCHES_SEEN.load() != 0 || (*cell).regs == regs().address();
        if generation != 0 && (*cell).generation == generation && is_same {
            Place((*cell).place)
        } else {
            find(cell, regs().address(), generation)
        }
    }
}

/// # Safety
///
/// As for [`place`].
#[inline(never)]
unsafe fn find(cell: *mut Cell, regs: u64, generation: u64) -> Place {
    let place = place_unremembered();
    // SAFETY: the caller's promise.
    unsafe {
        (*cell).regs = regs;
        (*cell).place = place.0;
        (*cell).generation = generation;
    }
    place
}

/// The same as [`place`], without the memory.
#[inline(always)]
pub(crate) fn place_unremembered() -> Place {
    let task = task::current();
    let slot = if task::is_self(task::current_pid(task)) {
        EXCLUDED
    } else {
        slot::of(task::current_cgroup_id(task))
    };
    Place(placed(slot, processor() * SLOTS.load() + slot))
}

/// The same value, of which the verifier knows nothing any more, since it went through memory. Else it walks through all that
/// follows once for each of the ways to here.
///
/// # Safety
///
/// `cell` is this CPU's, and the running task is in no call of which its number is still wanted.
#[inline(always)]
pub(crate) unsafe fn forgotten(cell: *mut Cell, value: u64) -> u64 {
    // SAFETY: the caller's promise; memory of ours.
    unsafe {
        let field = &raw mut (*cell).number;
        field.write_volatile(value);
        field.read_volatile()
    }
}

/// Another task will run on this CPU.
///
/// # Safety
///
/// As for [`place`].
#[inline(always)]
pub(crate) unsafe fn switched(cell: *mut Cell) {
    // SAFETY: the caller's promise.
    unsafe { (*cell).generation = 0 };
}

/// Makes every CPU look up again whose task runs there.
#[inline(always)]
pub(crate) fn forget_all() {
    // SAFETY: memory of ours. 0, which turns the memory off, is not left by this.
    unsafe {
        let generation = &raw mut (*CONTROL.at()).generation;
        if generation.read_volatile() != 0 {
            bump(generation);
        }
    }
}
