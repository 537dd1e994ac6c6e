//! Booking a call in the bank of its CPU and slot.

use agent_ebpf::contract::{
    slot::EXCLUDED,
    stats::SensorId,
    syscalls::{
        BUCKETS, Bank, CLASSES, Cell, ClassCell, ERRNO_MAX, ERROR_BUCKETS, ERROR_WAYS, ErrorBucket, NUMBERS,
        bucket, error_bucket, error_key,
    },
};

use super::timing::Timing;
use crate::{
    kernel::{
        cell::{self, forgotten},
        event::{bump, stats},
        load::{masked, unlinked},
        maps::ERRORS,
        registers::Registers,
        shared::{CLASS_OF, bank},
    },
    sensor::calls,
};

/// A call that has returned.
///
/// # Safety
///
/// `cell` is this CPU's.
#[inline(always)]
pub(super) unsafe fn book<R: Registers>(cell: *mut Cell, regs: R, index: u32, result: i64, timing: Timing) {
    // SAFETY: the caller's promise; this CPU's bank, in which only this program counts without a lock.
    unsafe {
        let place = cell::place(cell, || regs);
        if place.slot() == EXCLUDED {
            return filtered();
        }
        let Some(bank) = bank(place.bank()) else { return };
        *count(bank, index) += 1;
        if timing.is_missed {
            (*bank).untimed += 1;
        } else if timing.weight != 0 {
            record_duration(bank, index, timing.took_ns, timing.weight);
        }
        if is_error(result) || calls::may_be_slow(timing.took_ns) {
            let slot_index = u64::from(place.slot()) << 32 | u64::from(index);
            let (slot_index, result) = (forgotten(cell, slot_index), forgotten(cell, result as u64));
            (*cell).weight = timing.took_ns;
            remarkable(cell, regs, bank, slot_index, result as i64);
        }
    }
}

/// A call that failed or may have been slow. It has a subprogram of its own, with both slot and index in one argument:
/// in line, it would have the others need its stack, too.
///
/// # Safety
///
/// As for [`book`]; `weight` of the cell is how long the call took.
#[inline(never)]
unsafe fn remarkable<R: Registers>(cell: *mut Cell, regs: R, bank: *mut Bank, slot_index: u64, result: i64) {
    let (slot, index) = ((slot_index >> 32) as u32, slot_index as u32);
    if is_error(result) {
        record_error(bank, slot, index, -result as u32);
    }
    // SAFETY: the caller's promise.
    unsafe { calls::judge(cell, regs, index, result, (*cell).weight) };
}

#[inline(always)]
fn is_error(result: i64) -> bool {
    result < 0 && result >= -(ERRNO_MAX as i64)
}

/// A call that won't return. Its program may be preempted, so it counts by a single instruction and leaves the cell
/// alone.
#[inline(always)]
pub(super) fn book_without_result(index: u32) {
    let place = cell::place_unremembered();
    if place.slot() == EXCLUDED {
        return filtered();
    }
    let Some(bank) = bank(place.bank()) else { return };
    // SAFETY: a counter of our own map.
    unsafe { bump(count(bank, index)) };
}

fn filtered() {
    // SAFETY: this CPU's counter.
    unsafe { bump(&raw mut (*stats(SensorId::Syscalls)).filtered) };
}

#[inline(always)]
fn count(bank: *mut Bank, index: u32) -> *mut u64 {
    // SAFETY: the index is masked to the length of the array.
    unsafe { (&raw mut (*bank).calls).cast::<u64>().add(masked::<{ NUMBERS as u32 - 1 }>(index.into())) }
}

/// # Safety
///
/// `bank` is this CPU's.
#[inline(always)]
unsafe fn record_duration(bank: *mut Bank, index: u32, took_ns: u64, weight: u64) {
    let class_of = CLASS_OF.at().cast::<u8>().wrapping_add(masked::<{ NUMBERS as u32 - 1 }>(index.into()));
    // SAFETY: memory of ours.
    let class = unsafe { class_of.read_volatile() } as usize & (CLASSES - 1);
    let bucket = bucket(unlinked(took_ns)).min(BUCKETS - 1);
    // SAFETY: the caller's promise; class and bucket are below the lengths of their arrays.
    unsafe {
        let cell = (&raw mut (*bank).classes).cast::<ClassCell>().add(class);
        *(&raw mut (*cell).buckets).cast::<u64>().add(bucket) += weight;
        (*cell).sum_ns += took_ns * weight;
        if weight != 1 {
            (*cell).estimated += weight - 1;
        }
    }
}

/// Counts an error in this CPU's table; where its bucket is full, the errno is forgotten and that is counted.
#[inline(never)]
fn record_error(bank: *mut Bank, slot: u32, index: u32, errno: u32) {
    let processor = cell::processor();
    let key = error_key(slot, index, errno);
    let Some(bucket) = ERRORS.get_ptr_mut(processor * ERROR_BUCKETS + error_bucket(key)) else { return };
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
