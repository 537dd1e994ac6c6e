//! The contract between the kernel programs and the agent, a file per sensor plus what they share.

pub mod calls;
pub mod cgroup;
pub mod control;
pub mod event;
pub mod io_uring;
pub mod offsets;
pub mod oom;
pub mod process;
pub mod slot;
pub mod stats;
pub mod syscalls;
pub mod tcp;

/// Length of a task's name, the terminating NUL included (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;
