//! Programs that do nothing, or nothing but what can't be done without: the floors that nothing attached to these hooks
//! can go below. Nothing of them stands in the agent's object.

use std::{
    ffi::c_long,
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use agent_ebpf::contract::tcp::TcpEvent;

use anyhow::{Context as _, Result};
use podwitness::kernel::Btf;

use crate::smallest_program::{BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, NOTHING, READS_CLOCK, bpf, load};

// Commands and types of include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
const BPF_RAW_TRACEPOINT_OPEN: c_long = 17;
const BPF_ENABLE_STATS: c_long = 32;
// Helpers of the same file.
const BPF_KTIME_GET_BOOT_NS: u64 = 125;
const BPF_RINGBUF_RESERVE: u64 = 131;
const BPF_RINGBUF_SUBMIT: u64 = 132;
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_PSEUDO_MAP_FD: u64 = 1;

// Instructions by their codes (Documentation/bpf/standardization/instruction-set.rst); all of 64 bits.
const LOAD: u64 = 0x79;
const LOAD_64: u64 = 0x18;
const STORE: u64 = 0x7b;
const SET: u64 = 0xb7;
const MOVE: u64 = 0xbf;
const JUMP: u64 = 0x05;
const JUMP_IF_EQUAL: u64 = 0x15;
const JUMP_UNLESS_EQUAL: u64 = 0x55;
const CALL: u64 = 0x85;
const EXIT: u64 = 0x95;

/// Offsets are those of memory, or how many instructions a jump passes over.
const fn instruction(code: u64, target: u64, source: u64, offset: u64, immediate: u64) -> u64 {
    code | target << 8 | source << 12 | offset << 16 | immediate << 32
}

#[repr(C)]
#[derive(Default)]
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

/// A program for one BTF-typed tracepoint, on its hook or not.
pub(crate) struct Floor {
    program: OwnedFd,
    link: Option<OwnedFd>,
    hook: &'static str,
}

impl Floor {
    /// Does nothing.
    pub(crate) fn empty(hook: &'static str, btf: &Btf) -> Result<Self> {
        Self::load(NOTHING, hook, btf)
    }

    /// Reads the precise clock, once.
    pub(crate) fn reading_clock(hook: &'static str, btf: &Btf) -> Result<Self> {
        Self::load(READS_CLOCK, hook, btf)
    }

    /// For each TCP connection, sends a record as long as the agent's when it begins and when it ends, at both of its ends;
    /// nothing is in it but the time. Nobody takes the records out: there is room for a bench.
    pub(crate) fn telling(btf: &Btf) -> Result<Self> {
        const ROOM: u32 = 128 << 20;
        let attributes = MapCreate { kind: BPF_MAP_TYPE_RINGBUF, key_size: 0, value_size: 0, entries: ROOM };
        let ring = bpf(BPF_MAP_CREATE, &attributes).context("make a ring")?;
        let length = size_of::<TcpEvent>() as u64;
        let [established, close, syn_sent] = [1, 7, 2];
        let [r0, r1, r2, r3, r6, r7] = [0, 1, 2, 3, 6, 7];
        let program = [
            // The hook's third argument, the new state.
            instruction(LOAD, r6, r1, 16, 0),
            instruction(JUMP_IF_EQUAL, r6, 0, 4, established),
            instruction(JUMP_IF_EQUAL, r6, 0, 3, close),
            instruction(JUMP_UNLESS_EQUAL, r6, 0, 1, syn_sent),
            // An attempt is told of when it has come to something; until then its time is all that is needed.
            instruction(CALL, 0, 0, 0, BPF_KTIME_GET_BOOT_NS),
            instruction(JUMP, 0, 0, 12, 0),
            instruction(CALL, 0, 0, 0, BPF_KTIME_GET_BOOT_NS),
            instruction(MOVE, r7, r0, 0, 0),
            // The ring, by its descriptor; the second half of that is empty.
            instruction(LOAD_64, r1, BPF_PSEUDO_MAP_FD, 0, u64::from(ring.as_raw_fd().cast_unsigned())),
            0,
            instruction(SET, r2, 0, 0, length),
            instruction(SET, r3, 0, 0, 0),
            instruction(CALL, 0, 0, 0, BPF_RINGBUF_RESERVE),
            instruction(JUMP_IF_EQUAL, r0, 0, 4, 0),
            instruction(STORE, r0, r7, 0, 0),
            instruction(MOVE, r1, r0, 0, 0),
            instruction(SET, r2, 0, 0, BPF_RB_NO_WAKEUP),
            instruction(CALL, 0, 0, 0, BPF_RINGBUF_SUBMIT),
            instruction(SET, r0, 0, 0, 0),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        Self::load(&program, "inet_sock_set_state", btf)
    }

    fn load(instructions: &[u64], hook: &'static str, btf: &Btf) -> Result<Self> {
        let program = load(instructions, BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, btf.tracepoint_id(hook)?)
            .with_context(|| format!("load a floor for {hook}"))?;
        Ok(Self { program, link: None, hook })
    }

    /// Hangs it on its hook, or takes it away.
    pub(crate) fn switch(&mut self, on: bool) -> Result<()> {
        self.link = None;
        if on {
            let program = self.program.as_raw_fd().cast_unsigned();
            let attributes = RawTracepointOpen { program, ..RawTracepointOpen::default() };
            let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &attributes);
            self.link = Some(link.with_context(|| format!("attach a floor to {}", self.hook))?);
        }
        Ok(())
    }
}
