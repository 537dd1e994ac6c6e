//! System calls in exact numbers. They are made by number: what libc makes of a function is its own affair.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use serde_json::json;

use crate::{Arguments, ready, report, share};

/// `--getppid N --openat-enoent N --nanosleep-15ms N --nanosleep-150ms N --threads T`: as many in total, shared by the
/// threads; and by the first, `--i386-getpid N` of the 32-bit ABI, `--x32-getpid N` of the x32 ABI, and `--wide-getppid N`
/// whose numbers have something in the upper half of the register.
pub(crate) fn syscalls(arguments: &Arguments) -> Result<()> {
    let getppid = arguments.or("getppid", 0)?;
    let openat = arguments.or("openat-enoent", 0)?;
    // So long that the time is not over before the thread sleeps, even on a machine that is emulated.
    let sleeps = [(15, arguments.or("nanosleep-15ms", 0)?), (150, arguments.or("nanosleep-150ms", 0)?)];
    let threads: u64 = arguments.or("threads", 1)?;
    let i386: u64 = arguments.or("i386-getpid", 0)?;
    let x32: u64 = arguments.or("x32-getpid", 0)?;
    let wide: u64 = arguments.or("wide-getppid", 0)?;

    let begin = Arc::new(Barrier::new(usize::try_from(threads)? + 1));
    let workers: Vec<_> = (0..threads)
        .map(|index| {
            let begin = Arc::clone(&begin);
            let part = move |total| share(total, threads, index);
            thread::spawn(move || {
                begin.wait();
                work(part(getppid), part(openat), sleeps.map(|(ms, count)| (ms, part(count))))
            })
        })
        .collect();
    ready()?;
    begin.wait();
    let mut slept = Duration::ZERO;
    for worker in workers {
        slept += worker.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    report(&json!({
        "getppid": getppid,
        "openat_enoent": openat,
        "slept": slept.as_secs_f64(),
        "i386": i386 > 0 && call_i386_getpid(i386),
        "x32": call(X32_BIT | libc::SYS_getpid, x32),
        "wide": call(1 << 32 | libc::SYS_getppid, wide),
    }));
    Ok(())
}

/// Does one thread's part; returns how long it slept as seen from here.
fn work(getppid: u64, openat: u64, sleeps: [(u64, u64); 2]) -> Result<Duration> {
    for _ in 0..getppid {
        call_getppid();
    }
    for _ in 0..openat {
        // SAFETY: the path is a static string with a NUL; O_RDONLY takes no mode.
        let result = unsafe {
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/proc/no such file".as_ptr(), libc::O_RDONLY)
        };
        let error = std::io::Error::last_os_error();
        ensure!(result == -1 && error.raw_os_error() == Some(libc::ENOENT), "openat: {result}, {error}");
    }
    let mut slept = Duration::ZERO;
    for (ms, count) in sleeps {
        for _ in 0..count {
            let begin = Instant::now();
            ensure!(call_nanosleep(Duration::from_millis(ms)) == 0, "nanosleep was interrupted");
            slept += begin.elapsed();
        }
    }
    Ok(slept)
}

/// By which x32 tells its calls from native ones (`__X32_SYSCALL_BIT`, arch/x86/include/uapi/asm/unistd.h).
const X32_BIT: i64 = 0x4000_0000;

/// So many calls that take nothing, by their number; how many of them the kernel knew.
fn call(number: i64, times: u64) -> u64 {
    // SAFETY: getpid and getppid take nothing and touch nothing, by whatever number they go.
    (0..times).map(|_| u64::from(unsafe { libc::syscall(number) } >= 0)).sum()
}

/// getppid: hardly anybody else calls it, it can't fail, and libc does not cache it.
pub(crate) fn call_getppid() {
    // SAFETY: getppid takes nothing and touches nothing.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// getpid of the 32-bit ABI, in a child that a kernel without that ABI kills; whether it wasn't.
#[cfg(target_arch = "x86_64")]
fn call_i386_getpid(times: u64) -> bool {
    // SAFETY: the child makes nothing but system calls; the status is our own variable. The old way into the kernel
    // keeps all registers but the one with the result, and the 64-bit ABI's r8 to r11 (entry_64_compat.S).
    unsafe {
        let child = libc::fork();
        if child == 0 {
            for _ in 0..times {
                std::arch::asm!(
                    "int 0x80",
                    inout("eax") 20 => _,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                );
            }
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0) == child && status == 0
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn call_i386_getpid(_: u64) -> bool {
    false
}

pub(crate) fn call_nanosleep(duration: Duration) -> i64 {
    let request =
        libc::timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() };
    // SAFETY: the request is valid for the call, and a null remainder is allowed.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const request, std::ptr::null_mut::<libc::timespec>()) }
}

/// `--sleepers N --readers M`: threads that block in nanosleep for 1000 seconds, and in a read of an empty
/// pipe. SIGUSR1 ends the thread that it is sent to, in the middle of its call.
pub(crate) fn blocked(arguments: &Arguments) -> Result<()> {
    let sleepers: usize = arguments.or("sleepers", 0)?;
    let readers: usize = arguments.or("readers", 0)?;
    let handler: extern "C" fn(i32) = end_thread;
    // SAFETY: the handler makes one system call and nothing else.
    let previous = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    ensure!(previous != libc::SIG_ERR, "signal: {}", std::io::Error::last_os_error());
    ready()?;

    let (read_end, _write_end) = std::io::pipe()?;
    let read_end = Arc::new(read_end);
    let (announce, announced) = std::sync::mpsc::sync_channel(1);
    for index in 0..sleepers + readers {
        let announce = announce.clone();
        let read_end = Arc::clone(&read_end);
        thread::spawn(move || {
            // SAFETY: gettid takes nothing and can't fail.
            let _ = announce.send(unsafe { libc::gettid() });
            if index < sleepers {
                call_nanosleep(Duration::from_secs(1000));
            } else {
                let _ = std::io::Read::read(&mut &*read_end, &mut [0]);
            }
        });
    }
    let tids: Vec<i32> = announced.iter().take(sleepers + readers).collect();
    report(&json!({ "tids": tids }));
    // The pipe stays open, and so the readers blocked, until the process ends.
    crate::wait_for_line()
}

extern "C" fn end_thread(_signal: i32) {
    // SAFETY: SYS_exit ends this thread only, at once; nothing of it is used afterwards.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}
