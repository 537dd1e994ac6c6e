//! Memory that is read soon.

use std::ptr;

/// Bytes that a cache fetches at once, on the CPUs there are.
const LINE: usize = 64;

/// Has the CPU bring a value into its caches, and doesn't wait for it. Of what the value points at, nothing comes along.
pub fn prefetch<T: ?Sized>(value: &T) {
    let begin = ptr::from_ref(value).cast::<u8>();
    (0..size_of_val(value)).step_by(LINE).for_each(|offset| fetch_line(begin.wrapping_add(offset)));
}

#[inline(always)]
fn fetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and is ignored where there is no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint, which reads nothing and is ignored where there is no memory.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{address}]", address = in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
