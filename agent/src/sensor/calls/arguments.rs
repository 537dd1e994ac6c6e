//! What the arguments of system calls are, and how they are shown.

use agent_ebpf::contract::{
    calls::{ARGUMENTS, CallEvent},
    syscalls::NUMBERS,
};

use super::super::syscalls::name;
use crate::observation::Argument;

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A file descriptor, by which the file is told.
    File,
    /// The directory that a path begins at.
    Directory,
    /// A path, told only if that was asked for.
    Path,
    OpenFlags,
    /// Permissions, in octal.
    Mode,
    /// A signed number.
    Number,
    /// One of 32 bits: what stands above them in the register is not the call's.
    Int,
    Signal,
    Whence,
    /// An address or bits.
    Hex,
}

use What::{Directory, File, Hex, Int, Mode, Number, OpenFlags, Path, Signal, Whence};

type Signature = &'static [(&'static str, What)];

/// The arguments of a call, as its manual page names them; of others, all that may be there, by number.
fn signature(name: &str) -> Signature {
    match name {
        "open" => &[("pathname", Path), ("flags", OpenFlags), ("mode", Mode)],
        "creat" | "mkdir" | "chmod" => &[("pathname", Path), ("mode", Mode)],
        "openat" => &[("dirfd", Directory), ("pathname", Path), ("flags", OpenFlags), ("mode", Mode)],
        "openat2" => &[("dirfd", Directory), ("pathname", Path), ("how", Hex), ("size", Number)],
        "stat" | "lstat" | "statfs" => &[("pathname", Path), ("buf", Hex)],
        "access" => &[("pathname", Path), ("mode", Mode)],
        "faccessat" => &[("dirfd", Directory), ("pathname", Path), ("mode", Mode)],
        "faccessat2" => &[("dirfd", Directory), ("pathname", Path), ("mode", Mode), ("flags", Hex)],
        "newfstatat" => &[("dirfd", Directory), ("pathname", Path), ("buf", Hex), ("flags", Hex)],
        "statx" => &[("dirfd", Directory), ("pathname", Path), ("flags", Hex), ("mask", Hex), ("buf", Hex)],
        "readlink" => &[("pathname", Path), ("buf", Hex), ("bufsiz", Number)],
        "readlinkat" => &[("dirfd", Directory), ("pathname", Path), ("buf", Hex), ("bufsiz", Number)],
        "unlink" | "rmdir" | "chdir" | "chroot" | "acct" | "swapoff" => &[("pathname", Path)],
        "umount2" | "swapon" => &[("pathname", Path), ("flags", Hex)],
        "unlinkat" => &[("dirfd", Directory), ("pathname", Path), ("flags", Hex)],
        "mkdirat" | "fchmodat" => &[("dirfd", Directory), ("pathname", Path), ("mode", Mode)],
        "fchownat" => {
            &[("dirfd", Directory), ("pathname", Path), ("owner", Int), ("group", Int), ("flags", Hex)]
        }
        "chown" | "lchown" => &[("pathname", Path), ("owner", Int), ("group", Int)],
        "utimensat" => &[("dirfd", Directory), ("pathname", Path), ("times", Hex), ("flags", Hex)],
        "truncate" => &[("pathname", Path), ("length", Number)],
        "rename" | "link" | "symlink" => &[("oldpath", Path), ("newpath", Hex)],
        "renameat" => {
            &[("olddirfd", Directory), ("oldpath", Path), ("newdirfd", Directory), ("newpath", Hex)]
        }
        "renameat2" | "linkat" => &[
            ("olddirfd", Directory),
            ("oldpath", Path),
            ("newdirfd", Directory),
            ("newpath", Hex),
            ("flags", Hex),
        ],
        "symlinkat" => &[("target", Path), ("newdirfd", Directory), ("linkpath", Hex)],
        "mknodat" => &[("dirfd", Directory), ("pathname", Path), ("mode", Mode), ("dev", Hex)],
        "execve" => &[("pathname", Path), ("argv", Hex), ("envp", Hex)],
        "execveat" => {
            &[("dirfd", Directory), ("pathname", Path), ("argv", Hex), ("envp", Hex), ("flags", Hex)]
        }
        "getxattr" | "lgetxattr" => &[("pathname", Path), ("name", Hex), ("value", Hex), ("size", Number)],
        "setxattr" | "lsetxattr" => {
            &[("pathname", Path), ("name", Hex), ("value", Hex), ("size", Number), ("flags", Hex)]
        }
        "inotify_add_watch" => &[("fd", File), ("pathname", Path), ("mask", Hex)],
        "mount" => &[("source", Hex), ("target", Path), ("type", Hex), ("flags", Hex), ("data", Hex)],
        "read" | "write" | "getdents" | "getdents64" => &[("fd", File), ("buf", Hex), ("count", Number)],
        "pread64" | "pwrite64" => &[("fd", File), ("buf", Hex), ("count", Number), ("offset", Number)],
        "readv" | "writev" => &[("fd", File), ("iov", Hex), ("iovcnt", Int)],
        "preadv" | "pwritev" => &[("fd", File), ("iov", Hex), ("iovcnt", Int), ("offset", Number)],
        // The fifth is the upper half of the offset where a register has 32 bits.
        "preadv2" | "pwritev2" => {
            &[("fd", File), ("iov", Hex), ("iovcnt", Int), ("offset", Number), ("pos_h", Hex), ("flags", Hex)]
        }
        "close" | "fsync" | "fdatasync" | "syncfs" | "fchdir" | "dup" => &[("fd", File)],
        "fstat" | "fstatfs" => &[("fd", File), ("buf", Hex)],
        "ftruncate" => &[("fd", File), ("length", Number)],
        "fallocate" => &[("fd", File), ("mode", Hex), ("offset", Number), ("len", Number)],
        "sync_file_range" => &[("fd", File), ("offset", Number), ("nbytes", Number), ("flags", Hex)],
        "readahead" => &[("fd", File), ("offset", Number), ("count", Number)],
        "fadvise64" => &[("fd", File), ("offset", Number), ("len", Number), ("advice", Int)],
        "lseek" => &[("fd", File), ("offset", Number), ("whence", Whence)],
        "fchmod" => &[("fd", File), ("mode", Mode)],
        "fchown" => &[("fd", File), ("owner", Int), ("group", Int)],
        "dup2" => &[("oldfd", File), ("newfd", Int)],
        "dup3" => &[("oldfd", File), ("newfd", Int), ("flags", OpenFlags)],
        "fcntl" => &[("fd", File), ("cmd", Int), ("arg", Hex)],
        "flock" => &[("fd", File), ("operation", Hex)],
        "ioctl" => &[("fd", File), ("request", Hex), ("arg", Hex)],
        "sendfile" => &[("out_fd", File), ("in_fd", Int), ("offset", Hex), ("count", Number)],
        "splice" | "copy_file_range" => &[
            ("fd_in", File),
            ("off_in", Hex),
            ("fd_out", Int),
            ("off_out", Hex),
            ("len", Number),
            ("flags", Hex),
        ],
        "connect" | "bind" => &[("sockfd", File), ("addr", Hex), ("addrlen", Int)],
        "listen" => &[("sockfd", File), ("backlog", Int)],
        "accept" | "getsockname" | "getpeername" => &[("sockfd", File), ("addr", Hex), ("addrlen", Hex)],
        "accept4" => &[("sockfd", File), ("addr", Hex), ("addrlen", Hex), ("flags", Hex)],
        "shutdown" => &[("sockfd", File), ("how", Int)],
        "sendto" | "recvfrom" => &[
            ("sockfd", File),
            ("buf", Hex),
            ("len", Number),
            ("flags", Hex),
            ("addr", Hex),
            ("addrlen", Hex),
        ],
        "sendmsg" | "recvmsg" => &[("sockfd", File), ("msg", Hex), ("flags", Hex)],
        "sendmmsg" => &[("sockfd", File), ("msgvec", Hex), ("vlen", Int), ("flags", Hex)],
        "recvmmsg" => &[("sockfd", File), ("msgvec", Hex), ("vlen", Int), ("flags", Hex), ("timeout", Hex)],
        "setsockopt" | "getsockopt" => {
            &[("sockfd", File), ("level", Int), ("optname", Int), ("optval", Hex), ("optlen", Hex)]
        }
        "socket" => &[("domain", Int), ("type", Hex), ("protocol", Int)],
        "socketpair" => &[("domain", Int), ("type", Hex), ("protocol", Int), ("sv", Hex)],
        "mmap" => {
            &[("addr", Hex), ("length", Number), ("prot", Hex), ("flags", Hex), ("fd", File), ("offset", Hex)]
        }
        "munmap" => &[("addr", Hex), ("length", Number)],
        "mlock" => &[("addr", Hex), ("len", Number)],
        "msync" => &[("addr", Hex), ("length", Number), ("flags", Hex)],
        "madvise" => &[("addr", Hex), ("length", Number), ("advice", Int)],
        "mprotect" => &[("addr", Hex), ("len", Number), ("prot", Hex)],
        "mremap" => &[
            ("old_address", Hex),
            ("old_size", Number),
            ("new_size", Number),
            ("flags", Hex),
            ("new_address", Hex),
        ],
        "brk" => &[("addr", Hex)],
        "kill" => &[("pid", Int), ("sig", Signal)],
        "tkill" => &[("tid", Int), ("sig", Signal)],
        "tgkill" => &[("tgid", Int), ("tid", Int), ("sig", Signal)],
        "exit" | "exit_group" => &[("status", Int)],
        "wait4" => &[("pid", Int), ("wstatus", Hex), ("options", Hex), ("rusage", Hex)],
        "epoll_wait" => &[("epfd", File), ("events", Hex), ("maxevents", Int), ("timeout", Int)],
        "epoll_pwait" => {
            &[("epfd", File), ("events", Hex), ("maxevents", Int), ("timeout", Int), ("sigmask", Hex)]
        }
        "epoll_ctl" => &[("epfd", File), ("op", Int), ("fd", Int), ("event", Hex)],
        "io_uring_enter" => &[("fd", File), ("to_submit", Number), ("min_complete", Number), ("flags", Hex)],
        "getpid" | "getppid" | "gettid" | "getuid" | "geteuid" | "getgid" | "getegid" | "sched_yield"
        | "sync" | "pause" | "fork" | "vfork" | "rt_sigreturn" | "munlockall" | "setsid" => &[],
        _ => &[("0", Hex), ("1", Hex), ("2", Hex), ("3", Hex), ("4", Hex), ("5", Hex)],
    }
}

/// Of each number, one more than the index of the argument that is a path, and of the one that is a descriptor; 0
/// where there is none.
pub fn places() -> [(u32, u32); NUMBERS] {
    std::array::from_fn(|number| {
        let signature = signature(&name(u32::try_from(number).unwrap_or(u32::MAX)));
        let place = |what| {
            let at = signature.iter().position(|(_, found)| *found == what);
            at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(0)
        };
        (place(Path), place(File))
    })
}

/// The name of an argument, if the call has one of that name.
pub fn argument_name(syscall: &str, name: &str) -> Option<&'static str> {
    signature(syscall).iter().map(|(known, _)| *known).find(|known| *known == name)
}

/// The arguments with their names. The path stands for the first that is one; without it, none is shown.
pub(super) fn shown(
    syscall: &str,
    event: &CallEvent,
    mut path: Option<String>,
) -> Vec<(&'static str, Argument)> {
    const { assert!(ARGUMENTS == 6) };
    let values = event.arguments;
    let signature = signature(syscall);
    let creates = signature
        .iter()
        .zip(values)
        .find(|((_, what), _)| *what == OpenFlags)
        // O_TMPFILE has the bit of O_DIRECTORY in it.
        .is_none_or(|(_, flags)| {
            [libc::O_CREAT, libc::O_TMPFILE].iter().any(|bits| flags as i32 & bits == *bits)
        });
    let show = |((name, what), value): (&(&'static str, What), u64)| {
        // The kernel takes an int out of the register's low half.
        let int = value as i32;
        let argument = match what {
            File => Argument::Number(int.into()),
            Directory if int == libc::AT_FDCWD => Argument::Text("AT_FDCWD".to_owned()),
            Directory => Argument::Number(int.into()),
            Path => Argument::Text(path.take()?),
            OpenFlags => Argument::Text(open_flags(int)),
            // What open(2) makes of it where nothing is created: nothing.
            Mode if !creates => return None,
            Mode => Argument::Text(format!("{:#o}", value & 0o7777)),
            Int => Argument::Number(int.into()),
            Number => Argument::Number(value.cast_signed()),
            Signal => {
                signal(int).map_or(Argument::Number(int.into()), |name| Argument::Text(name.to_owned()))
            }
            Whence => {
                whence(int).map_or(Argument::Number(int.into()), |name| Argument::Text(name.to_owned()))
            }
            Hex => Argument::Text(format!("{value:#x}")),
        };
        Some((*name, argument))
    };
    signature.iter().zip(values).filter_map(show).collect()
}

/// `O_RDWR|O_CREAT`: the access mode, the known flags, and what is left in octal.
fn open_flags(flags: i32) -> String {
    // Those with more than one bit come before those that are a part of them.
    const FLAGS: &[(i32, &str)] = &[
        (libc::O_TMPFILE, "O_TMPFILE"),
        (libc::O_SYNC, "O_SYNC"),
        (libc::O_CREAT, "O_CREAT"),
        (libc::O_EXCL, "O_EXCL"),
        (libc::O_NOCTTY, "O_NOCTTY"),
        (libc::O_TRUNC, "O_TRUNC"),
        (libc::O_APPEND, "O_APPEND"),
        (libc::O_NONBLOCK, "O_NONBLOCK"),
        (libc::O_DSYNC, "O_DSYNC"),
        (libc::O_ASYNC, "O_ASYNC"),
        (libc::O_DIRECT, "O_DIRECT"),
        (libc::O_DIRECTORY, "O_DIRECTORY"),
        (libc::O_NOFOLLOW, "O_NOFOLLOW"),
        (libc::O_NOATIME, "O_NOATIME"),
        (libc::O_CLOEXEC, "O_CLOEXEC"),
        (libc::O_PATH, "O_PATH"),
    ];
    let mut shown = match flags & libc::O_ACCMODE {
        libc::O_WRONLY => "O_WRONLY",
        libc::O_RDWR => "O_RDWR",
        libc::O_RDONLY => "O_RDONLY",
        _ => "O_ACCMODE",
    }
    .to_owned();
    let mut left = flags & !libc::O_ACCMODE;
    for (bits, name) in FLAGS {
        if left & bits == *bits {
            shown.push('|');
            shown.push_str(name);
            left &= !bits;
        }
    }
    // O_LARGEFILE, which 64-bit kernels set by themselves.
    left &= !0o100_000;
    if left != 0 {
        shown.push_str(&format!("|{left:#o}"));
    }
    shown
}

fn whence(whence: i32) -> Option<&'static str> {
    ["SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"].get(usize::try_from(whence).ok()?).copied()
}

fn signal(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGCHLD => "SIGCHLD",
        libc::SIGCONT => "SIGCONT",
        libc::SIGSTOP => "SIGSTOP",
        libc::SIGTSTP => "SIGTSTP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::{calls::tests::event, syscalls::number};

    fn of(syscall: &str, arguments: [u64; 6], path: Option<&str>) -> Vec<(&'static str, Argument)> {
        shown(syscall, &CallEvent { arguments, ..event(0, &[]) }, path.map(str::to_owned))
    }

    fn text(text: &str) -> Argument {
        Argument::Text(text.to_owned())
    }

    #[test]
    fn arguments_are_shown_as_their_manual_page_names_them() {
        let here = (-100_i64).cast_unsigned();
        let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC) as u64;
        let arguments = [here, 0x7f00, flags, 0o644, 1, 2];
        let expected = [
            ("dirfd", text("AT_FDCWD")),
            ("pathname", text("/a")),
            ("flags", text("O_WRONLY|O_CREAT|O_CLOEXEC")),
            ("mode", text("0o644")),
        ];
        assert_eq!(of("openat", arguments, Some("/a")), expected);
        // Nobody asked for the path, and nothing is created.
        let read_only = of("openat", [here, 0x7f00, 0, 0o644, 1, 2], None);
        assert_eq!(read_only, [("dirfd", text("AT_FDCWD")), ("flags", text("O_RDONLY"))]);
        let read = of("read", [3, 0x10, 4096, 0, 0, 0], None);
        assert_eq!(
            read,
            [("fd", Argument::Number(3)), ("buf", text("0x10")), ("count", Argument::Number(4096))]
        );
        assert_eq!(
            of("kill", [u64::from(u32::MAX), 9, 0, 0, 0, 0], None),
            [("pid", Argument::Number(-1)), ("sig", text("SIGKILL")),]
        );
        let unchanged = [3, u32::MAX.into(), u32::MAX.into(), 0, 0, 0];
        let minus_one = Argument::Number(-1);
        assert_eq!(
            of("fchown", unchanged, None),
            [("fd", Argument::Number(3)), ("owner", minus_one.clone()), ("group", minus_one)]
        );
        assert_eq!(of("getppid", [1; 6], None), []);
        assert_eq!(of("no such call", [1; 6], None).len(), 6);
    }

    #[test]
    fn what_a_call_leaves_in_further_registers_is_not_shown() {
        for (call, count) in [
            ("socket", 3),
            ("socketpair", 4),
            ("munmap", 2),
            ("mlock", 2),
            ("mprotect", 3),
            ("readahead", 3),
            ("renameat", 4),
            ("renameat2", 5),
            ("faccessat", 3),
            ("getxattr", 4),
        ] {
            let path = call.contains("at").then_some("/a");
            assert_eq!(of(call, [0xdead; 6], path).len(), count, "{call}");
        }
        let mode_of = |flags: i32| {
            let shown = of("open", [0, flags as u64, 0o7357, 0, 0, 0], None);
            shown.iter().any(|(name, _)| *name == "mode")
        };
        assert!(mode_of(libc::O_CREAT) && mode_of(libc::O_TMPFILE | libc::O_RDWR));
        assert!(!mode_of(libc::O_DIRECTORY) && !mode_of(libc::O_RDWR));
    }

    #[test]
    fn flags_are_told_by_name_and_the_rest_in_octal() {
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(open_flags(libc::O_RDWR | libc::O_TMPFILE), "O_RDWR|O_TMPFILE");
        assert_eq!(open_flags(libc::O_SYNC | libc::O_DIRECTORY), "O_RDONLY|O_SYNC|O_DIRECTORY");
        assert_eq!(open_flags(1 << 30), "O_RDONLY|0o10000000000");
    }

    #[test]
    fn the_programs_know_where_paths_and_descriptors_stand() {
        let places = places();
        let of = |name: &str| places[number(name).unwrap() as usize];
        assert_eq!(of("openat"), (2, 0));
        assert_eq!(of("read"), (0, 1));
        assert_eq!(of("mmap"), (0, 5));
        assert_eq!(of("inotify_add_watch"), (2, 1));
        assert_eq!(of("getppid"), (0, 0));
        assert!(
            places.iter().all(|(path, file)| (*path as usize) <= ARGUMENTS && (*file as usize) <= ARGUMENTS)
        );
    }
}
