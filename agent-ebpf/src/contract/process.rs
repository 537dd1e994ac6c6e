//! Records of the `process` sensor.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::event::Header;

/// Longest path of an executable that is reported, its NUL included; longer ones are cut.
pub const FILENAME_LEN: usize = 128;

/// `ProcessExec`: a process started an executable (`sched:sched_process_exec`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExecEvent {
    pub header: Header,
    /// Parent process in the initial pid namespace.
    pub ppid: u32,
    /// Bytes of `filename` that hold, without a NUL.
    pub filename_len: u32,
    /// The path given to execve(2). Workload-controlled: any byte may appear.
    pub filename: [u8; FILENAME_LEN],
}

const _: () = assert!(size_of::<ExecEvent>() == 184);

/// `ProcessExit`: the last thread of a process ended (`sched:sched_process_exit`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExitEvent {
    pub header: Header,
    /// Nanoseconds from the fork of the process to its end.
    pub duration_ns: u64,
    /// Parent process in the initial pid namespace.
    pub ppid: u32,
    /// As wait(2) would report it: signal in the low 7 bits, 0x80 if it dumped core, exit code in bits 8..16.
    pub wait_status: u32,
}

const _: () = assert!(size_of::<ExitEvent>() == 64);
