//! How many files this process may have open.

use std::io;

/// Raises the limit to what the system allows at most, and tells it.
#[track_caller]
pub fn raise_open_files() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid for the call.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(read, 0, "RLIMIT_NOFILE: {}", io::Error::last_os_error());
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the same; the kernel only reads it.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0, "RLIMIT_NOFILE: {}", io::Error::last_os_error());
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}
