use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{BATCH, HOLD, Hub, Line, Subscription, TooManyClients};
use crate::{
    filter::Filter,
    identity::{Labels, Renamed},
    live::{Start, testing::exec},
};

fn parse(lines: Vec<Line>) -> Vec<Value> {
    let parse = |line: Line| {
        let json = &line.json;
        assert!(json.ends_with(b"\n") && json.iter().filter(|byte| **byte == b'\n').count() == 1);
        let value: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(value["id"].as_str(), line.id.map(|id| id.to_string()).as_deref());
        value
    };
    lines.into_iter().map(parse).collect()
}

fn drain(subscription: &mut Subscription) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some(lines) = subscription.try_next() {
        all.extend(parse(lines));
    }
    all
}

fn everything() -> Filter {
    Filter::default()
}

#[test]
fn an_event_is_a_line_as_serde_gives_it() {
    let hub = Arc::new(Hub::new(8, 1));
    let mut subscription = hub.subscribe(everything()).unwrap();
    hub.publish(exec(7, "sh"));
    let lines = subscription.try_next().unwrap();
    let expected = concat!(
        r#"{"time":"2026-01-02T03:04:05.678Z","kind":"process.exec","namespace":"shop","workload_kind":"","#,
        r#""workload":"","pod":"cart-1","container":"","pid":7,"tid":7,"comm":"sh","ppid":1,"#,
        r#""executable":"/bin/sh","id":""#,
    );
    let id = lines[0].id.unwrap().to_string();
    assert_eq!(lines[0].json, format!("{expected}{id}\"}}\n"));
    assert!(lines.len() == 1 && id.ends_with("-2"), "{id}");
    assert!(subscription.try_next().is_none());
    assert_eq!((hub.events_sent(), hub.lost_to_slow_readers()), (1, 0));
}

#[test]
fn a_hostile_name_can_neither_break_a_line_nor_command_a_terminal() {
    let hub = Arc::new(Hub::new(8, 1));
    let mut subscription = hub.subscribe(everything()).unwrap();
    let comm = "\u{1b}]0;x\u{7}\n{\"\u{9b}\u{202e}";
    hub.publish(exec(7, comm));
    let lines = subscription.try_next().unwrap();
    assert!(lines[0].json.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{:?}", lines[0].json);
    assert_eq!(parse(lines)[0]["comm"], comm);
}

#[test]
fn readers_share_one_line() {
    let hub = Arc::new(Hub::new(8, 2));
    let (mut one, mut two) = (hub.subscribe(everything()).unwrap(), hub.subscribe(everything()).unwrap());
    hub.publish(exec(7, "sh"));
    let (one, two) = (one.try_next().unwrap(), two.try_next().unwrap());
    assert_eq!(one[0].json.as_ptr(), two[0].json.as_ptr());
    assert_eq!(hub.events_sent(), 2);
}

#[test]
fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
    let hub = Arc::new(Hub::new(4, 2));
    let mut slow = hub.subscribe(everything()).unwrap();
    let mut narrow = hub.subscribe(Filter::parse("pid=1").unwrap()).unwrap();
    for pid in 1..=10 {
        hub.publish(exec(pid, "sh"));
    }
    let lines = drain(&mut slow);
    assert_eq!((&lines[0]["kind"], &lines[0]["lost"]), (&"notice.lagged".into(), &6.into()));
    let pids: Vec<_> = lines[1..].iter().map(|line| line["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, [7, 8, 9, 10]);
    assert_eq!(drain(&mut narrow)[0]["pid"], 1, "what a filter refuses takes no room");
    assert_eq!((hub.events_sent(), hub.lost_to_slow_readers()), (5, 6));

    hub.publish(exec(11, "sh"));
    let lines = drain(&mut slow);
    assert_eq!((lines.len(), &lines[0]["pid"]), (1, &11.into()), "it is told once");
}

#[test]
fn loss_in_the_kernel_is_told_in_its_place_whatever_the_filter() {
    let hub = Arc::new(Hub::new(8, 1));
    let mut subscription = hub.subscribe(Filter::parse("kind=process").unwrap()).unwrap();
    hub.publish(exec(1, "sh"));
    hub.publish_loss("tcp", 123, 4);
    hub.publish_loss("oom", 0, 0);
    hub.publish(exec(2, "sh"));
    let lines = drain(&mut subscription);
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["process.exec", "notice.lost", "notice.throttled", "process.exec"]);
    assert_eq!((&lines[1]["sensor"], &lines[1]["lost"]), (&"tcp".into(), &123.into()));
    assert_eq!((&lines[2]["sensor"], &lines[2]["throttled"]), (&"tcp".into(), &4.into()));
}

#[test]
fn a_slow_reader_still_learns_of_loss_in_the_kernel() {
    let hub = Arc::new(Hub::new(2, 1));
    let mut subscription = hub.subscribe(everything()).unwrap();
    hub.publish_loss("tcp", 5, 0);
    hub.publish(exec(1, "sh"));
    hub.publish_loss("tcp", 6, 1);
    for pid in 2..=3 {
        hub.publish(exec(pid, "sh"));
    }
    let lines = drain(&mut subscription);
    let summary: Vec<_> =
        lines.iter().map(|line| (line["kind"].as_str().unwrap(), line["lost"].as_u64())).collect();
    let expected = [
        ("notice.lagged", Some(1)),
        ("notice.lost", Some(11)),
        ("notice.throttled", None),
        ("process.exec", None),
        ("process.exec", None),
    ];
    assert_eq!(summary, expected);
}

#[test]
fn places_are_counted_and_freed() {
    let hub = Arc::new(Hub::new(8, 1));
    let watchers = hub.watchers();
    assert!(!hub.has_watchers() && *watchers.borrow() == 0);
    let only = hub.subscribe(everything()).unwrap();
    assert!(hub.has_watchers() && *watchers.borrow() == 1);
    assert_eq!(hub.subscribe(everything()).err(), Some(TooManyClients { max_clients: 1 }));
    assert_eq!((hub.clients(), hub.clients_refused()), (1, 1));
    drop(only);
    assert!(!hub.has_watchers() && *watchers.borrow() == 0);
    assert!(hub.subscribe(everything()).is_ok());
}

#[tokio::test]
async fn a_waiting_reader_is_woken_from_a_plain_thread_and_misses_nothing() {
    const EVENTS: usize = 10_000;
    let hub = Arc::new(Hub::new(EVENTS, 1));
    let mut subscription = hub.subscribe(everything()).unwrap();
    let publisher = thread::spawn({
        let hub = Arc::clone(&hub);
        move || (0..EVENTS).for_each(|pid| hub.publish(exec(pid as u32, "sh")))
    });
    let mut pids = Vec::new();
    while pids.len() < EVENTS {
        let lines = tokio::time::timeout(Duration::from_secs(30), subscription.next()).await.unwrap();
        assert!(lines.len() <= BATCH);
        pids.extend(parse(lines).iter().map(|line| line["pid"].as_u64().unwrap() as usize));
    }
    publisher.join().unwrap();
    assert!(pids.into_iter().eq(0..EVENTS));
}

fn remembering(replay: usize) -> Arc<Hub> {
    Arc::new(Hub::new(8, 4).remembering(replay, 4))
}

fn pids(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["pid"].as_u64()).collect()
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let hub = remembering(8);
    let mut first = hub.subscribe(everything()).unwrap();
    (1..=2).for_each(|pid| hub.publish(exec(pid, "sh")));
    let seen = first.try_next().unwrap().last().unwrap().id.unwrap();
    drop(first);
    // While nobody reads.
    (3..=4).for_each(|pid| hub.publish(exec(pid, "sh")));
    let filter = Filter::parse("pid!=3").unwrap();
    let mut again = hub.subscribe_from(everything(), Start::After(seen), false).unwrap();
    let mut narrow = hub.subscribe_from(filter, Start::After(seen), false).unwrap();
    hub.publish(exec(5, "sh"));
    assert_eq!(pids(&drain(&mut again)), [3, 4, 5]);
    assert_eq!(pids(&drain(&mut narrow)), [4, 5]);
    assert!(drain(&mut hub.subscribe(everything()).unwrap()).is_empty(), "who doesn't ask gets the present");
}

#[test]
fn what_is_not_kept_any_more_is_told() {
    let hub = remembering(3);
    let mut first = hub.subscribe(everything()).unwrap();
    hub.publish(exec(1, "sh"));
    let seen = first.try_next().unwrap()[0].id.unwrap();
    (2..=6).for_each(|pid| hub.publish(exec(pid, "sh")));
    let lines = drain(&mut hub.subscribe_from(everything(), Start::After(seen), false).unwrap());
    assert_eq!((&lines[0]["kind"], &lines[0]["lost"]), (&"notice.gap".into(), &2.into()));
    assert_eq!(pids(&lines), [4, 5, 6]);
    assert_eq!(hub.replay(), (3, 3));

    // An agent before this one.
    let stranger = "1-1".parse().unwrap();
    let lines = drain(&mut hub.subscribe_from(everything(), Start::After(stranger), false).unwrap());
    assert_eq!((kinds(&lines)[0], &lines[0]["lost"]), ("notice.gap", &Value::Null));
    assert_eq!(pids(&lines), [4, 5, 6]);
}

#[test]
fn a_moment_ago_can_be_asked_for() {
    let hub = remembering(3);
    let _reader = hub.subscribe(everything()).unwrap();
    (1..=2).for_each(|pid| hub.publish(exec(pid, "sh")));
    // The events of the tests are older than the hub: it can't vouch for what it didn't see.
    let since = |time: &str| Start::Since(time.parse().unwrap());
    let lines = drain(&mut hub.subscribe_from(everything(), since("2026-01-02T03:04:05Z"), false).unwrap());
    assert_eq!(kinds(&lines), ["notice.gap", "process.exec", "process.exec"]);
    let now = Start::Since(jiff::Timestamp::now());
    assert!(drain(&mut hub.subscribe_from(everything(), now, false).unwrap()).is_empty());
}

#[test]
fn nothing_is_kept_where_nobody_reads() {
    let hub = remembering(8);
    assert!(!hub.wants_observations());
    hub.publish(exec(1, "sh"));
    let mut first = hub.subscribe(everything()).unwrap();
    hub.publish(exec(2, "sh"));
    let seen = first.try_next().unwrap()[0].id.unwrap();
    drop(first);
    assert!(hub.wants_observations(), "it may come back");
    assert!(hub.is_over(Instant::now() + HOLD));
    assert!(!hub.wants_observations() && hub.replay().0 == 0);
    hub.publish(exec(3, "sh"));
    let lines = drain(&mut hub.subscribe_from(everything(), Start::After(seen), false).unwrap());
    assert_eq!((kinds(&lines), &lines[0]["lost"]), (vec!["notice.gap"], &Value::Null));

    let nothing = remembering(0);
    let _reader = nothing.subscribe(everything()).unwrap();
    nothing.publish(exec(1, "sh"));
    assert_eq!(nothing.replay(), (0, 0));
}

#[test]
fn what_is_kept_goes_with_the_name() {
    let hub = remembering(8);
    let mut first = hub.subscribe(everything()).unwrap();
    (1..=2).for_each(|pid| hub.publish(exec(pid, "sh")));
    let from = Arc::clone(&exec(0, "sh").labels);
    let named = |pod: &str| Arc::new(Labels { pod: pod.into(), ..Labels::clone(&from) });
    let before = drain(&mut first);
    hub.rename(&[
        Renamed { from: named("web-0"), to: named("other-0") },
        Renamed { from: Arc::clone(&from), to: named("web-0") },
    ]);
    hub.publish(exec(3, "sh"));
    let of = |pod: &str| {
        let filter = Filter::parse(&format!("pod={pod}")).unwrap();
        let from = Start::Since(exec(0, "sh").time);
        let lines = drain(&mut hub.subscribe_from(filter, from, false).unwrap());
        lines.into_iter().filter(|line| line["id"].is_string()).collect::<Vec<_>>()
    };
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&of("web-0")), ids(&before));
    assert_eq!((pids(&of("cart-1")), of("other-0").len()), (vec![3], 0));
}

#[test]
fn a_long_backlog_comes_in_parts() {
    let hub = remembering(1000);
    let mut first = hub.subscribe(everything()).unwrap();
    hub.publish(exec(0, "sh"));
    let seen = first.try_next().unwrap()[0].id.unwrap();
    (1..=500).for_each(|pid| hub.publish(exec(pid, "sh")));
    let mut again = hub.subscribe_from(everything(), Start::After(seen), false).unwrap();
    assert_eq!(again.try_next().unwrap().len(), BATCH);
    assert_eq!(drain(&mut again).len(), 500 - BATCH);
}

#[test]
fn who_asks_for_calls_is_told_that_they_cannot_be_watched() {
    let hub = Arc::new(Hub::new(8, 3));
    let mut early = hub.subscribe(Filter::parse("syscall=read").unwrap()).unwrap();
    let mut other = hub.subscribe(everything()).unwrap();
    hub.set_unwatched(Some("it is off"));
    let mut late = hub.subscribe(Filter::parse("syscall=read").unwrap()).unwrap();
    for reader in [&mut early, &mut late] {
        let lines = drain(reader);
        let said: Vec<_> = lines.iter().map(|line| (&line["kind"], &line["sensor"])).collect();
        assert_eq!(said, [(&"notice.unwatched".into(), &"calls".into())]);
        assert!(lines[0]["message"].as_str().unwrap().contains("it is off"));
        hub.set_unwatched(Some("it is off"));
        assert!(drain(reader).is_empty(), "it is told once");
    }
    assert!(drain(&mut other).is_empty());
    hub.set_unwatched(None);
    assert!(drain(&mut early).is_empty());
    hub.set_unwatched(Some("it is off again"));
    assert_eq!(drain(&mut early).len(), 1);
}
