//! The registers with which a task entered the kernel.

use super::{
    load::{KernelPtr, copied, field},
    offset::Field,
};

/// They lie at the top of the task's kernel stack (`struct pt_regs`).
pub(crate) trait Registers: Copy {
    /// Whether to read one takes a call.
    const ARE_COPIED: bool;

    fn read<T: Copy + Default>(self, register: &impl Field) -> T;

    /// Where they lie. No other task that lives has them there.
    fn address(self) -> u64;
}

/// Registers that the verifier knows as such.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Typed(KernelPtr);

impl Typed {
    /// # Safety
    ///
    /// They come from a BTF-typed argument of the hook, or from a helper.
    #[inline(always)]
    pub(crate) unsafe fn new(registers: KernelPtr) -> Self {
        Self(registers)
    }
}

impl Registers for Typed {
    const ARE_COPIED: bool = false;

    #[inline(always)]
    fn read<T: Copy + Default>(self, register: &impl Field) -> T {
        // SAFETY: they are typed, as whoever made this has promised.
        unsafe { field(self.0, register) }
    }

    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }
}

/// Registers that a raw tracepoint passes, as a number of which the verifier knows nothing.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Untyped(pub(crate) KernelPtr);

impl Registers for Untyped {
    const ARE_COPIED: bool = true;

    #[inline(always)]
    fn read<T: Copy + Default>(self, register: &impl Field) -> T {
        copied(self.0, register)
    }

    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }
}
