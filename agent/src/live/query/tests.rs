use std::sync::Arc;

use agent_ebpf::contract::event::EventKind;

use super::{Format, MAX_VALUES, Query, QueryError};
use crate::{
    filter::Filter,
    identity::Labels,
    live::{Demand, EventId, Start},
    observation::{Call, Cgroup, Detail, Observation, Process},
    sensor::syscalls::number,
};

fn observation(kind: EventKind, pid: Option<u32>) -> Observation {
    Observation {
        time: jiff::Timestamp::UNIX_EPOCH,
        kind,
        labels: Arc::new(Labels {
            namespace: "shop".into(),
            workload_kind: "Deployment".into(),
            workload: "cart".into(),
            pod: "cart-5d9-x2x".into(),
            container: String::new(),
        }),
        process: pid.map(|pid| Process { pid, tid: pid, comm: "cart".into() }),
        detail: Detail::Cgroup(Cgroup { cgroup: "/".into() }),
    }
}

fn filter(query: &[(&str, &str)]) -> Result<Filter, QueryError> {
    Query::parse(query.iter().copied(), jiff::Timestamp::UNIX_EPOCH).map(|query| query.filter)
}

#[test]
fn every_key_must_match_with_any_of_its_values() {
    let connect = observation(EventKind::TcpConnect, Some(42));
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[], true),
        (&[("kind", "tcp.connect")], true),
        (&[("kind", "tcp.close")], false),
        (&[("kind", "tcp.close,tcp.connect")], true),
        (&[("kind", "tcp.close, tcp.connect")], true),
        (&[("kind", "tcp.close"), ("kind", "tcp.connect")], true),
        (&[("kind", "tcp")], true),
        (&[("kind", "tcp.*")], true),
        (&[("kind", "oom,process.*")], false),
        (&[("namespace", "shop")], true),
        (&[("namespace", "sho")], false),
        (&[("namespace", "Shop")], false),
        (&[("namespace", "shop"), ("workload", "cart"), ("workload_kind", "Deployment")], true),
        (&[("namespace", "shop"), ("workload", "pay")], false),
        (&[("workload", "pay,cart")], true),
        (&[("pod", "cart-5d9-x2x")], true),
        (&[("pod", "")], false),
        (&[("container", "")], true),
        (&[("container", "app")], false),
        (&[("pid", "42")], true),
        (&[("pid", "1,42")], true),
        (&[("pid", "4")], false),
        (&[("kind", "tcp"), ("pid", "4")], false),
    ];
    for (query, expected) in cases {
        assert_eq!(filter(query).unwrap().matches(&connect), *expected, "{query:?}");
    }
}

#[test]
fn what_has_no_process_has_no_pid() {
    let mkdir = observation(EventKind::CgroupMkdir, None);
    assert!(filter(&[]).unwrap().matches(&mkdir));
    assert!(!filter(&[("pid", "0")]).unwrap().matches(&mkdir));
}

#[test]
fn a_sensor_stands_for_all_its_kinds() {
    for kind in EventKind::ALL {
        let (sensor, _) = kind.name().split_once('.').unwrap();
        if kind == EventKind::SyscallCall {
            continue;
        }
        for value in [sensor.to_owned(), format!("{sensor}.*"), kind.name().to_owned()] {
            assert!(filter(&[("kind", &value)]).unwrap().matches(&observation(kind, None)), "{value}");
        }
    }
}

fn call(kind: EventKind, name: &str) -> Observation {
    let number = number(name).unwrap();
    let detail = Detail::Call(Box::new(Call {
        syscall: name.into(),
        number,
        arguments: Vec::new(),
        result: None,
        errno: None,
        duration: None,
        file: None,
        protocol: None,
        local_port: None,
        remote_address: None,
        remote_port: None,
    }));
    Observation { detail, ..observation(kind, Some(42)) }
}

#[test]
fn calls_go_to_those_who_name_them() {
    use EventKind::{SyscallCall, SyscallFailed};
    type Query = &'static [(&'static str, &'static str)];
    let cases: &[(Query, [bool; 3])] = &[
        // An openat that somebody watches, one that failed, and a watched read.
        (&[], [false, true, false]),
        (&[("kind", "syscall")], [false, true, false]),
        (&[("syscall", "openat")], [true, true, false]),
        (&[("syscall", "openat,read")], [true, true, true]),
        (&[("syscall", "all")], [true, true, true]),
        (&[("kind", "syscall.call"), ("syscall", "openat")], [true, false, false]),
        (&[("kind", "syscall"), ("syscall", "openat"), ("pod", "other")], [false; 3]),
        (&[("kind", "tcp"), ("syscall", "openat")], [false; 3]),
    ];
    let calls = [call(SyscallCall, "openat"), call(SyscallFailed, "openat"), call(SyscallCall, "read")];
    for (query, expected) in cases {
        let filter = filter(query).unwrap();
        assert_eq!(calls.each_ref().map(|call| filter.matches(call)), *expected, "{query:?}");
    }
    assert!(!filter(&[("syscall", "connect")]).unwrap().matches(&observation(EventKind::TcpConnect, None)));
}

#[test]
fn the_kernel_is_asked_for_calls_that_are_named() {
    let wish = |query: &[(&str, &str)]| Query::parse(query.iter().copied(), jiff::Timestamp::UNIX_EPOCH);
    let demand =
        |query: &[(&str, &str)]| wish(query).map(|wish| Demand::of(&wish.filter, wish.paths)).unwrap();
    for query in [&[][..], &[("kind", "syscall")], &[("kind", "tcp,syscall.slow"), ("syscall", "read")]] {
        assert!(demand(query).is_none(), "{query:?}");
    }
    assert!(demand(&[("syscall", "all")]).is_some());
    assert!(demand(&[("filter", "syscall=read or kind=tcp")]).is_some());
    assert!(wish(&[("syscall", "read"), ("pod", "web-0"), ("paths", "true")]).unwrap().paths);
    for (query, key) in
        [(("syscall", "opeNat"), "syscall"), (("syscall", ""), "syscall"), (("paths", "yes"), "paths")]
    {
        assert_eq!(filter(&[query]).unwrap_err().key(), key);
    }
}

#[test]
fn an_error_names_the_key_and_what_is_allowed() {
    let error = filter(&[("kind", "tcp"), ("pods", "x")]).unwrap_err();
    assert_eq!(error, QueryError::UnknownKey { key: "pods".into() });
    assert_eq!(error.key(), "pods");
    let keys = [
        "filter",
        "paths",
        "since",
        "after",
        "limit",
        "format",
        "kind",
        "syscall",
        "pid",
        "namespace",
        "workload_kind",
        "workload",
        "pod",
        "container",
    ];
    assert_eq!(error.allowed(), keys);

    let error = filter(&[("kind", "tcp.connect,tcp.open")]).unwrap_err();
    assert_eq!(error.to_string(), "there is no kind of event `tcp.open`");
    assert_eq!(error.key(), "kind");
    assert!(error.allowed().contains(&"tcp") && error.allowed().contains(&"tcp.connect"));
    assert_eq!(error.allowed().iter().filter(|name| **name == "tcp").count(), 1);
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for query in [("kind", ""), ("kind", "tcp,"), ("kind", "*"), ("kind", "tcp.connect.*"), ("kind", ".*")] {
        assert_eq!(filter(&[query]).unwrap_err().key(), "kind", "{query:?}");
    }
    for query in [("pid", ""), ("pid", "x"), ("pid", "-1"), ("pid", "4294967296"), ("pid", "1,,2")] {
        assert_eq!(filter(&[query]).unwrap_err().key(), "pid", "{query:?}");
    }
    assert_eq!(filter(&[("pod", "a,")]).unwrap_err(), QueryError::EmptyValue { key: "pod" });
}

#[test]
fn a_filter_is_bounded() {
    let list = |count: usize| (0..count).map(|pid| pid.to_string()).collect::<Vec<_>>().join(",");
    assert!(filter(&[("pid", &list(MAX_VALUES))]).is_ok());
    assert!(filter(&[("pod", &list(MAX_VALUES))]).is_ok());
    let too_many = |key| QueryError::TooManyValues { key };
    assert_eq!(filter(&[("pid", &list(MAX_VALUES + 1))]).unwrap_err(), too_many("pid"));
    assert_eq!(filter(&[("pod", &list(MAX_VALUES)), ("pod", "x")]).unwrap_err(), too_many("pod"));
    let everything = vec![("kind", "tcp"); 1000];
    assert!(filter(&everything).is_ok(), "kinds are a set");
}

#[test]
fn the_language_and_plain_keys_narrow_each_other() {
    let connect = observation(EventKind::TcpConnect, Some(42));
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[("filter", "")], true),
        (&[("filter", "namespace=shop kind=tcp")], true),
        (&[("filter", "namespace=shop"), ("kind", "oom")], false),
        (&[("filter", "namespace=pay or pid=42"), ("pod", "cart-5d9-x2x")], true),
    ];
    for (query, expected) in cases {
        assert_eq!(filter(query).unwrap().matches(&connect), *expected, "{query:?}");
    }
    let error = filter(&[("filter", "namespcae=shop")]).unwrap_err();
    assert_eq!(error.key(), "filter");
    assert_eq!(error.to_string(), "there is no field `namespcae`; did you mean `namespace`?");
    let twice = filter(&[("filter", "pid=1"), ("filter", "pid=2")]).unwrap_err();
    assert_eq!(twice, QueryError::Repeated { key: "filter" });
}

#[test]
fn where_to_begin_and_when_to_end() {
    let now: jiff::Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    let query = |pairs: &[(&str, &str)]| Query::parse(pairs.iter().copied(), now);
    let since = |text: &str| Start::Since(text.parse().unwrap());
    for (value, expected) in [
        ("2026-01-31T11:59:00Z", since("2026-01-31T11:59:00Z")),
        ("2026-01-31T12:59:00+01:00", since("2026-01-31T11:59:00Z")),
        ("30s", since("2026-01-31T11:59:30Z")),
        ("-30s", since("2026-01-31T11:59:30Z")),
        ("1m 30s", since("2026-01-31T11:58:30Z")),
    ] {
        assert_eq!(query(&[("since", value)]).unwrap().start, expected, "{value}");
    }
    let id: EventId = "19f-7".parse().unwrap();
    assert_eq!(id.to_string(), "19f-7");
    let all = query(&[("after", "19f-7"), ("limit", "3"), ("format", "sse")]).unwrap();
    assert_eq!((all.start, all.limit, all.format), (Start::After(id), Some(3), Some(Format::Sse)));
    for (key, value) in [
        ("since", "yesterday"),
        ("since", ""),
        ("since", "9999999999999h"),
        // The least there is has no opposite.
        ("since", "-9223372036854775808s"),
        ("after", "7"),
        ("after", "+1-7"),
        ("limit", "0"),
        ("limit", "-1"),
        ("format", "xml"),
    ] {
        assert_eq!(query(&[(key, value)]).unwrap_err().key(), key, "{value}");
    }
    assert_eq!(query(&[("since", "1s"), ("after", "1-1")]).unwrap_err(), QueryError::TwoStarts);
    assert_eq!(query(&[("limit", "1"), ("limit", "1")]).unwrap_err(), QueryError::Repeated { key: "limit" });
}
