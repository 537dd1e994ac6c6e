//! What wakes the reader of the rings besides the kernel's programs.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, RawFd},
};

/// An eventfd(2): rung any number of times, it is heard once.
#[derive(Debug)]
pub struct Bell(File);

impl Bell {
    /// # Errors
    ///
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes two numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    pub fn ring(&self) {
        // All that can happen is that it has been rung 2^64 times and not been heard.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Rings no more until it is rung again.
    pub(super) fn hear(&self) {
        let _ = (&self.0).read(&mut [0; size_of::<u64>()]);
    }

    /// For poll(2).
    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
