//! System calls that are told one by one: slow ones, failing ones, and others in exact numbers. They are made by
//! number: what libc makes of a function is its own affair.

use std::{
    ffi::CString,
    io::{Error, Write as _},
    os::fd::{AsRawFd as _, RawFd},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{Arguments, calls::call_getppid, ready, report};

/// `--opens N --enoent N --full N --emfile N --getppid N --fifo-ms MS --futex-ms MS`: opens that succeed and that fail,
/// writes to a full device, duplicates beyond the limit, and a read and a wait that last that long.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let number = |name| arguments.or(name, 0u64);
    let (opens, enoent, full) = (number("opens")?, number("enoent")?, number("full")?);
    let (emfile, getppid) = (number("emfile")?, number("getppid")?);
    let (fifo, futex) = (number("fifo-ms")?, number("futex-ms")?);
    let device = std::fs::OpenOptions::new().write(true).open("/dev/full").context("/dev/full")?;
    let pipe = Fifo::new()?;
    ready()?;
    for _ in 0..opens {
        let fd = open(c"/proc/version")?;
        // SAFETY: the descriptor is ours, and nobody else has it.
        unsafe { libc::close(fd) };
    }
    for _ in 0..enoent {
        let error = open(c"/proc/no such file").expect_err("there is no such file");
        ensure!(error.raw_os_error() == Some(libc::ENOENT), "openat: {error}");
    }
    for _ in 0..full {
        // SAFETY: the buffer is a static string of that length.
        let written = unsafe { libc::syscall(libc::SYS_write, device.as_raw_fd(), c"x".as_ptr(), 1usize) };
        failed_with(written, libc::ENOSPC)?;
    }
    duplicate_in_vain(emfile)?;
    for _ in 0..getppid {
        call_getppid();
    }
    let read = if fifo > 0 { pipe.read_after(Duration::from_millis(fifo))? } else { Duration::ZERO };
    let waited = if futex > 0 { wait_in_vain(Duration::from_millis(futex))? } else { Duration::ZERO };
    report(&json!({
        "read": read.as_secs_f64(),
        "waited": waited.as_secs_f64(),
        "fifo": pipe.path.to_string_lossy(),
        "fifo_fd": pipe.fd,
    }));
    Ok(())
}

fn open(path: &std::ffi::CStr) -> Result<RawFd, Error> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path has a NUL; without O_CREAT there is no mode.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(Error::last_os_error)
}

fn failed_with(result: i64, errno: i32) -> Result<()> {
    let error = Error::last_os_error();
    ensure!(result == -1 && error.raw_os_error() == Some(errno), "{result}, {error}");
    Ok(())
}

/// dup(2) while no descriptor is allowed any more.
fn duplicate_in_vain(times: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes into and reads our own variables; dup(2) takes a number.
    unsafe {
        ensure!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0, "{}", Error::last_os_error());
        let none = libc::rlimit { rlim_cur: 0, ..limit };
        ensure!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) == 0, "{}", Error::last_os_error());
        for _ in 0..times {
            failed_with(libc::syscall(libc::SYS_dup, 0), libc::EMFILE)?;
        }
        ensure!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0, "{}", Error::last_os_error());
    }
    Ok(())
}

/// A futex that nobody wakes.
fn wait_in_vain(duration: Duration) -> Result<Duration> {
    let word = 0u32;
    let timeout =
        libc::timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() };
    let begin = Instant::now();
    // SAFETY: word and timeout live longer than the call.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, &raw const timeout) };
    failed_with(result, libc::ETIMEDOUT)?;
    Ok(begin.elapsed())
}

/// A named pipe, open at both ends.
struct Fifo {
    path: std::path::PathBuf,
    fd: RawFd,
    ends: std::fs::File,
}

impl Fifo {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("podwitness-fifo-{}", std::process::id()));
        let name = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: the name has a NUL.
        ensure!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) } == 0, "mkfifo: {}", Error::last_os_error());
        let ends = std::fs::OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { fd: ends.as_raw_fd(), path, ends })
    }

    /// Reads what somebody else writes a while after; how long that took as seen from here.
    fn read_after(&self, duration: Duration) -> Result<Duration> {
        let mut writer = self.ends.try_clone()?;
        let begin = Instant::now();
        let writing = thread::spawn(move || {
            // The one thing that is to happen at a time of its own.
            thread::sleep(duration);
            writer.write_all(b"x")
        });
        let mut byte = 0u8;
        // SAFETY: the buffer is our own variable.
        let read = unsafe { libc::syscall(libc::SYS_read, self.fd, &raw mut byte, 1usize) };
        let took = begin.elapsed();
        ensure!(read == 1, "read: {read}, {}", Error::last_os_error());
        writing.join().expect("the writer doesn't panic")?;
        Ok(took)
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
