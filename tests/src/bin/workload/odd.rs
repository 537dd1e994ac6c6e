//! System calls that are hard to count: made while moving, in a storm of forks, restarted, around an exec.

use std::{
    env, fs,
    io::{self, Write as _},
    mem,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    path::Path,
    process::Command,
    ptr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use integration_tests::{
    kernel::{blocked_in, kill_thread},
    wait::{PATIENCE, wait_until},
};
use serde_json::json;

use crate::{
    Arguments,
    calls::{call_getppid, call_nanosleep},
    ready, report, share, wait_for_line,
};

/// Calls between two moves to another CPU.
const STAY: u64 = 1000;
/// Children that a thread has at once.
const BROOD: u64 = 8;

/// `--getppid N --threads T`: N calls in total, by threads that never stay long on a CPU.
pub(crate) fn roam(arguments: &Arguments) -> Result<()> {
    let calls: u64 = arguments.required("getppid")?;
    let threads: u64 = arguments.or("threads", 1)?;
    let cpus = allowed_cpus()?;
    in_parallel(threads, move |index| {
        let mut left = share(calls, threads, index);
        let mut cpus = cpus.iter().cycle().skip(index as usize);
        while left > 0 {
            move_to(*cpus.next().expect("a thread has a CPU"))?;
            let now = left.min(STAY);
            (0..now).for_each(|_| call_getppid());
            left -= now;
        }
        Ok(())
    })?;
    report(&json!({ "getppid": calls }));
    Ok(())
}

/// `--times N`: waits N times for a signal that is there already, and so is interrupted with an error.
pub(crate) fn suspended(arguments: &Arguments) -> Result<()> {
    extern "C" fn nothing(_: i32) {}
    let times: u64 = arguments.required("times")?;
    let handler: extern "C" fn(i32) = nothing;
    // SAFETY: a set of signals is plain data, and all the calls take sets of ours.
    let nobody = unsafe {
        let (mut usr1, mut none) = (mem::zeroed(), mem::zeroed());
        libc::sigemptyset(&raw mut none);
        libc::sigemptyset(&raw mut usr1);
        libc::sigaddset(&raw mut usr1, libc::SIGUSR1);
        libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const usr1, ptr::null_mut());
        none
    };
    ready()?;
    for _ in 0..times {
        // SAFETY: the handler does nothing; the set is ours.
        let result = unsafe {
            libc::raise(libc::SIGUSR1);
            libc::sigsuspend(&raw const nobody)
        };
        let error = io::Error::last_os_error();
        ensure!(result == -1 && error.kind() == io::ErrorKind::Interrupted, "sigsuspend: {result}, {error}");
    }
    report(&json!({ "times": times }));
    Ok(())
}

/// `--errno E --errnos K --count N`: N calls of mount(2) that seccomp refuses, with the K errors from E on in turns.
pub(crate) fn refused(arguments: &Arguments) -> Result<()> {
    let first: u64 = arguments.required("errno")?;
    let errnos: u64 = arguments.or("errnos", 1)?;
    let count: u64 = arguments.required("count")?;
    refuse_mount()?;
    ready()?;
    for call in 0..count {
        let errno = first + call % errnos;
        // SAFETY: the filter refuses the call before the kernel looks at what it is given.
        let result = unsafe { libc::syscall(libc::SYS_mount, errno, 0, 0, 0, 0) };
        let found = io::Error::last_os_error().raw_os_error();
        ensure!(result == -1 && found == i32::try_from(errno).ok(), "mount(2) said {result}, {found:?}");
    }
    report(&json!({ "refused": count }));
    Ok(())
}

/// From here on seccomp answers mount(2) with the error that is its first argument.
fn refuse_mount() -> Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    // Where the number and the first argument stand in `struct seccomp_data` (include/uapi/linux/seccomp.h).
    const NUMBER: u32 = 0;
    const ARGUMENT: u32 = 16;
    let step = |code: u16, jf: u8, k: u32| libc::sock_filter { code, jt: 0, jf, k };
    let mut filter = [
        step(LOAD, 0, NUMBER),
        step((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 3, libc::SYS_mount as u32),
        step(LOAD, 0, ARGUMENT),
        step((libc::BPF_ALU | libc::BPF_OR | libc::BPF_K) as u16, 0, libc::SECCOMP_RET_ERRNO),
        step((libc::BPF_RET | 0x10) as u16, 0, 0), // BPF_A: what was put together
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: u16::try_from(filter.len())?, filter: filter.as_mut_ptr() };
    // SAFETY: both take numbers, and the program is valid for the call, as long as it says.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    ensure!(result == 0, "PR_SET_SECCOMP: {}", io::Error::last_os_error());
    Ok(())
}

/// `--getpid N [--exec true]`, N fewer than 128: a program of 32 bits that makes N calls and exits, or becomes one of 64 bits.
pub(crate) fn i386(arguments: &Arguments) -> Result<()> {
    let calls: u8 = arguments.required("getpid")?;
    let exec = arguments.or("exec", false)?;
    let path = env::temp_dir().join(format!("podwitness-i386-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
    file.write_all(&program_of_32_bits(calls, exec.then(env::current_exe).transpose()?.as_deref()))?;
    drop(file);
    ready()?;
    let status = Command::new(&path).status();
    fs::remove_file(&path)?;
    // A kernel without 32-bit programs says ENOEXEC.
    report(&json!({ "ran": status.is_ok_and(|status| status.success()) }));
    Ok(())
}

/// An ELF file (elf(5)) with one segment, which is executed from its first byte of code. `successor` is what it executes
/// in the end.
fn program_of_32_bits(calls: u8, successor: Option<&Path>) -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    // What stands before the code: the successor's path, its argument and where both are.
    let path = successor.map_or(&b""[..], |path| path.as_os_str().as_bytes());
    let strings = [path, b"\0noop\0"].concat();
    let arguments = BASE + HEADERS + strings.len() as u32;
    let begin = arguments + 12;
    let addresses = [BASE + HEADERS, BASE + HEADERS + path.len() as u32 + 1, 0];
    let [to_path, to_arguments] = [BASE + HEADERS, arguments].map(u32::to_le_bytes);
    let end = match successor {
        // mov ebx, path; mov ecx, arguments; xor edx, edx; push 11; pop eax; int 0x80
        Some(_) => [&[0xbb][..], &to_path, &[0xb9], &to_arguments, &[0x31, 0xd2, 0x6a, 11, 0x58, 0xcd, 0x80]]
            .concat(),
        None => Vec::new(),
    };
    // getpid is 20, execve is 11, exit is 1.
    let code = [
        &[0x6a, calls, 0x5e][..],      // push calls; pop esi
        &[0x6a, 20, 0x58, 0xcd, 0x80], // again: push 20; pop eax; int 0x80
        &[0x4e, 0x75, 0xf8],           // dec esi; jnz again
        &end,
        &[0x31, 0xdb, 0x6a, 1, 0x58, 0xcd, 0x80], // xor ebx, ebx; push 1; pop eax; int 0x80
    ]
    .concat();
    let length = begin - BASE + code.len() as u32;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<_>>();
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, 3]),
        words(&[1, begin, 52, 0, 0]),
        halves(&[52, 32, 1, 0, 0, 0]),
        words(&[1, 0, BASE, BASE, length, length, 5, 0x1000]),
        strings,
        words(&addresses),
        code,
    ]
    .concat()
}

/// `--forks N --getppid M --threads T`: N children in total, each with a child of its own, and each of both makes M
/// calls.
pub(crate) fn storm(arguments: &Arguments) -> Result<()> {
    let forks: u64 = arguments.required("forks")?;
    let calls: u64 = arguments.required("getppid")?;
    let threads: u64 = arguments.or("threads", 1)?;
    in_parallel(threads, move |index| {
        let mut left = share(forks, threads, index);
        while left > 0 {
            let now = left.min(BROOD);
            let children: Vec<i32> = (0..now).map(|_| fork_twice(calls)).collect();
            for child in children {
                ensure!(ended_well(child), "a child failed: {}", io::Error::last_os_error());
            }
            left -= now;
        }
        Ok(())
    })?;
    report(&json!({ "processes": 2 * forks }));
    Ok(())
}

/// `--times N`: a thread waits in recvfrom(2), is interrupted N times by a signal after which the kernel restarts the
/// call, and gets its byte in the end.
pub(crate) fn interrupted(arguments: &Arguments) -> Result<()> {
    static SIGNALS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count(_signal: i32) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    let times: u64 = arguments.required("times")?;
    let handler: extern "C" fn(i32) = count;
    // SAFETY: all zero is a valid sigaction; the handler only touches an atomic.
    let installed = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGUSR2, &raw const action, ptr::null_mut())
    };
    ensure!(installed == 0, "sigaction: {}", io::Error::last_os_error());
    ready()?;

    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let (announce, announced) = std::sync::mpsc::sync_channel(1);
    let waiting = thread::spawn(move || {
        // SAFETY: gettid takes nothing and can't fail.
        let _ = announce.send(unsafe { libc::gettid() });
        receive_byte(theirs.as_raw_fd())
    });
    let (process, thread) = (std::process::id(), announced.recv()?.cast_unsigned());
    let wait = || {
        wait_until(PATIENCE, "the thread waits for a byte", || {
            blocked_in(process, thread) == Some(libc::SYS_recvfrom)
        });
    };
    for signals in 1..=times {
        wait();
        kill_thread(process, thread, libc::SIGUSR2)?;
        wait_until(PATIENCE, "the signal is handled", || SIGNALS.load(Ordering::Relaxed) == signals);
    }
    wait();
    (&ours).write_all(b"x")?;
    let received = waiting.join().map_err(|_| anyhow!("the thread panicked"))?;
    report(&json!({ "received": received }));
    Ok(())
}

/// Two calls that wait for a line each: readv(2), then preadv2(2).
pub(crate) fn wander() -> Result<()> {
    ready()?;
    let mut line = [0u8; 8];
    let place = libc::iovec { iov_base: line.as_mut_ptr().cast(), iov_len: line.len() };
    let nowhere = -1_i64;
    // SAFETY: the buffer is our own, as long as it says, and outlives the calls. Without a place, preadv2 reads on.
    let read = unsafe {
        [
            libc::syscall(libc::SYS_readv, libc::STDIN_FILENO, &raw const place, 1),
            libc::syscall(libc::SYS_preadv2, libc::STDIN_FILENO, &raw const place, 1, nowhere, nowhere, 0),
        ]
    };
    ensure!(read.iter().all(|read| *read > 0), "{read:?}: {}", io::Error::last_os_error());
    report(&json!({}));
    Ok(())
}

/// `--times N --getppid M`: the process replaces itself N times, each time from a thread that has made M calls, while
/// its first thread is inside of a call. `--now I` tells which of these this is.
pub(crate) fn replace(arguments: &Arguments) -> Result<()> {
    let times: u64 = arguments.required("times")?;
    let calls: u64 = arguments.required("getppid")?;
    let now: u64 = arguments.or("now", 0)?;
    if now == 0 {
        ready()?;
    }
    if now == times {
        report(&json!({ "times": times }));
        return Ok(());
    }
    let process = std::process::id();
    thread::spawn(move || {
        wait_until(PATIENCE, "the first thread sleeps", || {
            blocked_in(process, process) == Some(libc::SYS_nanosleep)
        });
        (0..calls).for_each(|_| call_getppid());
        let program = env::current_exe().expect("the path of this program");
        let [times, calls, next] = [times, calls, now + 1].map(|number| number.to_string());
        let error = Command::new(program)
            .args(["replace", "--times", &times, "--getppid", &calls, "--now", &next])
            .exec();
        panic!("exec: {error}");
    });
    call_nanosleep(Duration::from_secs(1000));
    wait_for_line()
}

/// Runs the work in so many threads at once, when all is ready.
fn in_parallel(threads: u64, work: impl Fn(u64) -> Result<()> + Clone + Send + 'static) -> Result<()> {
    let begin = Arc::new(Barrier::new(usize::try_from(threads)? + 1));
    let workers: Vec<_> = (0..threads)
        .map(|index| {
            let (begin, work) = (Arc::clone(&begin), work.clone());
            thread::spawn(move || {
                begin.wait();
                work(index)
            })
        })
        .collect();
    ready()?;
    begin.wait();
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    Ok(())
}

/// The child's id, or -1.
fn fork_twice(calls: u64) -> i32 {
    // SAFETY: the child and its child make nothing but system calls, and end without a return.
    unsafe {
        let child = libc::fork();
        if child != 0 {
            return child;
        }
        let grandchild = libc::fork();
        (0..calls).for_each(|_| call_getppid());
        libc::_exit(if grandchild == 0 || ended_well(grandchild) { 0 } else { 1 })
    }
}

fn ended_well(child: i32) -> bool {
    let mut status = 0;
    // SAFETY: writes to our own integer.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    child > 0 && waited == child && status == 0
}

fn receive_byte(socket: i32) -> i64 {
    let mut byte = 0u8;
    let (none, flags) = (ptr::null::<u8>(), 0);
    // SAFETY: the buffer is one byte of our own; the address of the sender isn't asked for.
    unsafe { libc::syscall(libc::SYS_recvfrom, socket, &raw mut byte, 1, flags, none, none) }
}

fn allowed_cpus() -> Result<Vec<usize>> {
    // SAFETY: all zero is a valid set, which the call fills; 0 is the calling thread.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        ensure!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) == 0, "sched_getaffinity");
        set
    };
    // SAFETY: the numbers are below the size of the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

fn move_to(cpu: usize) -> Result<()> {
    // SAFETY: all zero is a valid set; the number is below its size; 0 is the calling thread.
    let moved = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    ensure!(moved == 0, "sched_setaffinity: {}", io::Error::last_os_error());
    Ok(())
}
