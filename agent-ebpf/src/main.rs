//! The programs that run in the kernel. One file per sensor, one program per hook.
//!
//! Every load through a pointer that came from the kernel is checked by the verifier at load time; a
//! `bpf_probe_read_kernel` is checked only against BTF, by the agent, before it hands the offset over.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For the one instruction that core has no name for; see `kernel::event::bump`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod sensor;

/// A reachable panic is an endless loop, which the verifier refuses.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives most helpers to GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The kernel half is an object for the BPF target; on the host there is nothing to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
