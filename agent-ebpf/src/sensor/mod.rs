//! The sensors: a file each, of the same name as its contract, its decoder and its test.

mod calls;
mod cgroup;
mod io_uring;
mod oom;
mod process;
mod syscalls;
mod tcp;
