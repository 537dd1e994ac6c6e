//! What filters mean.

use agent_ebpf::contract::event::EventKind;

use super::{event, events};
use crate::filter::{FIELDS, Field, Filter};

#[track_caller]
fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|error| panic!("{error}\n{}", error.pointer(text)))
}

#[test]
fn a_filter_decides_as_it_reads() {
    let connect = event(EventKind::TcpConnect);
    let cases = [
        ("", true),
        ("namespace=shop", true),
        ("namespace = \"shop\"", true),
        ("namespace==shop", true),
        ("namespace=Shop", false),
        ("namespace!=shop", false),
        ("namespace=shop kind=tcp.connect", true),
        ("namespace=shop AND kind=oom", false),
        ("namespace=pay or kind=tcp", true),
        ("namespace=pay || kind=tcp.*", true),
        ("kind=oom or namespace=shop and pid=1", false),
        ("(kind=oom or namespace=shop) pid=42", true),
        ("not kind=oom", true),
        ("!kind=tcp", false),
        ("not not kind=tcp", true),
        ("not kind=oom pid=1", false),
        ("kind in (tcp.connect, tcp.close)", true),
        ("kind not in (tcp.connect, tcp.close)", false),
        ("kind~connect", true),
        ("errno=ECONNREFUSED", true),
        ("errno=111", true),
        ("errno in (ENOTSUP, ECONNREFUSED)", true),
        ("errno!=ECONNREFUSED", false),
        ("errno", true),
        ("not errno", false),
        ("executable", false),
        ("executable!=/bin/sh", true),
        ("executable=\"\"", false),
        ("container!=\"\"", true),
        ("duration>100ms", true),
        ("duration>0.1", true),
        ("duration>=150ms", true),
        ("duration>150ms", false),
        ("duration<150001us", true),
        ("duration=0.15s", true),
        ("duration<1m duration<1h duration<1d", true),
        ("remote_port=443", true),
        ("remote_port in (80, 443)", true),
        ("remote_port<443", false),
        ("remote_address=2001:db8::1", true),
        ("remote_address=2001:db8::/32", true),
        ("local_address=10.0.0.0/8", true),
        ("local_address in (192.168.0.0/16, 10.0.0.7)", true),
        ("local_address=::ffff:10.0.0.7", true),
        ("local_address=11.0.0.0/8", false),
        ("peer=kube-system/dns", true),
        ("peer=dns", false),
        ("peer~\"^kube-\"", true),
        ("peer!~\"^kube-\"", false),
        ("peer_workload=dns", true),
        ("comm='cart worker'", true),
        ("comm~\"^cart\\s\"", true),
        ("comm~\"^CART\"", false),
        ("comm~\"(?i)^CART\"", true),
        (
            "namespace=shop kind in (tcp.connect, tcp.close) and (errno=ECONNREFUSED or duration>100ms) \
             and not peer~\"kube-\"",
            false,
        ),
    ];
    for (text, expected) in cases {
        let filter = filter(text);
        assert_eq!(filter.matches(&connect), expected, "{text}");
        let printed = filter.to_string();
        assert_eq!(self::filter(&printed), filter, "{text} → {printed}");
    }
}

#[test]
fn what_an_event_lacks_equals_nothing() {
    let exit = event(EventKind::ProcessExit);
    let cases = [
        ("signal=SIGSEGV", true),
        ("signal=SEGV", true),
        ("signal=11", true),
        ("signal in (SIGKILL, SIGSEGV)", true),
        ("core_dumped", true),
        ("core_dumped=true", true),
        ("exit_code=0", false),
        ("exit_code!=0", true),
        ("exit_code<1", false),
        ("not exit_code<1", true),
        ("duration>1.5m", true),
        ("errno", false),
    ];
    for (text, expected) in cases {
        assert_eq!(filter(text).matches(&exit), expected, "{text}");
    }
    let oom = event(EventKind::OomKill);
    for text in [
        "anon_rss_bytes=64MiB",
        "anon_rss_bytes<=64Mi",
        "anon_rss_bytes>67M",
        "oom_score_adj<0",
        "oom_score_adj=-5",
    ] {
        assert!(filter(text).matches(&oom), "{text}");
    }
}

#[test]
fn filters_are_printed_in_one_notation() {
    let cases = [
        ("pid=1 (pid=2 pid=3)", "pid=1 and pid=2 and pid=3"),
        ("pid=1 or (pid=2 or pid=3)", "pid=1 or pid=2 or pid=3"),
        ("(pid=1 or pid=2) pid=3", "(pid=1 or pid=2) and pid=3"),
        ("pid=1 or pid=2 pid=3", "pid=1 or pid=2 and pid=3"),
        ("! (pid=1 pid=2)", "not (pid=1 and pid=2)"),
        ("not pid = 1", "pid!=1"),
        ("not pid not in (1, 2)", "not pid not in (1, 2)"),
        ("not pid>1", "not pid>1"),
        ("duration>1500ms", "duration>1500ms"),
        ("duration>120s", "duration>2m"),
        ("duration>2", "duration>2s"),
        ("duration>0", "duration>0s"),
        ("anon_rss_bytes>1.5GiB", "anon_rss_bytes>1536MiB"),
        ("anon_rss_bytes>1M", "anon_rss_bytes>1000000"),
        ("signal=9", "signal=SIGKILL"),
        ("signal=40", "signal=40"),
        ("errno=111", "errno=ECONNREFUSED"),
        ("errno=ENOTSUP", "errno=EOPNOTSUPP"),
        ("errno=EWOULDBLOCK", "errno=EAGAIN"),
        ("errno=EDEADLOCK", "errno=EDEADLK"),
        ("comm='or'", "comm=\"or\""),
        ("comm='a\"b\\\\c'", "comm=\"a\\\"b\\\\c\""),
        ("comm~\"\\d+\"", "comm~\"\\\\d+\""),
    ];
    for (text, expected) in cases {
        assert_eq!(filter(text).to_string(), expected, "{text}");
    }
}

/// Whoever adds to an observation adds to the table.
#[test]
fn every_field_of_an_event_can_be_compared() {
    for event in events() {
        let json = serde_json::to_value(&event).unwrap();
        for (name, value) in json.as_object().unwrap() {
            // The time is for `since`; arguments are as many things as there are calls.
            if name == "time" || name == "arguments" {
                continue;
            }
            let field = Field::by_name(name).unwrap_or_else(|| panic!("no field {name}"));
            assert!(field.is_of(event.kind), "{name} of {}", event.kind.name());
            assert!(field.read(&event).is_some(), "{name} of {}", event.kind.name());
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let one = Filter::any_of(field, [text.as_str()]).unwrap();
            let is_single_call = event.kind == EventKind::SyscallCall;
            let one = if is_single_call { one.and(Filter::any_call()) } else { one };
            assert!(one.matches(&event), "{one}");
        }
        for field in &FIELDS {
            assert!(field.is_of(event.kind) || field.read(&event).is_none(), "{}", field.name);
        }
    }
}

#[test]
fn every_field_is_documented() {
    let page = include_str!("../../../../docs/filter.md");
    for field in &FIELDS {
        assert!(page.contains(&format!("| `{}` |", field.name)), "{} is not in docs/filter.md", field.name);
    }
}
