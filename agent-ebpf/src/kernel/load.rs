//! Loads from kernel memory.

use core::ptr::addr_of_mut;

use aya_ebpf::helpers::generated;

use super::offset::Field;

/// A pointer to a kernel structure, as it came out of a hook's argument or out of another structure.
pub(crate) type KernelPtr = *const u8;

/// A direct load of the field at `offset`.
///
/// # Safety
///
/// `base` comes from a BTF-typed argument of the hook or from a field loaded through one: the verifier then
/// knows its type, checks type and width of the field, and refuses the program otherwise. A null pointer reads
/// as zero (the kernel handles the fault).
#[inline(always)]
pub(crate) unsafe fn field<T: Copy>(base: KernelPtr, offset: &impl Field) -> T {
    // SAFETY: the caller's promise.
    unsafe { offset.through(base) }
}

/// Copies the field at `offset` through the helper, for what the verifier can't follow: casts between kernel
/// types and arrays. All zeros if the memory can't be read.
#[inline(always)]
pub(crate) fn copied<T: Copy + Default>(base: KernelPtr, offset: &impl Field) -> T {
    at(base.wrapping_add(offset.offset()))
}

/// Copies what lies at `address` through the helper.
#[inline(always)]
pub(crate) fn at<T: Copy + Default>(address: KernelPtr) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes exactly the size of T into `value`, and checks the source itself.
    unsafe {
        generated::bpf_probe_read_kernel(addr_of_mut!(value).cast(), size_of::<T>() as u32, address.cast());
    }
    value
}

/// Fills `target` from kernel memory at `address`; zeros where it can't be read.
///
/// # Safety
///
/// `target` is memory that the program owns, `len` bytes long.
#[inline(always)]
pub(crate) unsafe fn copy_to(target: *mut u8, len: u32, address: KernelPtr) {
    // SAFETY: the caller's promise; the helper checks the source, and zeroes the target on a fault.
    unsafe {
        generated::bpf_probe_read_kernel(target.cast(), len, address.cast());
    }
}

/// Copies a C string from kernel memory into `target`; its length without the NUL, 0 if it can't be read.
///
/// # Safety
///
/// `target` is memory that the program owns, `len` bytes long.
#[inline(always)]
pub(crate) unsafe fn string_to(target: *mut u8, len: u32, address: KernelPtr) -> u32 {
    // SAFETY: the caller's promise; the helper writes at most `len` bytes and checks the source.
    let written = unsafe { generated::bpf_probe_read_kernel_str(target.cast(), len, address.cast()) };
    if written > 0 { written as u32 - 1 } else { 0 }
}

/// `value & MASK` by an instruction that the compiler can't leave out. It may know the value to be small enough
/// where an older verifier doesn't: for having compared a copy of it, say.
#[inline(always)]
pub(crate) fn masked<const MASK: u32>(value: u64) -> usize {
    let mut masked = value;
    // SAFETY: one instruction that reads and writes the register it is given.
    unsafe { core::arch::asm!("{masked} &= {mask}", masked = inout(reg) masked, mask = const MASK) };
    masked as usize
}

/// The same value, of which the verifier no longer knows that it is the same: what it learns of this one by comparing it,
/// it would else learn of the other one, too, and walk all that follows once for each outcome.
#[inline(always)]
pub(crate) fn unlinked(value: u64) -> u64 {
    let mut unlinked = value;
    // SAFETY: one instruction that leaves the register it is given as it is.
    unsafe { core::arch::asm!("{unlinked} |= 0", unlinked = inout(reg) unlinked) };
    unlinked
}
