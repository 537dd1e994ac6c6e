//! What a mistake is answered with.

use crate::filter::{Filter, MAX_DEPTH, MAX_LENGTH, MAX_TESTS, MAX_VALUES};

#[test]
fn a_mistake_has_a_place_and_a_way_out() {
    // Text, the part under the carets, the answer.
    let cases = [
        ("namespcae=shop", "namespcae", "there is no field `namespcae`; did you mean `namespace`?"),
        (
            "pid=1 kind=tcp.conect",
            "tcp.conect",
            "`tcp.conect` is no value for `kind`: a kind of event, such as tcp.connect, or a sensor, such as tcp; did you mean `tcp.connect`?",
        ),
        (
            "errno=econrefused",
            "econrefused",
            "`econrefused` is no value for `errno`: an error, such as ECONNREFUSED; did you mean `ECONNREFUSED`?",
        ),
        (
            "signal=SIGKIL",
            "SIGKIL",
            "`SIGKIL` is no value for `signal`: a signal, such as SIGKILL; did you mean `SIGKILL`?",
        ),
        ("namespace shop", "shop", "there is no field `shop`; did you mean `namespace=shop`?"),
        ("tcp.connect", "tcp.connect", "there is no field `tcp.connect`; did you mean `kind=tcp.connect`?"),
        (
            "comm 'a b'",
            "'a b'",
            "an operator is missing between `comm` and its value; did you mean `comm=\"a b\"`?",
        ),
        ("duration>100 ms", "ms", "there is no field `ms`"),
        ("duration>100sec", "100sec", "`100sec` is no value for `duration`: a duration, such as 100ms"),
        ("duration>0.5ns", "0.5ns", "`0.5ns` is no value for `duration`: a duration, such as 100ms"),
        ("pid=x", "x", "`x` is no value for `pid`: a whole number"),
        ("namespace>shop", ">", "`namespace` is text: it can be compared with =, !=, ~, !~, in"),
        ("pid~4", "~", "`pid` is a whole number: it can be compared with =, !=, <, <=, >, >=, in"),
        (
            "local_address=10.0.0.1/8",
            "10.0.0.1/8",
            "`10.0.0.1/8` has bits set beyond the length of its prefix: the network is 10.0.0.0/8",
        ),
        ("pid=", "", "the value for `pid` is missing: a whole number"),
        ("pid= and pid=1", "and", "a value is missing; for `and` itself, write \"and\""),
        ("pid=1 or", "", "a field is expected at the end, such as `namespace=shop`"),
        ("pid=1 or or pid=2", "or", "a field is expected here, not `or`"),
        ("=1", "=", "a field is expected here, not `=`"),
        ("(pid=1", "", "a parenthesis is open at the end"),
        ("pid=1)", ")", "this parenthesis closes nothing"),
        ("()", ")", "a field is expected here, not `)`"),
        ("pid in 1", "1", "`(` is expected after `in`, as in `pid in (…, …)`"),
        ("pid in ()", ")", "a value is expected, not `)`"),
        ("pid in (1 2)", "2", "`,` or `)` is expected here, not `2`"),
        ("pid in (1, 2", "", "the list has no end: `)` is missing"),
        ("comm=\"a", "\"a", "the text in quotes has no end: \" is missing"),
        ("pid=$x", "$", "`$` means nothing here; a value that contains it goes into quotes"),
        ("comm~\"(\"", "\"(\"", "`(` is no regular expression: unclosed group"),
        (
            "comm~\"\\w{1000}{1000}\"",
            "\"\\w{1000}{1000}\"",
            "`\\\\w{1000}{1000}` is no regular expression: it needs too much memory",
        ),
    ];
    for (text, blamed, message) in cases {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
        assert_eq!(&text[error.span.clone()], blamed, "{text}: {:?}", error.span);
    }
}

#[test]
fn carets_stand_below_the_mistake() {
    let pointer = |text: &str| Filter::parse(text).unwrap_err().pointer(text);
    assert_eq!(pointer("pid=1 pib=2"), "pid=1 pib=2\n      ^^^");
    assert_eq!(pointer("pid="), "pid=\n    ^");
    // Each character takes one column, and none reaches a terminal.
    assert_eq!(pointer("comm=\"\u{1b}é\u{202e}\" x=1"), "comm=\"\u{fffd}é\u{fffd}\" x=1\n           ^");
    let long = format!("comm=\"{}\" pib=2", "x".repeat(500));
    let shown = pointer(&long);
    let (line, carets) = shown.split_once('\n').unwrap();
    assert!(line.len() <= 130, "{line}");
    assert_eq!(&line[carets.find('^').unwrap()..][..3], "pib");
}

#[test]
fn filters_are_bounded() {
    let nested = |depth: usize| format!("{}pid=1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(MAX_DEPTH)).is_ok());
    assert!(Filter::parse(&nested(MAX_DEPTH + 1)).is_err());
    assert!(Filter::parse(&nested(4000)).is_err());
    let nots = |depth: usize| format!("{}pid=1", "!".repeat(depth));
    assert!(Filter::parse(&nots(MAX_DEPTH)).is_ok());
    assert!(Filter::parse(&nots(8000)).is_err());
    let tests = |count: usize| vec!["pid=1"; count].join(" ");
    assert!(Filter::parse(&tests(MAX_TESTS)).is_ok());
    assert!(Filter::parse(&tests(MAX_TESTS + 1)).is_err());
    let list = |count: usize| format!("pid in ({})", vec!["1"; count].join(","));
    assert!(Filter::parse(&list(MAX_VALUES)).is_ok());
    assert!(Filter::parse(&list(MAX_VALUES + 1)).is_err());
    assert!(Filter::parse(&" ".repeat(MAX_LENGTH)).is_ok());
    assert!(Filter::parse(&" ".repeat(MAX_LENGTH + 1)).is_err());
}

#[test]
fn containers_have_no_fields_but_their_labels() {
    for (text, place, answer) in [
        (
            "namespace=shop pid=1",
            "pid",
            "`pid` is told of events: there are namespace, workload_kind, workload, pod, container here",
        ),
        ("namspace=x", "namspace", "there is no field `namspace`; did you mean `namespace`?"),
        ("tcp", "tcp", "there is no field `tcp`"),
        ("pod~(", "(", "a value is expected, not `(`"),
    ] {
        let error = Filter::of_containers(text).unwrap_err();
        assert_eq!((&text[error.span.clone()], &*error.to_string()), (place, answer));
    }
}
