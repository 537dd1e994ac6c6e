//! Where `struct pt_regs` has the registers with which a task entered the kernel, where no BTF says so.
//!
//! On x86-64 it is what ptrace(2) hands out (arch/x86/include/uapi/asm/ptrace.h); on arm64 it begins with that, and then
//! comes what the kernel keeps for itself (arch/arm64/include/asm/ptrace.h).

use std::mem::offset_of;

use libc::user_regs_struct as Registers;

/// Offsets by global.
#[cfg(target_arch = "x86_64")]
pub(super) const PLACES: &[(&str, usize)] = &[
    ("REGS_NUMBER", offset_of!(Registers, orig_rax)),
    ("REGS_ARG0", offset_of!(Registers, rdi)),
    ("REGS_ARG1", offset_of!(Registers, rsi)),
    ("REGS_ARG2", offset_of!(Registers, rdx)),
    ("REGS_ARG3", offset_of!(Registers, r10)),
    ("REGS_ARG4", offset_of!(Registers, r8)),
    ("REGS_ARG5", offset_of!(Registers, r9)),
    ("REGS_MODE", offset_of!(Registers, cs)),
];
#[cfg(target_arch = "aarch64")]
pub(super) const PLACES: &[(&str, usize)] = &[
    ("REGS_NUMBER", size_of::<Registers>() + size_of::<u64>()),
    ("REGS_ARG0", size_of::<Registers>()),
    ("REGS_ARG1", offset_of!(Registers, regs) + size_of::<u64>()),
    ("REGS_ARG2", offset_of!(Registers, regs) + 2 * size_of::<u64>()),
    ("REGS_ARG3", offset_of!(Registers, regs) + 3 * size_of::<u64>()),
    ("REGS_ARG4", offset_of!(Registers, regs) + 4 * size_of::<u64>()),
    ("REGS_ARG5", offset_of!(Registers, regs) + 5 * size_of::<u64>()),
    ("REGS_MODE", offset_of!(Registers, pstate)),
];

/// Which bits of `REGS_MODE` tell in which mode the processor was, and what they are in 32-bit code: the selector
/// `__USER32_CS` (arch/x86/include/asm/segment.h), `PSR_MODE32_BIT` (arch/arm64/include/uapi/asm/ptrace.h).
#[cfg(target_arch = "x86_64")]
pub(super) const MODE: (u64, u64) = (0xffff, 4 << 3 | 3);
#[cfg(target_arch = "aarch64")]
pub(super) const MODE: (u64, u64) = (1 << 4, 1 << 4);

#[cfg(test)]
mod tests {
    use super::{
        super::{Btf, offsets::Offsets},
        *,
    };

    #[test]
    fn registers_are_where_the_kernel_says_that_they_are() {
        let Ok(btf) = Btf::from_system() else {
            return println!("skipped: this kernel shows no BTF");
        };
        let found = Offsets::of(&btf).found;
        for (global, place) in PLACES {
            assert!(found.contains(&(global, *place as u64)), "{global} at {place}");
        }
    }
}
