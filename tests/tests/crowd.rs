//! Many readers at once, and many who only take up room.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use integration_tests::{
    Agent, Cgroup, Options, Workload, http,
    kernel::anonymous_memory,
    limits::raise_open_files,
    require_kernel,
    wait::{PATIENCE, fewer, wait_until},
};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const CLOSES: &str = "podwitness_tcp_closes_total";
const CONNECTIONS: &str = "podwitness_http_connections_total";

/// What a reader got up to the end of a process, and what it was told to have missed.
fn read_to_the_exit(stream: BufReader<TcpStream>) -> (u64, u64) {
    let (mut got, mut missed) = (0, 0);
    for line in stream.lines() {
        let line = line.expect("a line");
        // Two hundred parsers would be what is measured; only notices are parsed.
        if !line.contains(r#""kind":"notice."#) {
            got += 1;
            if line.contains(r#""kind":"process.exit""#) {
                return (got, missed);
            }
            continue;
        }
        let notice: Value = serde_json::from_str(&line).expect("JSON");
        match notice["kind"].as_str() {
            Some("notice.lagged") => missed += notice["lost"].as_u64().expect("a number"),
            Some("notice.heartbeat") => {}
            _ => panic!("{notice}"),
        }
    }
    panic!("the stream ended after {got} events and {missed} missed");
}

/// Each of 200 readers gets every event of a container, or is told how many it has missed: the sum is exact.
#[test]
fn two_hundred_readers_account_for_every_event() {
    require_kernel!();
    const READERS: usize = 200;
    let count = fewer(1000);
    let agent = Agent::start(
        Options::default().flag("debug-clients", "200").flag("events-rate", "0").flag("debug-buffer", "1024"),
    );
    let cgroup = Cgroup::new("crowd");
    let path = format!("/v1/events?kind=tcp,process&workload={}", http::encode(cgroup.path()));
    let before = anonymous_memory(agent.pid());
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (status, _, body) = http::open(agent.debug, &path, "application/x-ndjson").unwrap();
            assert_eq!(status, 200);
            thread::spawn(move || read_to_the_exit(body))
        })
        .collect();
    let outcomes = agent.scrape().outcomes("tcp");
    let (workload, _) = Workload::run(&["loopback", "--count", &count.to_string()], &cgroup);
    agent.wait_count(CLOSES, &[("workload", cgroup.path())], 2 * count);
    // All of the connections are booked: the end of this process comes after them.
    let (marker, _) = Workload::run(&["spawn", "--count", "1"], &cgroup);
    let mut peak = 0;
    wait_until(PATIENCE * 3, "all have read to the end", || {
        peak = peak.max(anonymous_memory(agent.pid()));
        readers.iter().all(thread::JoinHandle::is_finished)
    });
    let all: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("a reader")).collect();
    // A connection has two ends, which open and close; a process starts and exits.
    let expected = 4 * count + 2;
    for (got, missed) in &all {
        assert_eq!(got + missed, expected, "{got} read, {missed} missed");
    }
    let after = agent.scrape();
    assert_eq!(after.outcomes("tcp").lost, outcomes.lost, "nobody holds up the reader of the rings");
    let told: u64 = all.iter().map(|(_, missed)| missed).sum();
    assert_eq!(after.count("podwitness_live_events_total", &[("outcome", "lost")]), told);
    // 200 queues of 1,024 entries, and events that are shared.
    assert!(peak < before + 32 * MIB, "{before} bytes before, {peak} at most");
    eprintln!(
        "{READERS} readers, {expected} events each, {told} missed and told; {before} B before, {peak} B at most"
    );
    for helper in [workload, marker] {
        helper.finish();
    }
}

/// A client that asks, or begins to, and never reads.
fn slow_client(address: SocketAddr, is_whole: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let end = if is_whole { "\r\n" } else { "X-Half: " };
    // Who was turned away may have been reset by now.
    let _ = write!(stream, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{end}");
    stream
}

/// Ten thousand clients that don't read: those that find no place are refused and counted, the others take what their
/// queues may hold, and nobody else notices.
#[test]
fn ten_thousand_slow_clients_harm_nobody() {
    require_kernel!();
    let files = raise_open_files();
    let count = fewer(10_000).min(files.saturating_sub(300) as u64);
    if count < 10_000 {
        eprintln!("{count} clients: this process may have no more than {files} open files");
    }
    let agent = Agent::start(Options::default().flag("events-rate", "0"));
    let cgroup = Cgroup::new("slow");
    let of = |outcome| [("listener", "debug"), ("outcome", outcome)];
    let before = anonymous_memory(agent.pid());
    let mut clients = Vec::new();
    for number in 0..count {
        // Of the first 80 as many ask as may read; the others begin to.
        clients.push(slow_client(agent.debug, number % 5 != 0));
        if number % 100 == 0 {
            // Each scrape is answered; the harness fails otherwise.
            agent.scrape();
        }
    }
    // More than the queues of those hold that were let in.
    let (workload, _) = Workload::run(&["loopback", "--count", "2000"], &cgroup);
    agent.wait_count(CLOSES, &[("workload", cgroup.path())], 4000);
    wait_until(PATIENCE, "every connection was looked at", || {
        let metrics = agent.scrape();
        metrics.count(CONNECTIONS, &of("admitted")) + metrics.count(CONNECTIONS, &of("refused")) == count
    });
    let metrics = agent.scrape();
    let admitted = metrics.count(CONNECTIONS, &of("admitted"));
    let silent = metrics.count("podwitness_http_connections_silent_total", &[("listener", "debug")]);
    let displaced = metrics.count("podwitness_http_connections_displaced_total", &[("listener", "debug")]);
    let open = metrics.sum("podwitness_http_connections_open", &[("listener", "debug")]);
    // 64 readers and 16 others; a place that a silent one had to give up, or one that is answered and idle, is taken by
    // the next one.
    assert!(
        open <= 80.0 && admitted <= 80 + silent + displaced,
        "{open} open, {admitted} admitted, {silent} given up, {displaced} displaced"
    );
    assert_eq!(metrics.sum("podwitness_live_clients", &[]), 64.0, "who asks in time becomes a reader");
    let after = anonymous_memory(agent.pid());
    assert!(after < before + 16 * MIB, "{before} bytes before, {after} with {count} slow clients");
    eprintln!("{count} clients, {admitted} admitted, {silent} given up; {before} B before, {after} B after");
    workload.finish();

    drop(clients);
    wait_until(PATIENCE, "there is room again", || {
        http::get(agent.debug, "/healthz").is_ok_and(|told| told.status == 200)
    });
    let tail = agent.tail_of(&cgroup);
    let (workload, _) = Workload::run(&["loopback", "--count", "1"], &cgroup);
    tail.wait_of("tcp.close", cgroup.path(), 2);
    workload.finish();
}
