//! From when on a call is slow.

use std::time::Duration;

use agent_ebpf::contract::syscalls::NUMBERS;

use super::super::syscalls::{CLASS_NAMES, classes, name};

/// A class or a call, and from when on it is slow; never, if there is no duration.
pub type SlowCall = (String, Option<Duration>);

/// Calls that wait for somebody: how long they take says nothing about the kernel. A class doesn't stand for them, only
/// their own name does.
const WAITS: &[&str] = &[
    "accept",
    "accept4",
    "clock_nanosleep",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "fcntl",
    "flock",
    "futex",
    "futex_wait",
    "futex_waitv",
    "io_getevents",
    "io_pgetevents",
    "io_uring_enter",
    "ioctl",
    "mq_timedreceive",
    "mq_timedsend",
    "msgrcv",
    "msgsnd",
    "nanosleep",
    "pause",
    "poll",
    "ppoll",
    "pselect6",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "restart_syscall",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "select",
    "semop",
    "semtimedop",
    "splice",
    "tee",
    "userfaultfd",
    "vfork",
    "wait4",
    "waitid",
];

/// Nanoseconds from which on each call is slow, by number; 0: never.
pub fn slow_ns(wanted: &[SlowCall]) -> [u64; NUMBERS] {
    let classes = classes();
    let ns = |name: &str| {
        let (_, duration) = wanted.iter().find(|(wanted, _)| wanted == name)?;
        Some(duration.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    };
    std::array::from_fn(|number| {
        let name = name(u32::try_from(number).unwrap_or(u32::MAX));
        let class = CLASS_NAMES.get(usize::from(classes[number])).copied().unwrap_or_default();
        let of_class = || if WAITS.contains(&name.as_str()) { None } else { ns(class) };
        // `open` is a class and a call: the class counts for the call, too.
        ns(&name).or_else(of_class).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::syscalls::number;

    #[test]
    fn a_class_stands_for_its_calls_but_for_those_that_wait() {
        let wanted = [
            ("file".to_owned(), Some(Duration::from_secs(1))),
            ("fsync".to_owned(), Some(Duration::from_millis(200))),
            ("rename".to_owned(), None),
            ("network".to_owned(), Some(Duration::from_secs(2))),
            ("futex".to_owned(), Some(Duration::from_secs(3))),
        ];
        let slow = slow_ns(&wanted);
        let of = |name: &str| slow[number(name).unwrap() as usize];
        assert_eq!(of("unlink"), 1_000_000_000);
        assert_eq!(of("fsync"), 200_000_000);
        assert_eq!((of("rename"), of("ioctl"), of("read")), (0, 0, 0));
        assert_eq!((of("connect"), of("accept4")), (2_000_000_000, 0));
        assert_eq!(of("futex"), 3_000_000_000, "by its own name");
    }

    #[test]
    fn every_call_that_waits_exists() {
        for name in WAITS {
            assert!(number(name).is_some() || cfg!(not(target_arch = "x86_64")), "{name}");
        }
    }
}
