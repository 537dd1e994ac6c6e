//! The smallest eBPF program, loaded as it is: two instructions need no compiler.
//!
//! `xtask` asks with it whether this kernel takes programs; `bench` attaches it to hooks, as the floor that nothing
//! attached there can go below. Both compile this very file.

use std::{
    ffi::c_long,
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// Command, types and instructions of include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: c_long = 5;
pub(crate) const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
pub(crate) const BPF_PROG_TYPE_TRACING: u32 = 26;
pub(crate) const BPF_TRACE_RAW_TP: u32 = 23;
/// `r0 = 0; exit`
pub(crate) const NOTHING: &[u64] = &[0xb7, 0x95];
/// `call bpf_ktime_get_ns` (helper 5), then the same.
pub(crate) const READS_CLOCK: &[u64] = &[5 << 32 | 0x85, 0xb7, 0x95];

/// The part of `union bpf_attr` that loading a program reads; kernels take what follows as zero.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    btf: u32,
    function_record_size: u32,
    functions: u64,
    function_count: u32,
    line_record_size: u32,
    lines: u64,
    line_count: u32,
    attach_btf_id: u32,
}

/// Loads one of those above; `hook` is the number of the type that names a BTF-typed tracepoint, and 0 for other kinds of programs.
pub(crate) fn load(
    instructions: &[u64],
    program_type: u32,
    attach_type: u32,
    hook: u32,
) -> io::Result<OwnedFd> {
    let attributes = ProgramLoad {
        program_type,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        name: *b"smallest\0\0\0\0\0\0\0\0",
        attach_type,
        attach_btf_id: hook,
        ..ProgramLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

/// A call of bpf(2) that gives a descriptor.
pub(crate) fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes and what they point to live through the call; the size is their own.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
