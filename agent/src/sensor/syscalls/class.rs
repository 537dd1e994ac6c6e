//! Names, numbers and classes of system calls and errors.

use agent_ebpf::contract::syscalls::{CLASSES, COMPAT, NUMBERS, OTHER, X32, number_index};
use syscalls::{Errno, Sysno};

/// What users see in the label `class`, by number of the class.
pub const CLASS_NAMES: [&str; CLASSES] = [
    "other", "read", "write", "open", "stat", "file", "poll", "sleep", "lock", "network", "process",
    "memory", "signal", "time", "io_uring", "ipc",
];

/// The name of a system call's number on this architecture.
pub fn name(number: u32) -> String {
    match number {
        OTHER => "other".to_owned(),
        COMPAT => COMPAT_NAME.to_owned(),
        X32 => "x32".to_owned(),
        _ => match Sysno::new(number as usize) {
            Some(call) => call.name().to_owned(),
            None => format!("unknown_{number}"),
        },
    }
}

/// The number that goes by a name: where such calls are counted.
pub fn number(name: &str) -> Option<u32> {
    match name {
        "other" => Some(OTHER),
        COMPAT_NAME => Some(COMPAT),
        "x32" => Some(X32),
        _ => name.parse::<Sysno>().ok().map(|call| number_index(call.id() as u64)),
    }
}

/// What the kernel calls the 32-bit ABI of this architecture (`arch/*/entry/syscalls`, `arch/*/tools`).
#[cfg(not(target_arch = "aarch64"))]
const COMPAT_NAME: &str = "i386";
#[cfg(target_arch = "aarch64")]
const COMPAT_NAME: &str = "arm";

/// The symbol of an error, such as `ENOENT`.
pub fn errno_name(errno: u32) -> Option<&'static str> {
    match errno {
        // What the kernel uses inside (include/linux/errno.h): seen by tracers when a signal interrupts a call.
        512 => Some("ERESTARTSYS"),
        513 => Some("ERESTARTNOINTR"),
        514 => Some("ERESTARTNOHAND"),
        516 => Some("ERESTART_RESTARTBLOCK"),
        _ => Errno::new(errno as i32).name(),
    }
}

/// The class of every number.
pub fn classes() -> [u8; NUMBERS] {
    std::array::from_fn(|number| {
        let class = Sysno::new(number).map_or("other", |call| class(call.name()));
        CLASS_NAMES.iter().position(|name| *name == class).unwrap_or(0) as u8
    })
}

/// Numbers of the calls that the programs treat in a way of their own, by their global.
pub fn numbers() -> Vec<(&'static str, u64)> {
    [
        ("NR_EXIT", "exit"),
        ("NR_EXIT_GROUP", "exit_group"),
        ("NR_CLONE", "clone"),
        ("NR_CLONE3", "clone3"),
        ("NR_FORK", "fork"),
        ("NR_VFORK", "vfork"),
        ("NR_CONNECT", "connect"),
        ("NR_RT_SIGRETURN", "rt_sigreturn"),
    ]
    .into_iter()
    .filter_map(|(global, name)| Some((global, name.parse::<Sysno>().ok()?.id() as u64)))
    .collect()
}

fn class(name: &str) -> &'static str {
    match name {
        "read" | "pread64" | "readv" | "preadv" | "preadv2" | "getdents" | "getdents64" | "readlink"
        | "readlinkat" | "readahead" | "getrandom" => "read",
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "fsync" | "fdatasync" | "sync"
        | "syncfs" | "sync_file_range" | "sendfile" | "splice" | "tee" | "vmsplice" | "copy_file_range"
        | "fallocate" | "truncate" | "ftruncate" => "write",
        "open" | "openat" | "openat2" | "creat" | "close" | "close_range" | "open_by_handle_at"
        | "name_to_handle_at" | "memfd_create" | "memfd_secret" => "open",
        "stat" | "fstat" | "lstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" | "access"
        | "faccessat" | "faccessat2" | "statmount" | "listmount" => "stat",
        "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2"
        | "epoll_create" | "epoll_create1" | "epoll_ctl" | "eventfd" | "eventfd2" => "poll",
        "nanosleep" | "clock_nanosleep" | "pause" | "sched_yield" => "sleep",
        "futex" | "futex_wait" | "futex_wake" | "futex_waitv" | "futex_requeue" | "flock"
        | "get_robust_list" | "set_robust_list" | "membarrier" | "rseq" => "lock",
        "socket" | "socketpair" | "bind" | "listen" | "accept" | "accept4" | "connect" | "shutdown"
        | "sendto" | "recvfrom" | "sendmsg" | "recvmsg" | "sendmmsg" | "recvmmsg" | "getsockopt"
        | "setsockopt" | "getsockname" | "getpeername" => "network",
        "fork" | "vfork" | "clone" | "clone3" | "execve" | "execveat" | "exit" | "exit_group" | "wait4"
        | "waitid" | "getpid" | "getppid" | "gettid" | "getpgid" | "getpgrp" | "setpgid" | "getsid"
        | "setsid" | "prctl" | "arch_prctl" | "ptrace" | "set_tid_address" | "pidfd_open" | "pidfd_getfd"
        | "unshare" | "setns" | "kcmp" | "getrlimit" | "setrlimit" | "prlimit64" | "getrusage"
        | "getpriority" | "setpriority" | "sched_setaffinity" | "sched_getaffinity"
        | "sched_setscheduler" | "sched_getscheduler" | "sched_setparam" | "sched_getparam"
        | "sched_setattr" | "sched_getattr" | "getcpu" | "getuid" | "geteuid" | "getgid" | "getegid"
        | "setuid" | "setgid" | "setreuid" | "setregid" | "setresuid" | "setresgid" | "getresuid"
        | "getresgid" | "getgroups" | "setgroups" | "setfsuid" | "setfsgid" | "capget" | "capset"
        | "seccomp" | "personality" | "acct" => "process",
        "mmap"
        | "munmap"
        | "mprotect"
        | "mremap"
        | "madvise"
        | "brk"
        | "msync"
        | "mincore"
        | "mlock"
        | "mlock2"
        | "munlock"
        | "mlockall"
        | "munlockall"
        | "mbind"
        | "get_mempolicy"
        | "set_mempolicy"
        | "set_mempolicy_home_node"
        | "migrate_pages"
        | "move_pages"
        | "pkey_mprotect"
        | "pkey_alloc"
        | "pkey_free"
        | "remap_file_pages"
        | "userfaultfd"
        | "process_vm_readv"
        | "process_vm_writev"
        | "process_madvise"
        | "process_mrelease"
        | "mseal"
        | "map_shadow_stack" => "memory",
        "kill" | "tkill" | "tgkill" | "pidfd_send_signal" | "rt_sigaction" | "rt_sigprocmask"
        | "rt_sigreturn" | "rt_sigpending" | "rt_sigtimedwait" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo"
        | "rt_sigsuspend" | "sigaltstack" | "signalfd" | "signalfd4" | "restart_syscall" => "signal",
        "time" | "gettimeofday" | "settimeofday" | "clock_gettime" | "clock_settime" | "clock_getres"
        | "clock_adjtime" | "adjtimex" | "times" | "alarm" | "getitimer" | "setitimer" | "timer_create"
        | "timer_settime" | "timer_gettime" | "timer_getoverrun" | "timer_delete" | "timerfd_create"
        | "timerfd_settime" | "timerfd_gettime" => "time",
        "io_uring_setup" | "io_uring_enter" | "io_uring_register" | "io_setup" | "io_submit"
        | "io_getevents" | "io_pgetevents" | "io_cancel" | "io_destroy" => "io_uring",
        "pipe" | "pipe2" | "shmget" | "shmat" | "shmdt" | "shmctl" | "semget" | "semop" | "semtimedop"
        | "semctl" | "msgget" | "msgsnd" | "msgrcv" | "msgctl" | "mq_open" | "mq_unlink" | "mq_timedsend"
        | "mq_timedreceive" | "mq_notify" | "mq_getsetattr" => "ipc",
        "lseek" | "dup" | "dup2" | "dup3" | "fcntl" | "ioctl" | "fadvise64" | "rename" | "renameat"
        | "renameat2" | "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat" | "link" | "linkat"
        | "symlink" | "symlinkat" | "mknod" | "mknodat" | "chmod" | "fchmod" | "fchmodat" | "fchmodat2"
        | "chown" | "fchown" | "lchown" | "fchownat" | "umask" | "utime" | "utimes" | "utimensat"
        | "futimesat" | "getcwd" | "chdir" | "fchdir" | "chroot" | "pivot_root" | "mount" | "umount2"
        | "move_mount" | "open_tree" | "fsopen" | "fsconfig" | "fsmount" | "fspick" | "mount_setattr"
        | "getxattr" | "lgetxattr" | "fgetxattr" | "getxattrat" | "setxattr" | "lsetxattr" | "fsetxattr"
        | "setxattrat" | "listxattr" | "llistxattr" | "flistxattr" | "listxattrat" | "removexattr"
        | "lremovexattr" | "fremovexattr" | "removexattrat" | "inotify_init" | "inotify_init1"
        | "inotify_add_watch" | "inotify_rm_watch" | "fanotify_init" | "fanotify_mark" | "file_getattr"
        | "file_setattr" | "open_tree_attr" | "quotactl" | "quotactl_fd" | "cachestat" => "file",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_call_and_every_call_a_class_that_exists() {
        let classes = classes();
        for (class, name) in CLASS_NAMES.iter().enumerate() {
            assert!(classes.iter().any(|found| *found as usize == class), "{name}");
        }
        for number in 0..NUMBERS {
            if let Some(call) = Sysno::new(number) {
                assert!(CLASS_NAMES.contains(&class(call.name())), "{call:?}");
            }
        }
    }

    #[test]
    fn the_calls_with_a_way_of_their_own_have_numbers() {
        let numbers = numbers();
        assert!(numbers.iter().any(|(global, _)| *global == "NR_EXIT_GROUP"));
        assert!(numbers.iter().any(|(global, _)| *global == "NR_CONNECT"));
    }

    #[test]
    fn names_and_numbers_belong_together() {
        for index in 0..NUMBERS as u32 {
            if let Some(found) = number(&name(index)) {
                assert_eq!(found, index);
            }
        }
        assert!(number("getppid").is_some() && number("i386").or(number("arm")).is_some());
        assert_eq!((number("unknown_500"), number("")), (None, None));
    }

    #[test]
    fn errors_have_their_symbols() {
        assert_eq!(errno_name(2), Some("ENOENT"));
        assert_eq!(errno_name(512), Some("ERESTARTSYS"));
        assert_eq!(errno_name(4000), None);
    }
}
