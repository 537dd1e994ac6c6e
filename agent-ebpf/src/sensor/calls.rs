//! Single system calls as events: slow ones and failed ones, which the programs of `syscalls` come across, and those
//! that somebody watches ([`watch`]).

mod file;
mod watch;

use agent_ebpf::contract::{
    calls::{ARGUMENTS, ARGUMENTS_KNOWN, CallEvent, DURATION_KNOWN, ERRNO_WORDS, PATH_LEN, RETURNED, Rule},
    event::EventKind,
    slot::EXCLUDED,
    stats::SensorId,
    syscalls::{COMPAT, Cell, ERRNO_MAX, NUMBERS, OTHER, X32},
};
use aya_ebpf::{Global, helpers::generated::bpf_probe_read_user_str};

use crate::kernel::{
    cell::forgotten,
    event::{Admission, Ring, fill_header, filtered, has_token_for_call, now_ns, reserve},
    load::masked,
    maps::{FAILURES, RULES, WATCH},
    offset,
    registers::Registers,
    slot, task,
};

/// The least time that makes any call a slow one, ns; `u64::MAX` where none is wanted.
#[unsafe(no_mangle)]
static SLOW_LEAST: Global<u64> = Global::new(u64::MAX);
/// Whether any errno makes an event.
#[unsafe(no_mangle)]
static FAILURES_WANTED: Global<u8> = Global::new(0);
/// Whether the paths in the arguments of slow and failed calls are wanted.
#[unsafe(no_mangle)]
static PATHS_WANTED: Global<u8> = Global::new(0);

/// The result of a call that won't return.
const NO_RESULT: i64 = i64::MIN;

/// Whether it is worth asking if the call was slow.
#[inline(always)]
pub(super) fn may_be_slow(took_ns: u64) -> bool {
    SLOW_LEAST.load() != u64::MAX && took_ns >= SLOW_LEAST.load()
}

/// Makes an event of a call that has returned, if it is worth one: if it was slow, or failed in a way that somebody
/// wants to know of. `took_ns` is 0 if that isn't known.
///
/// # Safety
///
/// `cell` is this CPU's, and no call is noted in it.
#[inline(always)]
pub(super) unsafe fn judge<R: Registers>(cell: *mut Cell, regs: R, index: u32, result: i64, took_ns: u64) {
    let kind = if may_be_slow(took_ns) && is_slow(index, took_ns) {
        EventKind::SyscallSlow
    } else if FAILURES_WANTED.load() != 0 && result < 0 && is_wanted(result) {
        EventKind::SyscallFailed
    } else {
        return;
    };
    // SAFETY: the caller's promise.
    let [index, result, took_ns, kind] =
        [index.into(), result as u64, took_ns, kind as u64].map(|value| unsafe { forgotten(cell, value) });
    report(regs, index as u32, result as i64, took_ns, kind as u32);
}

#[inline(always)]
fn is_slow(index: u32, took_ns: u64) -> bool {
    // SAFETY: a cell of our own array map.
    let slow_ns = rule(index).map_or(0, |rule| unsafe { (&raw const (*rule).slow_ns).read_volatile() });
    slow_ns != 0 && took_ns >= slow_ns
}

/// Whether the error is a wanted one.
#[inline(always)]
fn is_wanted(result: i64) -> bool {
    let errno = result.wrapping_neg() as u64;
    if errno > ERRNO_MAX as u64 {
        return false;
    }
    let word = FAILURES.get_ptr(masked::<{ ERRNO_WORDS as u32 - 1 }>(errno >> 6) as u32);
    // SAFETY: a cell of our own array map.
    word.is_some_and(|word| unsafe { word.read_volatile() } >> (errno & 63) & 1 != 0)
}

#[inline(always)]
fn rule(index: u32) -> Option<*const Rule> {
    RULES.get_ptr(masked::<{ NUMBERS as u32 - 1 }>(index.into()) as u32)
}

/// Makes an event of the current task's call, as its registers and file descriptors are now. `kind` is an
/// [`EventKind`].
#[inline(never)]
fn report<R: Registers>(regs: R, index: u32, result: i64, took_ns: u64, kind: u32) {
    let current = task::current();
    let ids = task::current_ids(current);
    if task::is_self(ids.0) {
        return filtered(SensorId::Calls);
    }
    let cgroup_id = task::current_cgroup_id(current);
    let is_watched = kind == EventKind::SyscallCall as u32;
    if !is_watched {
        let slot = slot::of(cgroup_id);
        if slot != EXCLUDED && !has_token_for_call(SensorId::Calls, slot) {
            return;
        }
    }
    let now = now_ns();
    let (sensor, admission) = (SensorId::Calls, Admission::Throttled);
    let Some(mut record) = reserve::<CallEvent>(sensor, cgroup_id, Ring::Bulk, admission, now) else {
        return;
    };
    let event = record.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written (of `path` and `names` as much as is said to
    // hold).
    unsafe {
        fill_header(&raw mut (*event).header, EventKind::SyscallCall, cgroup_id, ids, Some(current), now);
        (*event).header.kind = kind;
        (*event).duration_ns = took_ns;
        (*event).result = if result == NO_RESULT { 0 } else { result };
        (*event).number = index;
        let mut flags = if took_ns != 0 { DURATION_KNOWN } else { 0 };
        if result != NO_RESULT {
            flags |= RETURNED;
        }
        fill_arguments(event, regs);
        (*event).path_len = 0;
        let rule = rule(index).map_or(Rule { slow_ns: 0, path: 0, file: 0 }, |rule| *rule);
        let is_native = index != COMPAT && index != X32 && index != OTHER;
        let mut fd = None;
        if is_native {
            flags |= ARGUMENTS_KNOWN;
            if rule.path != 0 && wants_paths(is_watched) {
                let path = (&raw mut (*event).path).cast();
                let address = argument(event, rule.path - 1);
                let read = bpf_probe_read_user_str(path, PATH_LEN as u32, address as *const _);
                (*event).path_len = if read > 0 { read as u32 - 1 } else { 0 };
            }
            if rule.file != 0 {
                fd = Some(argument(event, rule.file - 1) as u32);
            }
        }
        (*event).flags = flags | file::fill(event, current, fd);
    }
    record.submit();
}

#[inline(always)]
fn wants_paths(is_watched: bool) -> bool {
    if !is_watched {
        return PATHS_WANTED.load() != 0;
    }
    // SAFETY: a cell of our own array map.
    WATCH.get_ptr(0).is_some_and(|watch| unsafe { (&raw const (*watch).paths).read_volatile() } != 0)
}

/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
unsafe fn fill_arguments(event: *mut CallEvent, regs: impl Registers) {
    // SAFETY: the caller's promise.
    unsafe {
        let arguments = (&raw mut (*event).arguments).cast::<u64>();
        arguments.write(regs.read(&offset::REGS_ARG0));
        arguments.add(1).write(regs.read(&offset::REGS_ARG1));
        arguments.add(2).write(regs.read(&offset::REGS_ARG2));
        arguments.add(3).write(regs.read(&offset::REGS_ARG3));
        arguments.add(4).write(regs.read(&offset::REGS_ARG4));
        arguments.add(5).write(regs.read(&offset::REGS_ARG5));
    }
}

/// One of the arguments, as they were filled in.
///
/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
unsafe fn argument(event: *const CallEvent, index: u32) -> u64 {
    const { assert!(ARGUMENTS <= 8 && size_of::<CallEvent>() > 256) };
    // SAFETY: the caller's promise; whatever the index, it stays within the record.
    unsafe { (&raw const (*event).arguments).cast::<u64>().add(masked::<7>(index.into())).read_volatile() }
}
