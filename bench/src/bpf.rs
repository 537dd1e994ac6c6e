//! Programs that do nothing, or nothing but what can't be done without: the floors that nothing attached to these hooks
//! can go below. Nothing of them stands in the agent's object.

use std::{
    ffi::{CStr, c_long},
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use agent_ebpf::contract::tcp::TcpEvent;

use anyhow::{Context as _, Result};
use podwitness::kernel::Btf;

use crate::smallest_program::{
    BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, NOTHING, READS_CLOCK, bpf, load,
};

// Commands and types of include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
const BPF_RAW_TRACEPOINT_OPEN: c_long = 17;
const BPF_ENABLE_STATS: c_long = 32;
// Helpers of the same file.
const BPF_KTIME_GET_BOOT_NS: u64 = 125;
const BPF_RINGBUF_RESERVE: u64 = 131;
const BPF_RINGBUF_SUBMIT: u64 = 132;
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_PSEUDO_MAP_FD: u64 = 1;
const BPF_PSEUDO_MAP_VALUE: u64 = 2;

// Instructions by their codes (Documentation/bpf/standardization/instruction-set.rst); all of 64 bits.
const LOAD: u64 = 0x79;
const LOAD_64: u64 = 0x18;
const STORE: u64 = 0x7b;
const SET: u64 = 0xb7;
const MOVE: u64 = 0xbf;
const ADD: u64 = 0x0f;
const SUBTRACT: u64 = 0x1f;
const MULTIPLY: u64 = 0x2f;
const SHIFT_LEFT: u64 = 0x67;
const SHIFT_RIGHT: u64 = 0x77;
const JUMP: u64 = 0x05;
const JUMP_IF_EQUAL: u64 = 0x15;
const JUMP_UNLESS_EQUAL: u64 = 0x55;
const JUMP_UNLESS_SAME: u64 = 0x5d;
const CALL: u64 = 0x85;
const EXIT: u64 = 0x95;

/// Offsets are those of memory, or how many instructions a jump passes over.
const fn instruction(code: u64, target: u64, source: u64, offset: u64, immediate: u64) -> u64 {
    code | target << 8 | source << 12 | offset << 16 | immediate << 32
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

#[repr(C)]
struct EnableStats {
    kind: u32,
    padding: u32,
}

/// Has the kernel count the runs of all programs, as long as this is open: each of them takes a little longer then.
pub(crate) fn count_runs() -> Result<OwnedFd> {
    const BPF_STATS_RUN_TIME: u32 = 0;
    let attributes = EnableStats { kind: BPF_STATS_RUN_TIME, padding: 0 };
    bpf(BPF_ENABLE_STATS, &attributes).context("count the runs of programs")
}

/// How often each program has run that a process holds, while runs were counted (`bpf_prog_show_fdinfo`,
/// kernel/bpf/syscall.c).
pub(crate) fn runs_of(pid: u32) -> Result<Vec<u64>> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may be closed by now.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("run_cnt:"));
        runs.extend(count.and_then(|count| count.trim().parse::<u64>().ok()));
    }
    Ok(runs)
}

fn map(kind: u32, key_size: u32, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    bpf(BPF_MAP_CREATE, &MapCreate { kind, key_size, value_size, entries })
}

/// A program for one tracepoint, on its hook or not.
pub(crate) struct Floor {
    program: OwnedFd,
    link: Option<OwnedFd>,
    hook: &'static CStr,
    /// Whether the program itself names its hook.
    typed: bool,
}

impl Floor {
    /// Does nothing.
    pub(crate) fn empty(hook: &'static CStr, btf: &Btf) -> Result<Self> {
        Self::load(NOTHING, hook, btf)
    }

    /// Reads the precise clock, once.
    pub(crate) fn reading_clock(hook: &'static CStr, btf: &Btf) -> Result<Self> {
        Self::load(READS_CLOCK, hook, btf)
    }

    /// Knows of each TCP connection, at each of its ends, how long it has lasted, and sends that in one record as long as
    /// the agent's when it has ended: what no sensor on this hook goes below. It remembers the beginnings where a socket's
    /// address puts them, in memory that is at hand, without a helper and without care for two at one place. Nobody takes
    /// the records out: there is room for a bench.
    pub(crate) fn following() -> Result<Self> {
        const RING: u32 = 128 << 20;
        // Socket and beginning, 8 bytes each.
        const PLACES_SHIFT: u64 = 14;
        const PLACE_SHIFT: u64 = 4;
        let ring = map(BPF_MAP_TYPE_RINGBUF, 0, 0, RING).context("make a ring")?;
        let places =
            map(BPF_MAP_TYPE_ARRAY, 4, 1 << (PLACES_SHIFT + PLACE_SHIFT), 1).context("make an array")?;
        let [ring, places] = [ring, places].map(|map| (u64::from(map.as_raw_fd().cast_unsigned()), map));
        let length = size_of::<TcpEvent>() as u64;
        let [established, close, syn_sent] = [1, 7, 2];
        let [r0, r1, r2, r3, new, now, sk, place] = [0, 1, 2, 3, 6, 7, 8, 9];
        let program = [
            // The hook's third argument and its first.
            instruction(LOAD, new, r1, 16, 0),
            instruction(LOAD, sk, r1, 0, 0),
            instruction(JUMP_IF_EQUAL, new, 0, 2, established),
            instruction(JUMP_IF_EQUAL, new, 0, 1, close),
            instruction(JUMP_UNLESS_EQUAL, new, 0, 30, syn_sent),
            instruction(CALL, 0, 0, 0, BPF_KTIME_GET_BOOT_NS),
            instruction(MOVE, now, r0, 0, 0),
            // The place of this socket: the upper bits of its address times a large odd number.
            instruction(MOVE, r1, sk, 0, 0),
            instruction(LOAD_64, r2, 0, 0, 0x7f4a_7c15),
            instruction(0, 0, 0, 0, 0x9e37_79b9), // its upper half
            instruction(MULTIPLY, r1, r2, 0, 0),
            instruction(SHIFT_RIGHT, r1, 0, 0, 64 - PLACES_SHIFT),
            instruction(SHIFT_LEFT, r1, 0, 0, PLACE_SHIFT),
            instruction(LOAD_64, place, BPF_PSEUDO_MAP_VALUE, 0, places.0),
            0,
            instruction(ADD, place, r1, 0, 0),
            instruction(JUMP_IF_EQUAL, new, 0, 3, close),
            instruction(STORE, place, sk, 0, 0),
            instruction(STORE, place, now, 8, 0),
            instruction(JUMP, 0, 0, 15, 0),
            instruction(LOAD, r1, place, 0, 0),
            instruction(JUMP_UNLESS_SAME, r1, sk, 13, 0),
            instruction(LOAD, r1, place, 8, 0),
            instruction(MOVE, sk, now, 0, 0),
            instruction(SUBTRACT, sk, r1, 0, 0),
            // The ring, by its descriptor; the second half of that is empty.
            instruction(LOAD_64, r1, BPF_PSEUDO_MAP_FD, 0, ring.0),
            0,
            instruction(SET, r2, 0, 0, length),
            instruction(SET, r3, 0, 0, 0),
            instruction(CALL, 0, 0, 0, BPF_RINGBUF_RESERVE),
            instruction(JUMP_IF_EQUAL, r0, 0, 4, 0),
            instruction(STORE, r0, sk, 8, 0),
            instruction(MOVE, r1, r0, 0, 0),
            instruction(SET, r2, 0, 0, BPF_RB_NO_WAKEUP),
            instruction(CALL, 0, 0, 0, BPF_RINGBUF_SUBMIT),
            instruction(SET, r0, 0, 0, 0),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        // As a plain raw tracepoint, so that a socket is a number. It costs the same on its hook.
        let program = load(&program, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0).context("load a floor")?;
        Ok(Self { program, link: None, hook: c"inet_sock_set_state", typed: false })
    }

    fn load(instructions: &[u64], hook: &'static CStr, btf: &Btf) -> Result<Self> {
        let id = btf.tracepoint_id(hook.to_str()?)?;
        let program = load(instructions, BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, id)
            .with_context(|| format!("load a floor for {hook:?}"))?;
        Ok(Self { program, link: None, hook, typed: true })
    }

    /// Hangs it on its hook, or takes it away.
    pub(crate) fn switch(&mut self, on: bool) -> Result<()> {
        self.link = None;
        if on {
            let program = self.program.as_raw_fd().cast_unsigned();
            let name = if self.typed { 0 } else { self.hook.as_ptr() as u64 };
            let attributes = RawTracepointOpen { name, program, padding: 0 };
            let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &attributes);
            self.link = Some(link.with_context(|| format!("attach a floor to {:?}", self.hook))?);
        }
        Ok(())
    }
}
