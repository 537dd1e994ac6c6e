//! Differences of answers.

use super::*;
use crate::top::{
    columns::{plain, rate},
    rates::{Call, Rates, Watch},
};

fn rates(watch: &Watch, pod: &str) -> Option<Rates> {
    watch.rows().iter().find(|row| row.labels.pod == pod).unwrap().rates
}

fn syscalls(watch: &Watch, pod: &str) -> Option<f64> {
    rates(watch, pod).map(|rates| rates.syscalls)
}

fn calling(pod: &str, syscalls: u64) -> Value {
    container(pod, json!({"syscalls": syscalls}))
}

#[test]
fn two_answers_make_rates() {
    let mut watch = Watch::default();
    let figures = |calls: u64, more: u64| {
        json!({
            "syscalls": calls, "syscall_errors": more, "tcp_connects": 10 * more, "tcp_connect_failures": more,
            "tcp_accepts": more, "tcp_closes": 2 * more, "processes_started": 4 * more, "process_exits": {},
        })
    };
    assert!(watch.take(look(10, vec![container("a", figures(100, 1))])));
    assert_eq!(rates(&watch, "a"), None);
    assert!(watch.take(look(14, vec![container("a", figures(102, 3))])));
    let expected = Rates {
        syscalls: 0.5,
        syscall_errors: 0.5,
        connects: 5.0,
        connect_failures: 0.5,
        accepts: 0.5,
        closes: 1.0,
        starts: 2.0,
        ..Rates::default()
    };
    assert_eq!(rates(&watch, "a"), Some(expected));
    // The same answer, given again within half a second.
    assert!(!watch.take(look(14, vec![container("a", figures(102, 3))])));
    assert_eq!(rates(&watch, "a"), Some(expected));
}

#[test]
fn who_is_new_has_counted_from_nothing() {
    let mut watch = Watch::default();
    watch.take(look(0, vec![calling("a", 100)]));
    watch.take(look(2, vec![calling("a", 100), calling("b", 50)]));
    assert_eq!((syscalls(&watch, "a"), syscalls(&watch, "b")), (Some(0.0), Some(25.0)));
}

/// One that gets a better name takes all that it has counted along.
#[test]
fn who_comes_while_another_goes_may_be_the_same() {
    let mut watch = Watch::default();
    watch.take(look(0, vec![calling("", 1_000_000), calling("b", 1)]));
    watch.take(look(2, vec![calling("web-0", 1_000_010), calling("b", 3)]));
    assert_eq!((syscalls(&watch, "web-0"), syscalls(&watch, "b")), (None, Some(1.0)));
    watch.take(look(4, vec![calling("web-0", 1_000_020), calling("b", 3)]));
    assert_eq!(syscalls(&watch, "web-0"), Some(5.0));
}

#[test]
fn who_vanishes_is_not_shown_and_who_comes_back_begins_anew() {
    let mut watch = Watch::default();
    watch.take(look(0, vec![calling("a", 100), calling("b", 1)]));
    watch.take(look(2, vec![calling("b", 1)]));
    assert_eq!(watch.rows().len(), 1);
    watch.take(look(4, vec![calling("a", 10), calling("b", 1)]));
    assert_eq!(syscalls(&watch, "a"), Some(5.0));
    // Its counters were closed and begun anew between two answers.
    watch.take(look(6, vec![calling("a", 4), calling("b", 1)]));
    assert_eq!(syscalls(&watch, "a"), Some(2.0));
}

#[test]
fn an_agent_that_is_started_anew_counts_from_nothing() {
    let mut watch = Watch::default();
    watch.take(look_of(0, 100, vec![calling("a", 100)]));
    // More than before: that alone would not tell.
    watch.take(look_of(106, 110, vec![calling("a", 400)]));
    assert_eq!(syscalls(&watch, "a"), Some(100.0));
    watch.take(look_of(106, 112, vec![calling("a", 402)]));
    assert_eq!(syscalls(&watch, "a"), Some(1.0));
}

#[test]
fn a_clock_that_was_set_back_gives_no_rate() {
    let mut watch = Watch::default();
    watch.take(look(100, vec![calling("a", 100)]));
    watch.take(look(50, vec![calling("a", 200)]));
    assert_eq!(rates(&watch, "a"), None);
    watch.take(look(52, vec![calling("a", 202)]));
    assert_eq!(syscalls(&watch, "a"), Some(1.0));
}

#[test]
fn calls_stand_by_what_they_do_now() {
    let mut watch = Watch::default();
    let one = |calls: Value, all: u64| {
        let mut one = calling("a", all);
        one["calls"] = calls;
        one
    };
    watch.take(look(0, vec![one(json!({"read": 1000, "futex": 10}), 1010)]));
    watch.take(look(2, vec![one(json!({"read": 1002, "futex": 30, "openat": 4}), 1036)]));
    let call = |name: &str, total, rate| Call { name: name.into(), total, rate: Some(rate) };
    let expected = [call("futex", 30, 10.0), call("openat", 4, 2.0), call("read", 1002, 1.0)];
    assert_eq!(watch.rows()[0].calls, expected);
    assert_eq!(watch.rows()[0].busiest().unwrap().name, "futex");
    // Not all of its calls were listed: how often this one was made before isn't known.
    watch.take(look(4, vec![one(json!({"read": 1002}), 5000)]));
    watch.take(look(6, vec![one(json!({"read": 1002, "write": 3000}), 5000)]));
    let write = watch.rows()[0].calls.iter().find(|call| call.name == "write").unwrap();
    assert_eq!(write.rate, None);
    assert_eq!(watch.rows()[0].busiest(), None);
}

#[test]
fn what_an_older_agent_does_not_tell_is_absent() {
    let told = json!({"namespace": "n", "figures": {"syscalls": 1}});
    let mut watch = Watch::default();
    watch.take(look(0, vec![told]));
    let row = &watch.rows()[0];
    assert_eq!((row.memory, row.alive, row.figures.syscalls), (None, false, 1));
}

#[test]
fn plain_text_has_every_column_and_numbers_as_they_are() {
    let mut app = app("calls");
    busy(&mut app);
    let text = plain(&app.rows());
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0].join(" "),
        "CONTAINER CALLS/S ERRORS/S CONN/S FAILED/S ACCEPT/S SENT/S RECV/S RTT MEMORY HEADROOM DEATHS OOM RESTARTS BUSIEST CALL"
    );
    let busy = "shop/busy/app 500.0 0.0 1.0 0.0 0.0 0.0 0.0 - 41943040 25165824 0 0 4 read 500.0";
    assert_eq!(lines[1].join(" "), busy);
    assert_eq!(lines[2].join(" "), "shop/idle/app 0.0 0.0 0.0 0.0 0.0 0.0 0.0 - - - 3 0 - -");
}

#[test]
fn what_nobody_looks_at_is_not_known() {
    let mut app = app("calls");
    for second in [0, 2] {
        let mut look = look(second, vec![container("a", json!({"tcp_connects": second}))]);
        look.status.sensors = serde_json::from_value(json!({
            "syscalls": {"state": "unsupported"}, "process": {"state": "disabled"}, "oom": {"state": "disabled"},
            "tcp": {"state": "degraded"},
        }))
        .unwrap();
        app.hear(looked(look));
    }
    let text = plain(&app.rows());
    let line = text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(line, "shop/a/app - - 1.0 0.0 0.0 0.0 0.0 - - - - - - -");
}

#[test]
fn bytes_and_round_trips_are_those_of_closed_connections() {
    let mut app = app("sent");
    let at = |second: i64, bytes: u64, count: u64, seconds: f64| {
        let told = json!({
            "tcp_sent_bytes": bytes, "tcp_received_bytes": 2 * bytes, "tcp_retransmits": 2 * count, "tcp_rtt": {"count": count, "seconds": seconds},
        });
        looked(look(second, vec![container("a", told), container("b", json!({}))]))
    };
    app.hear(at(0, 1000, 1, 1.0));
    app.hear(at(2, 5096, 5, 1.008));
    let rates = app.rows()[0].rates.unwrap();
    assert_eq!((rates.sent, rates.received, rates.retransmits), (2048.0, 4096.0, 4.0));
    let text = plain(&app.rows());
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][6..9], ["SENT/S", "RECV/S", "RTT"]);
    assert_eq!(
        (&lines[1][6..9], &lines[2][6..9]),
        (&["2048.0", "4096.0", "0.002000"][..], &["0.0", "0.0", "-"][..])
    );
    // No round trip was measured meanwhile.
    app.hear(at(4, 5096, 5, 1.008));
    assert_eq!(app.rows()[0].rates.unwrap().rtt, None);
}

#[test]
fn rates_have_three_digits_or_so() {
    let cases = [
        (0.0, "0"),
        (0.01, "<0.1"),
        (0.3, "0.3"),
        (9.96, "10.0"),
        (1234.4, "1234"),
        (12_345.0, "12.3k"),
        (2.5e7, "25.0M"),
    ];
    for (value, expected) in cases {
        assert_eq!(rate(value), expected);
    }
}
