//! Memory that the programs share with user space, and whose address is part of their instructions.
//!
//! An array is looked up for each access, by a key that goes through the stack. A global is not, but the loader makes none
//! that user space can map. So there are both of each: a global in a section `.bss.NAME` by which the programs find it, and
//! an array `NAME` of one element, which the agent puts in its place.

use core::cell::UnsafeCell;

use agent_ebpf::contract::{
    control::Control,
    slot::CACHE_CELLS,
    stats::SensorStats,
    syscalls::{Bank, Cell, NUMBERS},
};
use aya_ebpf::Global;

/// A global that others change meanwhile.
#[repr(transparent)]
pub(crate) struct Shared<T>(UnsafeCell<T>);

// SAFETY: it only hands out its address; whoever uses that promises what has to be.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    const fn zeros() -> Self {
        // SAFETY: all that is shared consists of integers.
        Self(UnsafeCell::new(unsafe { core::mem::zeroed() }))
    }

    /// Its address, of which the compiler doesn't know that it is a global's: else it would take what no program writes
    /// for zero.
    #[inline(always)]
    pub(crate) fn at(&self) -> *mut T {
        let mut address = self.0.get().expose_provenance();
        // SAFETY: no instruction at all.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
        };
        core::ptr::with_exposed_provenance_mut(address)
    }
}

#[unsafe(link_section = ".bss.CONTROL")]
pub(crate) static CONTROL: Shared<Control> = Shared::zeros();

/// One for each CPU; as many as a power of two.
#[unsafe(link_section = ".bss.CELLS")]
pub(crate) static CELLS: Shared<Cell> = Shared::zeros();

/// `SENSORS_MAX` for each CPU, as many as there are cells.
#[unsafe(link_section = ".bss.STATS")]
pub(crate) static STATS: Shared<SensorStats> = Shared::zeros();

/// Cgroup id → slot, direct-mapped; see `contract::slot`.
#[unsafe(link_section = ".bss.SLOT_CACHE")]
pub(crate) static SLOT_CACHE: Shared<[u64; CACHE_CELLS as usize]> = Shared::zeros();

/// System call number → class.
#[unsafe(link_section = ".bss.CLASS_OF")]
pub(crate) static CLASS_OF: Shared<[u8; NUMBERS]> = Shared::zeros();

/// `SLOTS` for each CPU: see [`bank`].
#[unsafe(link_section = ".bss.BANKS")]
static BANKS: Shared<Bank> = Shared::zeros();

/// The last bank where all of them are one element, which the kernel lets be so large since 6.0; else `u64::MAX`, and they
/// have to be looked up.
#[unsafe(no_mangle)]
static LAST_BANK: Global<u64> = Global::new(u64::MAX);

/// One of the banks of all slots and CPUs.
#[inline(always)]
pub(crate) fn bank(index: u32) -> Option<*mut Bank> {
    if LAST_BANK.load() == u64::MAX {
        return arrays::BANKS.get_ptr_mut(index);
    }
    let index = u64::from(index);
    (index <= LAST_BANK.load()).then(|| BANKS.at().wrapping_add(index as usize))
}

/// By which the number of a CPU is masked, so that the verifier knows it for one of them.
#[unsafe(no_mangle)]
static CELLS_MASK: Global<u64> = Global::new(0);

/// The first of the `PER_CPU` elements that this CPU has of a table.
#[inline(always)]
pub(crate) fn of_cpu<T, const PER_CPU: usize>(table: &Shared<T>, cpu: u32) -> *mut T {
    let cpu = cpu as u64 & CELLS_MASK.load();
    table.at().wrapping_add(cpu as usize * PER_CPU)
}

mod arrays {
    use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};

    use super::{Bank, CACHE_CELLS, Cell, Control, NUMBERS, SensorStats};

    #[map]
    static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    pub(super) static BANKS: Array<Bank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static CELLS: Array<Cell> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static STATS: Array<SensorStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static SLOT_CACHE: Array<[u64; CACHE_CELLS as usize]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static CLASS_OF: Array<[u8; NUMBERS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
}
