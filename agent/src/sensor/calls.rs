//! Single system calls: slow ones, failed ones, and those that somebody watches.

mod arguments;
mod plan;
mod slow;

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use agent_ebpf::contract::{
    calls::{ARGUMENTS_KNOWN, DETACHED, DURATION_KNOWN, FILE_KNOWN, FILE_STEPS, PATH_LEN, RETURNED, ROOTED},
    stats::SensorId,
    syscalls::ERRNO_MAX,
};

use super::{
    Classic, Hook, Sensor, State,
    syscalls::{errno_name, name},
    text,
};
use crate::observation;

pub use agent_ebpf::contract::calls::CallEvent;
pub use arguments::{argument_name, places};
pub use plan::{Plan, unite};
pub use slow::{SlowCall, slow_ns};

/// What `syscalls` comes across is told by its programs. Those of this sensor are attached while somebody watches.
pub const SENSOR: Sensor = Sensor {
    id: SensorId::Calls,
    hooks: &[
        Hook {
            program: EXIT,
            classic: Some(Classic {
                category: "raw_syscalls",
                name: "raw_syscalls:sys_exit",
                program: "sys_exit_watch_classic",
            }),
            on_demand: true,
            ..Hook::required("sys_exit", &[Some("pt_regs")])
        },
        Hook {
            program: ENTER,
            classic: Some(Classic {
                category: "raw_syscalls",
                name: "raw_syscalls:sys_enter",
                program: "sys_enter_watch_classic",
            }),
            on_demand: true,
            ..Hook::required("sys_enter", &[Some("pt_regs")])
        },
    ],
};

/// The programs that watch, by the names that their hooks have for them.
pub const ENTER: &str = "sys_enter_watch";
pub const EXIT: &str = "sys_exit_watch";

// Types of files (include/uapi/linux/stat.h).
const S_IFMT: u32 = 0o170_000;
const S_IFSOCK: u32 = 0o140_000;
const S_IFIFO: u32 = 0o010_000;

/// What this sensor lacks if `syscalls`, whose programs tell slow and failed calls, is in this state. Whoever has switched
/// that off knows what it takes along.
pub fn lacking(syscalls: &State) -> Option<String> {
    let what = "slow and failed calls need the sensor syscalls, which is unsupported";
    matches!(syscalls, State::Unsupported { .. }).then(|| what.to_owned())
}

pub(super) fn detail(event: &CallEvent) -> observation::Call {
    let has = |flag| event.flags & flag != 0;
    let path_len = (event.path_len as usize).min(PATH_LEN);
    let path = (path_len > 0).then(|| text(&event.path[..path_len]).into_owned());
    let syscall = name(event.number);
    let errno = u32::try_from(event.result.saturating_neg()).unwrap_or(0);
    let failed = has(RETURNED) && (1..=ERRNO_MAX).contains(&errno);
    observation::Call {
        arguments: if has(ARGUMENTS_KNOWN) { arguments::shown(&syscall, event, path) } else { Vec::new() },
        number: event.number,
        syscall,
        result: (has(RETURNED) && !failed).then_some(event.result),
        errno: failed.then(|| errno_name(errno).map_or_else(|| errno.to_string().into(), Cow::Borrowed)),
        duration: has(DURATION_KNOWN).then_some(event.duration_ns as f64 / 1e9),
        file: has(FILE_KNOWN).then(|| file(event)),
        protocol: protocol(event),
        local_port: Some(event.local_port).filter(|port| *port != 0),
        remote_address: remote(event),
        remote_port: Some(event.remote_port).filter(|port| *port != 0),
    }
}

/// The file as `/proc/PID/fd` would show it, as far as it was climbed: `…` stands for what is missing.
fn file(event: &CallEvent) -> String {
    let steps = usize::try_from(event.steps).unwrap_or(FILE_STEPS).min(FILE_STEPS);
    let mut names: Vec<_> = event.names[..steps].iter().map(|name| (text(name), is_cut(name))).collect();
    names.retain(|(name, _)| !name.is_empty());
    match event.mode & S_IFMT {
        S_IFSOCK => return format!("socket:[{}]", event.inode),
        S_IFIFO if names.is_empty() => return format!("pipe:[{}]", event.inode),
        _ => {}
    }
    if event.flags & DETACHED != 0 {
        let first = names.pop().map(|(name, _)| name).unwrap_or_default();
        // The root of a file system that is mounted nowhere, and what lies below.
        let below: Vec<_> = names.into_iter().rev().map(|(name, _)| name).collect();
        return match (&*first, below.is_empty()) {
            ("", true) => format!("inode:[{}]", event.inode),
            (_, true) => first.into_owned(),
            ("/", false) => format!("…/{}", below.join("/")),
            (_, false) => format!("…/{first}/{}", below.join("/")),
        };
    }
    let shown: Vec<_> =
        names.iter().rev().map(|(name, cut)| format!("{name}{}", if *cut { "…" } else { "" })).collect();
    let root = if event.flags & ROOTED != 0 { "/" } else { "…/" };
    format!("{root}{}", shown.join("/"))
}

/// A name that fills its place may have been longer.
fn is_cut(name: &[u8]) -> bool {
    name.iter().position(|byte| *byte == 0) == Some(name.len() - 1)
}

fn remote(event: &CallEvent) -> Option<IpAddr> {
    let [a, b, c, d, ..] = event.remote;
    let address = match i32::from(event.family) {
        libc::AF_INET => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
        libc::AF_INET6 => Ipv6Addr::from(event.remote).to_canonical(),
        _ => return None,
    };
    (!address.is_unspecified()).then_some(address)
}

/// What [`protocol`] says.
pub const PROTOCOLS: [&str; 9] = ["tcp", "mptcp", "udp", "ip", "unix", "netlink", "packet", "vsock", "other"];

/// What kind of socket the descriptor is.
fn protocol(event: &CallEvent) -> Option<&'static str> {
    if event.flags & FILE_KNOWN == 0 || event.mode & S_IFMT != S_IFSOCK {
        return None;
    }
    Some(match (i32::from(event.family), i32::from(event.protocol)) {
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_TCP) => "tcp",
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_MPTCP) => "mptcp",
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_UDP) => "udp",
        (libc::AF_INET | libc::AF_INET6, _) => "ip",
        (libc::AF_UNIX, _) => "unix",
        (libc::AF_NETLINK, _) => "netlink",
        (libc::AF_PACKET, _) => "packet",
        (libc::AF_VSOCK, _) => "vsock",
        _ => "other",
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use agent_ebpf::contract::calls::FILE_NAME_LEN;
    use zerocopy::FromZeros as _;

    use super::*;

    pub(crate) fn event(flags: u32, names: &[&str]) -> CallEvent {
        let mut event = CallEvent { flags, steps: names.len() as u64, ..CallEvent::new_zeroed() };
        for (target, name) in event.names.iter_mut().zip(names) {
            target[..name.len()].copy_from_slice(name.as_bytes());
        }
        event
    }

    #[test]
    fn a_file_has_the_path_that_was_climbed() {
        for (flags, names, expected) in [
            (ROOTED, &["passwd", "etc"][..], "/etc/passwd"),
            (ROOTED, &[], "/"),
            // A mount was crossed on the way.
            (ROOTED, &["0001", "wal", "", "data"], "/data/wal/0001"),
            (0, &["c", "b"], "…/b/c"),
            (DETACHED, &["[eventfd]"], "[eventfd]"),
            (DETACHED, &["x", "/"], "…/x"),
        ] {
            assert_eq!(file(&event(FILE_KNOWN | flags, names)), expected, "{names:?}");
        }
        let long = "x".repeat(FILE_NAME_LEN - 1);
        assert_eq!(file(&event(FILE_KNOWN | ROOTED, &[&long])), format!("/{long}…"));
        let mut pipe = event(FILE_KNOWN | DETACHED, &[]);
        (pipe.mode, pipe.inode) = (S_IFIFO | 0o600, 7);
        assert_eq!(file(&pipe), "pipe:[7]");
    }

    #[test]
    fn without_syscalls_only_watched_calls_are_told() {
        let hooks = vec!["sys_exit"];
        let active = State::Active { hooks: hooks.clone() };
        let degraded = State::Degraded { hooks: hooks.clone(), reason: "it is slow".into() };
        assert_eq!([&active, &degraded, &State::Disabled].map(lacking), [None, None, None]);
        let unsupported = State::Unsupported { reason: "no sys_exit".into() };
        let what = lacking(&unsupported).unwrap();
        assert_eq!(active.lacking(what.clone()), State::Degraded { hooks, reason: what.clone() });
        assert_eq!(degraded.lacking(what.clone()).reason(), format!("it is slow; {what}"));
        assert_eq!(unsupported.clone().lacking(what.clone()), unsupported);
        assert_eq!(State::Disabled.lacking(what), State::Disabled);
    }

    #[test]
    fn a_result_is_a_value_or_an_errno() {
        let of = |flags, result| {
            let call = detail(&CallEvent { result, ..event(flags, &[]) });
            (call.result, call.errno.as_deref().map(str::to_owned))
        };
        assert_eq!(of(RETURNED, 3), (Some(3), None));
        assert_eq!(of(RETURNED, -28), (None, Some("ENOSPC".to_owned())));
        assert_eq!(of(RETURNED, -512), (None, Some("ERESTARTSYS".to_owned())));
        assert_eq!(of(RETURNED, i64::MIN), (Some(i64::MIN), None), "an address");
        assert_eq!(of(0, 0), (None, None), "exit doesn't return");
    }
}
