//! Memory that is really there.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{Arguments, ready, report};

/// `--mib N`: takes and touches that much once it may begin, and keeps it.
pub(crate) fn hog(arguments: &Arguments) -> Result<()> {
    let mebibytes: usize = arguments.required("mib")?;
    ready()?;
    let length = mebibytes << 20;
    // Straight from the kernel: an allocator might touch more or less than asked for.
    // SAFETY: a new anonymous mapping overlaps nothing.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    ensure!(memory != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    // No page is smaller than 4 KiB.
    for offset in (0..length).step_by(4096) {
        // SAFETY: the offset lies inside the mapping, which nobody else uses; volatile, because nobody reads it.
        unsafe { memory.cast::<u8>().add(offset).write_volatile(1) };
    }
    report(&json!({ "mib": mebibytes }));
    Ok(())
}
