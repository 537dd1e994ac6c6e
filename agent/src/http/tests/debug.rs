use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    DEADLINE, Site,
    client::{Lines, get, request},
    wait_until,
};
use crate::{
    filter::Filter,
    http::{Connections, Debug, Gate, Health, Insight, serve_debug},
    live::{Hub, testing::exec},
};

/// Knows nothing of an agent.
pub(super) struct Nothing;

impl Insight for Nothing {
    fn containers(&self) -> Value {
        json!({"containers": []})
    }

    fn status(&self) -> Value {
        json!({"sensors": {}})
    }
}

pub(super) fn debug(hub: &Arc<Hub>) -> Debug {
    Debug {
        hub: Arc::clone(hub),
        health: Health::waiting_for("nothing"),
        insight: Arc::new(Nothing),
        gate: Gate::Loopback,
        tls: None,
        connections: Arc::new(Connections::default()),
    }
}

pub(super) fn site(buffer: usize, max_clients: usize) -> (Site, Arc<Hub>) {
    let hub = Arc::new(Hub::new(buffer, max_clients));
    let site = Site::new(|listener, shutdown| serve_debug(listener, debug(&hub), shutdown));
    (site, hub)
}

#[test]
fn a_reader_gets_what_its_filter_admits_line_by_line() {
    let (site, hub) = site(64, 2);
    let mut lines = Lines::open(site.address, "/v1/events?kind=process.*&pid=2,4&namespace=shop");
    let head = lines.head.to_ascii_lowercase();
    for header in ["content-type: application/x-ndjson", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(head.contains(header), "{head}");
    }
    for pid in 1..=3 {
        hub.publish(exec(pid, "sh"));
    }
    // Each is waited for before the next one is made: none is held back.
    assert_eq!(lines.next().unwrap()["pid"], 2);
    hub.publish_loss("tcp", 123, 0);
    let notice = lines.next().unwrap();
    assert_eq!((&notice["kind"], &notice["lost"]), (&"notice.lost".into(), &123.into()));
    hub.publish(exec(4, "sh"));
    assert_eq!(lines.next().unwrap()["pid"], 4);
    site.stop();
}

#[test]
fn a_query_that_is_no_filter_is_answered_with_what_is() {
    let (site, hub) = site(64, 2);
    let answer = get(site.address, "/v1/events?pods=x");
    assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/json")));
    let json = answer.json();
    assert_eq!((&json["error"], &json["key"]), (&"there is no filter `pods`".into(), &"pods".into()));
    assert!(json["allowed"].as_array().unwrap().contains(&"pod".into()));
    let json = get(site.address, "/v1/events?kind=tcp.open%1b%c2%9b").json();
    assert_eq!(json["key"], "kind");
    assert!(json["allowed"].as_array().unwrap().contains(&"tcp.connect".into()));
    for query in ["kind", "pid=x", "=", "&&pid=1,,2", "pod=a,,b"] {
        assert_eq!(get(site.address, &format!("/v1/events?{query}")).status, 400, "{query}");
    }
    assert_eq!(hub.clients_refused(), 0);
    site.stop();
}

#[test]
fn a_hostile_name_stays_within_its_line() {
    let (site, hub) = site(64, 1);
    let mut lines = Lines::open(site.address, "/v1/events");
    let comm = "\n\u{1b}[2J\u{9b}\u{202e}";
    hub.publish(exec(1, comm));
    let line = lines.next_raw().unwrap();
    assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{line:?}");
    assert_eq!(serde_json::from_slice::<Value>(&line).unwrap()["comm"], comm);
    site.stop();
}

#[test]
fn what_a_slow_reader_gets_and_what_it_is_told_to_have_lost_is_everything() {
    const EVENTS: u64 = 5000;
    let (site, hub) = site(2, 1);
    let mut lines = Lines::open(site.address, "/v1/events");
    (0..EVENTS).for_each(|pid| hub.publish(exec(pid as u32, "sh")));
    let (mut got, mut lost) = (0, 0);
    while got + lost < EVENTS {
        let line = lines.next().unwrap();
        match line["kind"].as_str().unwrap() {
            "process.exec" => got += 1,
            "notice.lagged" => lost += line["lost"].as_u64().unwrap(),
            kind => panic!("{kind}"),
        }
    }
    assert_eq!((got + lost, got, lost), (EVENTS, hub.events_sent(), hub.lost_to_slow_readers()));
    site.stop();
}

#[test]
fn places_are_limited_and_freed_when_a_reader_goes() {
    let (site, hub) = site(64, 1);
    let only = Lines::open(site.address, "/v1/events");
    let answer = get(site.address, "/v1/events");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")));
    assert!(answer.json()["error"].as_str().unwrap().starts_with("1 live readers"));
    assert_eq!((hub.clients(), hub.clients_refused()), (1, 1));
    drop(only);
    wait_until("the end of an idle reader", || hub.clients() == 0);
    drop(Lines::open(site.address, "/v1/events"));
    site.stop();
}

#[test]
fn strangers_pages_are_refused() {
    let (site, hub) = site(64, 1);
    let heads = [
        "GET /v1/events HTTP/1.1\r\nHost: evil.example\r\n",
        "GET /healthz HTTP/1.1\r\nHost: evil.example:9482\r\n",
        "GET / HTTP/1.1\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n",
        "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n",
    ];
    for head in heads {
        let answer = request(site.address, head);
        assert_eq!(answer.status, 403, "{head}");
        assert!(answer.body.starts_with("refused: "), "{}", answer.body);
    }
    assert_eq!(hub.clients(), 0);
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nOrigin: http://localhost:1\r\n", site.address);
    let index = request(site.address, &head);
    assert_eq!(index.status, 200);
    assert!(index.body.contains(&format!("curl -N 'http://{}/v1/events'", site.address)), "{}", index.body);
    assert_eq!(get(site.address, "/healthz").status, 200);
    assert_eq!(get(site.address, "/metrics").status, 404);
    site.stop();
}

#[test]
fn the_end_of_the_agent_is_the_last_line() {
    let (site, hub) = site(64, 2);
    let mut readers = [(); 2].map(|()| Lines::open(site.address, "/v1/events"));
    hub.publish(exec(1, "sh"));
    site.stop();
    for lines in &mut readers {
        assert_eq!(lines.next().unwrap()["pid"], 1);
        assert_eq!(lines.next().unwrap()["kind"], "notice.end");
        assert_eq!(lines.next(), None);
    }
    assert_eq!(hub.clients(), 0);
}

#[test]
fn a_reader_that_does_not_read_harms_nobody() {
    let (site, hub) = site(8, 2);
    let _stuck = Lines::open(site.address, "/v1/events");
    // More and more until nothing is taken any more, since every buffer on the way to the reader is full.
    let comm = "x".repeat(1 << 18);
    let (mut sent, mut quiet) = (0, 0);
    let deadline = Instant::now() + DEADLINE;
    while quiet < 100 || hub.lost_to_slow_readers() == 0 {
        assert!(Instant::now() < deadline);
        hub.publish(exec(1, &comm));
        thread::sleep(Duration::from_millis(1));
        quiet = if hub.events_sent() == sent { quiet + 1 } else { 0 };
        sent = hub.events_sent();
    }
    let mut other = Lines::open(site.address, "/v1/events");
    hub.publish(exec(2, "sh"));
    assert_eq!(other.next().unwrap()["pid"], 2);
    assert_eq!(hub.clients(), 2, "it may be as slow as it likes");
    // Neither does it hold up the end: Site::stop has a deadline.
    site.stop();
    assert_eq!(other.next().unwrap()["kind"], "notice.end");
    wait_until("the end of all readers", || hub.clients() == 0);
}

#[test]
fn a_browser_comes_back_where_it_was() {
    let hub = Arc::new(Hub::new(64, 2).remembering(64, 0));
    let site = Site::new(|listener, shutdown| serve_debug(listener, debug(&hub), shutdown));
    let mut lines = Lines::open(site.address, "/v1/events");
    (1..=3).for_each(|pid| hub.publish(exec(pid, "sh")));
    let first = lines.next().unwrap();
    let head = format!(
        "GET /v1/events?limit=2 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: {}\r\n",
        first["id"].as_str().unwrap()
    );
    let answer = request(site.address, &head);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let events: Vec<_> = answer.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let pids: Vec<_> =
        events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap()["pid"].clone()).collect();
    assert_eq!(pids, [2, 3]);
    site.stop();
}

#[test]
fn events_beyond_the_limit_are_not_sent() {
    let hub = Arc::new(Hub::new(64, 2).remembering(64, 0));
    let site = Site::new(|listener, shutdown| serve_debug(listener, debug(&hub), shutdown));
    let reader = hub.subscribe(Filter::default()).unwrap();
    (1..=30).for_each(|pid| hub.publish(exec(pid, "sh")));
    drop(reader);
    let answer = get(site.address, "/v1/events?since=2026-01-01T00:00:00Z&limit=1");
    let pids: Vec<_> = answer
        .body
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("pid").cloned())
        .collect();
    assert_eq!((pids, hub.events_sent()), (vec![Value::from(1)], 1));
    site.stop();
}

#[test]
fn a_mistake_in_a_filter_is_shown_in_its_place() {
    let (site, _hub) = site(64, 2);
    let answer = get(site.address, "/v1/events?filter=pid%3D1%20kind%3Dtcp.conect");
    assert_eq!(answer.status, 400);
    let json = answer.json();
    assert_eq!((&json["key"], &json["suggestion"]), (&"filter".into(), &"tcp.connect".into()));
    assert_eq!(json["span"], json!({"start": 11, "end": 21}));
    assert_eq!(json["pointer"], "pid=1 kind=tcp.conect\n           ^^^^^^^^^^");
    let same = get(site.address, "/v1/filter?filter=pid%3D1%20kind%3Dtcp.conect");
    assert_eq!((same.status, same.json()), (400, json));
    let good = get(site.address, "/v1/filter?filter=pid%3D1%20(errno)&kind=tcp.connect");
    let expected = json!({"filter": "pid=1 and errno and kind=tcp.connect", "kinds": ["tcp.connect"]});
    assert_eq!((good.status, good.json()), (200, expected));
    site.stop();
}

#[test]
fn the_state_and_the_page_are_there() {
    let (site, _hub) = site(64, 2);
    assert_eq!(get(site.address, "/v1/containers").json(), json!({"containers": []}));
    assert_eq!(get(site.address, "/v1/status").json(), json!({"sensors": {}}));
    let schema = get(site.address, "/v1/schema").json();
    assert!(schema["oneOf"].as_array().unwrap().iter().any(|line| line["title"] == "tcp.connect"));
    let page = request(site.address, "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,*/*;q=0.8\r\n");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(page.body.starts_with("<!doctype html>"));
    site.stop();
}
