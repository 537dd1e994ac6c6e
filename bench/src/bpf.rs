//! Empty programs: the floors that nothing attached to these hooks can go below.
//!
//! Two instructions need no compiler. They are loaded as they are, so that nothing of the floors stands in the
//! agent's object.

use std::{
    ffi::{CString, c_long},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use podwitness::kernel::Btf;

/// Commands, types and instructions of include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: c_long = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_RAW_TP: u32 = 23;
/// `r0 = 0; exit`
const NOTHING: [u64; 2] = [0xb7, 0x95];

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

#[repr(C)]
#[derive(Default)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

/// An empty program for one BTF-typed tracepoint, on its hook or not.
pub(crate) struct Empty {
    program: OwnedFd,
    link: Option<OwnedFd>,
    hook: &'static str,
}

impl Empty {
    pub(crate) fn load(hook: &'static str, btf: &Btf) -> Result<Self> {
        let license = CString::from(c"GPL");
        let mut name = [0; 16];
        name[..11].copy_from_slice(b"bench_floor");
        let attributes = ProgramLoad {
            program_type: BPF_PROG_TYPE_TRACING,
            instruction_count: NOTHING.len() as u32,
            instructions: NOTHING.as_ptr() as u64,
            license: license.as_ptr() as u64,
            name,
            attach_type: BPF_TRACE_RAW_TP,
            attach_btf_id: btf.tracepoint_id(hook)?,
            ..ProgramLoad::default()
        };
        let program =
            bpf(BPF_PROG_LOAD, &attributes).with_context(|| format!("load an empty program for {hook}"))?;
        Ok(Self { program, link: None, hook })
    }

    /// Hangs it on its hook, or takes it away.
    pub(crate) fn switch(&mut self, on: bool) -> Result<()> {
        self.link = None;
        if on {
            let program = self.program.as_raw_fd().cast_unsigned();
            let attributes = RawTracepointOpen { program, ..RawTracepointOpen::default() };
            let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &attributes);
            self.link = Some(link.with_context(|| format!("attach an empty program to {}", self.hook))?);
        }
        Ok(())
    }
}

/// A call of bpf(2) that gives a descriptor.
fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes and what they point to live through the call; the size is their own.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
