//! What can be decided before all of an event is known.

use std::sync::Arc;

use agent_ebpf::contract::event::EventKind;

use super::{event, events, random::filters};
use crate::{
    filter::{Circumstance, Filter},
    identity::Labels,
};

fn kinds(text: &str) -> Vec<&'static str> {
    Filter::parse(text).unwrap().kinds().map(EventKind::name).collect()
}

#[test]
fn kinds_follow_from_fields_too() {
    let tcp = ["tcp.connect", "tcp.accept", "tcp.close"];
    let told = EventKind::ALL.len() - 1;
    assert_eq!(kinds("").len(), told, "single calls are for those who name them");
    assert_eq!(kinds("kind=tcp"), tcp);
    assert_eq!(kinds("namespace=shop kind in (oom, tcp.close)"), ["tcp.close", "oom.kill"]);
    assert_eq!(kinds("errno=ECONNREFUSED kind!=syscall"), tcp);
    assert_eq!(kinds("side=client"), tcp);
    assert_eq!(
        kinds("errno=EIO kind!=tcp.accept kind!=syscall.slow"),
        ["tcp.connect", "tcp.close", "syscall.failed"]
    );
    assert_eq!(kinds("scope=node or signal=SIGKILL"), ["process.exit", "oom.kill"]);
    assert_eq!(kinds("kind=tcp kind=oom"), [""; 0]);
    assert_eq!(kinds("errno!=ECONNREFUSED").len(), told);
    assert_eq!(kinds("not side!=client"), tcp);
}

#[test]
fn single_calls_are_for_those_who_name_them() {
    let call = event(EventKind::SyscallCall);
    for (text, expected) in [
        ("", false),
        ("kind=syscall", false),
        ("kind=syscall.call", false),
        ("syscall!=read", false),
        ("not syscall", false),
        ("not syscall=read", false),
        ("syscall=read or kind=syscall", false),
        ("syscall=read", false),
        ("syscall", true),
        ("syscall syscall!=read", true),
        ("syscall=openat", true),
        ("syscall in (read, openat) pod=cart-5d9-x2x", true),
        ("syscall~'^open'", true),
        ("not syscall!=openat", true),
        ("not (not syscall=openat or pod=other)", true),
        ("kind=tcp or syscall=openat", true),
        ("pod=cart-5d9-x2x or syscall=openat", true),
        ("syscall=openat namespace=pay", false),
        ("syscall=openat kind=tcp", false),
        ("syscall=openat kind!=syscall.call", false),
    ] {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.matches(&call), expected, "{text}");
        let has_kind = filter.kinds().any(|kind| kind == EventKind::SyscallCall);
        assert!(has_kind || !expected, "{text}");
    }
    let error = Filter::parse("syscall=opeant").unwrap_err();
    assert_eq!(error.suggestion.as_deref(), Some("openat"));
}

#[test]
fn containers_and_errors_are_decided_by_what_is_known_of_them() {
    let labels = |namespace: &str| Labels { namespace: namespace.into(), ..Labels::default() };
    let (shop, pay) = (labels("shop"), labels("pay"));
    let filter = Filter::parse("namespace=shop and (errno=ENOENT or duration>1s)").unwrap();
    let of = |labels| Circumstance { labels: Some(labels), ..Circumstance::default() };
    assert!(filter.may_want(&of(&shop)) && !filter.may_want(&of(&pay)));

    let filter = Filter::parse("namespace=shop errno in (ENOENT, EACCES)").unwrap();
    let with = |errno: Option<&'static str>| -> bool {
        filter.may_want(&Circumstance { labels: Some(&shop), texts: &[("errno", errno)], kind: None })
    };
    assert!(with(Some("ENOENT")) && with(Some("EACCES")));
    assert!(!with(Some("EPERM")) && !with(None));
}

/// Whatever is known: an event that is wanted is never withheld.
#[test]
fn nothing_wanted_is_withheld() {
    let events = events();
    let mut withheld = 0;
    for filter in filters(2_000) {
        for event in &events {
            let errno = serde_json::to_value(event).unwrap()["errno"].as_str().map(str::to_owned);
            let syscall = serde_json::to_value(event).unwrap()["syscall"].as_str().map(str::to_owned);
            let texts = [("errno", errno.as_deref()), ("syscall", syscall.as_deref())];
            for known in 0..8 {
                let has = |bit: usize| known >> bit & 1 == 1;
                let circumstance = Circumstance {
                    kind: has(0).then_some(event.kind),
                    labels: has(1).then_some(&*event.labels),
                    texts: if has(2) { &texts } else { &[] },
                };
                let may_want = filter.may_want(&circumstance);
                assert!(may_want || !filter.matches(event), "{filter}: {circumstance:?}");
                withheld += usize::from(!may_want);
            }
        }
    }
    assert!(withheld > 1000, "it decides something: {withheld}");
}

#[test]
fn containers_are_chosen_by_their_labels() {
    let labels = event(EventKind::TcpConnect).labels;
    for (text, wanted) in [
        ("", true),
        ("namespace=shop not pod~\"^web\"", true),
        ("namespace=pay or container in (app, db)", true),
        ("not workload", false),
        ("namespace!=shop", false),
    ] {
        assert_eq!(Filter::of_containers(text).unwrap().may_want_container(&labels), wanted, "{text}");
    }
    let odd = Labels { workload: "a \"b\\ and (c".into(), ..Labels::default() };
    let mut other = event(EventKind::ProcessExec);
    for labels in [&*labels, &odd] {
        let filter = Filter::parse(&Filter::container(labels).to_string()).unwrap();
        other.labels = Arc::new(labels.clone());
        assert!(filter.may_want_container(labels) && filter.matches(&other), "{filter}");
        other.labels = Arc::new(Labels { pod: "another".into(), ..labels.clone() });
        assert!(!filter.matches(&other), "{filter}");
    }
}
