//! The stream of live events, as a reader meets it.

use std::{env, fs, io::BufRead};

use integration_tests::{
    Agent, Cgroup, Options, Tail, Workload, http, require_kernel,
    wait::{PATIENCE, unique, wait_until},
};
use serde_json::Value;

const CONNECTS: &str = "podwitness_tcp_connects_total";

/// Where two readers look at the same, each sees what it asked for and nothing else.
#[test]
fn events_are_filtered_by_kind_and_container() {
    require_kernel!();
    let agent = Agent::start(Options::default().flag("debug-buffer", "1000000"));
    let (mine, other) = (Cgroup::new("mine"), Cgroup::new("other"));
    let all = agent.tail("");
    let connects = agent.tail(&format!("?kind=tcp.connect&workload={}", http::encode(mine.path())));
    let tcp = agent.tail(&format!("?kind=tcp&workload={}", http::encode(mine.path())));
    for cgroup in [&mine, &other] {
        let (workload, _) = Workload::run(&["loopback", "--count", "10"], cgroup);
        workload.finish();
    }
    let (marker, _) = Workload::run(&["spawn", "--count", "1"], &other);
    all.wait_of("process.exec", other.path(), 1);
    connects.wait_of("tcp.connect", mine.path(), 10);
    tcp.wait_of("tcp.close", mine.path(), 20);

    let is_event = |event: &Value| !event["kind"].as_str().unwrap().starts_with("notice.");
    let events = connects.events(is_event);
    assert_eq!(events.len(), 10, "{events:#?}");
    assert!(events.iter().all(|event| event["kind"] == "tcp.connect" && event["workload"] == mine.path()));
    assert_eq!(tcp.events(is_event).len(), 40);
    // Without a filter there is all of it.
    assert_eq!(all.of("tcp.connect", other.path()).len(), 10);
    assert_eq!(all.of("tcp.connect", mine.path()).len(), 10);
    marker.finish();
}

#[test]
fn a_filter_that_makes_no_sense_is_refused() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    for query in ["?kind=tcp.konnect", "?colour=red", "?pid=one"] {
        let response = http::get(agent.debug, &format!("/v1/events{query}")).unwrap();
        assert_eq!(response.status, 400, "{query}: {}", response.body);
        let value = query.split('=').next_back().unwrap();
        let key = query.trim_start_matches('?').split('=').next().unwrap();
        assert!(response.body.contains(value) || response.body.contains(key), "{query}: {}", response.body);
    }
}

/// A reader that does not read loses events, and is told how many; the agent and other readers don't notice.
#[test]
fn a_slow_reader_is_told_what_it_missed_and_slows_nobody() {
    require_kernel!();
    const CONNECTIONS: u64 = 20_000;
    let agent = Agent::start(Options::default().flag("events-rate", "0").flag("debug-buffer", "100000"));
    let cgroup = Cgroup::new("slow");
    let path = format!("/v1/events?workload={}", http::encode(cgroup.path()));
    let fast = Tail::open(agent.debug, &path).unwrap();
    let (_, _, slow) = http::open(agent.debug, &path, "application/x-ndjson").unwrap();
    let before = agent.scrape().outcomes("tcp");
    // Twice: what fits into the buffers of both ends of the connection is not yet missed.
    let count = (CONNECTIONS / 2).to_string();
    let mut workloads = Vec::new();
    for _ in 0..2 {
        workloads.push(Workload::run(&["loopback", "--count", &count], &cgroup).0);
    }
    agent.wait_count(CONNECTS, &[("workload", cgroup.path())], CONNECTIONS);
    let after = agent.scrape().outcomes("tcp");
    assert_eq!(after.lost, before.lost, "the slow reader holds up the agent");
    let closes = CONNECTIONS as usize * 2;
    assert_eq!(fast.wait_of("tcp.close", cgroup.path(), closes).len(), closes);

    // Now it reads: events, a notice about those that are missing, and after that the present.
    let mut read = 0;
    let mut missed = 0;
    for line in slow.lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match event["kind"].as_str().unwrap() {
            "notice.lagged" => missed += event["lost"].as_u64().unwrap(),
            kind if kind.starts_with("tcp.") => read += 1,
            _ => {}
        }
        if read + missed >= CONNECTIONS * 4 {
            break;
        }
    }
    assert_eq!(read + missed, CONNECTIONS * 4, "{read} read, {missed} missed");
    for workload in workloads {
        workload.finish();
    }
}

/// One reader more than allowed is turned away, and let in when another has left.
#[test]
fn readers_are_bounded() {
    require_kernel!();
    let agent = Agent::start(Options::default().flag("debug-clients", "2"));
    let first = agent.tail("");
    let _second = agent.tail("");
    let response = http::get(agent.debug, "/v1/events").unwrap();
    assert_eq!(response.status, 503, "{}", response.body);
    drop(first);
    wait_until(PATIENCE, "there is room for another reader", || {
        Tail::open(agent.debug, "/v1/events").is_ok()
    });
}

/// The rare ring, in which ends are, is read before the other one, in which thousands of events may still wait.
#[test]
fn how_a_process_ends_is_told_after_what_it_did() {
    require_kernel!();
    const CONNECTIONS: u64 = 6000;
    let file = env::temp_dir().join(format!("podwitness-order-{}", unique()));
    // While nobody watches, the reader lets a burst come together.
    let options = Options::default().recording(&file).flag("ring-size", "16MiB").flag("ring-poll-max", "1s");
    let mut agent = Agent::start(options);
    let cgroup = Cgroup::new("order");
    let (workload, _) = Workload::run(&["loopback", "--count", &CONNECTIONS.to_string()], &cgroup);
    let pid = workload.pid();
    workload.finish();
    agent.wait_count("podwitness_process_exits_total", &[("workload", cgroup.path())], 1);
    agent.stop();
    let recording = fs::read_to_string(&file).unwrap();
    let mine: Vec<Value> = recording
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["pid"] == pid)
        .collect();
    let at = mine.iter().position(|event| event["kind"] == "process.exit").expect("its end");
    let end = mine[at]["boot_ns"].as_u64();
    let before = mine[at..].iter().filter(|event| event["boot_ns"].as_u64() < end).count();
    assert_eq!(before, 0, "of {} events are told after the end that they came before", mine.len());
    assert!(at as u64 >= CONNECTIONS * 2, "{at}");
    fs::remove_file(&file).unwrap();
}
