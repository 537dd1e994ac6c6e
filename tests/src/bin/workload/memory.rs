//! Memory that is really there.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{Arguments, ready, report};

/// `--mib N`: takes and touches that much once it may begin, and keeps it.
pub(crate) fn hog(arguments: &Arguments) -> Result<()> {
    let mebibytes: usize = arguments.required("mib")?;
    ready()?;
    take(mebibytes)?;
    report(&json!({ "mib": mebibytes }));
    Ok(())
}

/// `--mib N --signal S`: a child takes that much and sends itself the signal; on its way out it is held, with all its memory,
/// until this helper may end.
pub(crate) fn linger(arguments: &Arguments) -> Result<()> {
    let (mebibytes, signal): (usize, i32) = (arguments.required("mib")?, arguments.required("signal")?);
    ready()?;
    // SAFETY: the child has one thread, as its parent has; it does nothing but what is written here.
    let child = unsafe { libc::fork() };
    ensure!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        let taken = trace(libc::PTRACE_TRACEME, 0, 0).and_then(|()| take(mebibytes));
        // SAFETY: they take plain numbers.
        unsafe {
            libc::raise(libc::SIGSTOP);
            libc::raise(signal);
            libc::_exit(i32::from(taken.is_err()));
        }
    }
    let stopped = wait(child)?;
    ensure!(libc::WIFSTOPPED(stopped), "it ended with status {stopped:#x}");
    trace(libc::PTRACE_SETOPTIONS, child, libc::PTRACE_O_TRACEEXIT as usize)?;
    trace(libc::PTRACE_CONT, child, 0)?;
    let mut status = wait(child)?;
    // What isn't SIGKILL stops it once more, when it is delivered.
    if status >> 16 == 0 && libc::WIFSTOPPED(status) {
        trace(libc::PTRACE_CONT, child, libc::WSTOPSIG(status) as usize)?;
        status = wait(child)?;
    }
    ensure!(status >> 16 == libc::PTRACE_EVENT_EXIT, "it is not on its way out: {status:#x}");
    report(&json!({ "pid": child }));
    crate::wait_for_line()?;
    trace(libc::PTRACE_CONT, child, 0)?;
    let status = wait(child)?;
    ensure!(
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal,
        "it ended with status {status:#x}"
    );
    report(&json!({}));
    Ok(())
}

fn trace(request: libc::c_uint, child: i32, data: usize) -> Result<()> {
    // SAFETY: these requests take numbers, and no addresses in this process.
    let outcome = unsafe { libc::ptrace(request, child, 0, data) };
    ensure!(outcome == 0, "ptrace: {}", std::io::Error::last_os_error());
    Ok(())
}

fn wait(child: i32) -> Result<i32> {
    let mut status = 0;
    // SAFETY: the status is written within the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(waited == child, "waitpid: {}", std::io::Error::last_os_error());
    Ok(status)
}

/// Takes and touches so much memory, for good.
fn take(mebibytes: usize) -> Result<()> {
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
    Ok(())
}
