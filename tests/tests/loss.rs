//! What happens when more comes than can be taken: every event that was seen is accounted for, and what was
//! lost is told to whoever watches.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use integration_tests::{
    Agent, Cgroup, Metrics, Options, Workload, agent, kernel,
    metrics::Outcomes,
    require_kernel,
    wait::{PATIENCE, fewer, wait_for, wait_until},
};

/// Every event on this machine is seen by every agent, so the tests of this file take turns: what one of them
/// causes would be in the numbers of the other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the sums of all sensors hold in one scrape, at least `tcp_seen` TCP events are in them, and
/// nothing changes any more for the TCP sensor.
#[track_caller]
fn settled(agent: &Agent, tcp_seen: u64) -> Metrics {
    let mut previous: Option<Outcomes> = None;
    wait_for(PATIENCE * 3, "seen = delivered + filtered + throttled + lost for every sensor", || {
        let metrics = agent.scrape();
        let tcp = metrics.outcomes("tcp");
        let balanced = agent::SENSORS.iter().all(|sensor| metrics.outcomes(sensor).balanced());
        // The scrape itself is a connection, which is seen: stillness means that nothing else is.
        let still = previous.replace(tcp).is_some_and(|before| tcp.seen - before.seen < 100);
        (balanced && still && tcp.seen >= tcp_seen).then_some(metrics)
    })
}

/// Connections opened, actively and passively, by the kernel's own count in this network namespace.
fn opened() -> u64 {
    let snmp = fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let counters = names.split(' ').zip(values.split(' '));
    let opens = counters.filter(|(name, _)| ["ActiveOpens", "PassiveOpens"].contains(name));
    opens.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

/// 250,000 connections of four events each while nobody empties a ring of one page.
#[test]
fn a_stalled_reader_loses_events_and_says_how_many() {
    require_kernel!();
    let connections = fewer(250_000);
    // A connect and an accept, and a close at either end.
    let events = connections * 4;
    let _alone = alone();
    let agent = Agent::start(
        Options::default()
            .flag("ring-size", "4096")
            .flag("ring-rare-size", "4096")
            // Without limit, so that it is the ring that refuses.
            .flag("events-rate", "0"),
    );
    let tail = agent.tail("");
    let cgroup = Cgroup::new("flood");
    let count = connections.to_string();
    let mut workload = Workload::prepare(&["loopback", "--count", &count, "--threads", "2"], &cgroup);
    let opened_before = opened();
    let before = settled(&agent, 0).outcomes("tcp");

    kernel::kill(agent.pid(), libc::SIGSTOP).unwrap();
    wait_until(PATIENCE, "the agent stands still", || kernel::state(agent.pid()) == Some('T'));
    workload.go();
    assert_eq!(workload.report()["connections"], connections);
    kernel::kill(agent.pid(), libc::SIGCONT).unwrap();

    let after = settled(&agent, before.seen + events);
    let tcp = after.outcomes("tcp");
    let seen = tcp.seen - before.seen;
    // Others on this machine may connect as well. The kernel counts each end that is opened, and it can be seen
    // to open and to close; what happens in other network namespaces is small.
    let at_most = (opened() - opened_before) * 2 + events / 4;
    assert!((events..at_most).contains(&seen), "{seen} seen, {events} caused, {at_most} possible");
    let lost = tcp.lost - before.lost;
    assert!(lost > 0 && lost <= seen, "{lost} lost of {seen}");
    assert!(lost >= events - 4096, "a page can't hold more than a few of {events}: {tcp:?}");

    // Whoever watches is told, in the stream itself.
    let told = tail.wait("a notice of the loss in the tail", |tail| {
        let notices = tail.events(|event| event["kind"] == "notice.lost");
        (!notices.is_empty()).then_some(notices)
    });
    let of_tcp = told.iter().filter(|notice| notice["sensor"] == "tcp");
    let counts: Vec<u64> = of_tcp.filter_map(|notice| notice["lost"].as_u64()).collect();
    assert!(counts.iter().sum::<u64>() > 0, "how many were lost: {told:#?}");

    // The agent is none the worse for it.
    drop(workload);
    let next = Cgroup::new("after");
    let (workload, _) = Workload::run(&["loopback", "--count", "5"], &next);
    agent.wait_count("podwitness_tcp_connects_total", &[("workload", next.path())], 5);
    workload.finish();
}

/// System calls are counted in the kernel: nobody has to read them while they happen. And cgroups that came and
/// went while nobody looked, their birth and death lost with everything else, are counted all the same: by name,
/// or together as unknown.
#[test]
fn a_stalled_reader_loses_no_calls() {
    require_kernel!();
    const CALLS: &str = "podwitness_syscalls_total";
    const BRIEF: u64 = 40;
    let _alone = alone();
    let agent = Agent::start(Options::default().flag("ring-size", "4096").flag("ring-rare-size", "4096"));
    let cgroup = Cgroup::new("stalled");
    let mut workload = Workload::prepare(&["syscalls", "--getppid", "50000", "--threads", "4"], &cgroup);
    let unknown =
        |metrics: &Metrics| metrics.count(CALLS, &[("workload_kind", "unknown"), ("syscall", "getppid")]);
    let before = unknown(&agent.scrape());

    kernel::kill(agent.pid(), libc::SIGSTOP).unwrap();
    wait_until(PATIENCE, "the agent stands still", || kernel::state(agent.pid()) == Some('T'));
    workload.go();
    workload.report();
    let mut paths = Vec::new();
    for _ in 0..BRIEF {
        let brief = Cgroup::new("unseen");
        let mut inside = Workload::born_in(&["syscalls", "--getppid", "1000"], &brief);
        inside.go();
        inside.report();
        inside.finish();
        brief.remove();
        paths.push(brief.path().to_owned());
    }
    kernel::kill(agent.pid(), libc::SIGCONT).unwrap();

    agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], 50_000);
    let counted = |metrics: &Metrics| {
        let named =
            paths.iter().map(|path| metrics.count(CALLS, &[("workload", path), ("syscall", "getppid")]));
        named.sum::<u64>() + unknown(metrics) - before
    };
    wait_until(PATIENCE * 2, "the calls of the brief cgroups are counted", || {
        counted(&agent.scrape()) >= BRIEF * 1000
    });
    // Nothing twice. A shell elsewhere on the machine may have asked for its parent and be unknown, too.
    let counted = counted(&agent.scrape());
    assert!((BRIEF * 1000..BRIEF * 1000 + 500).contains(&counted), "{counted}");
    workload.finish();
}

/// One container makes noise, another one whispers: the whisper is heard.
#[test]
fn a_noisy_container_is_throttled_and_a_quiet_one_is_not() {
    require_kernel!();
    let _alone = alone();
    let agent = Agent::start(Options::default().flag("events-rate", "100").flag("events-burst", "100"));
    let (noisy, quiet) = (Cgroup::new("noisy"), Cgroup::new("quiet"));
    let (tail, noisy_tail) = (agent.tail_of(&quiet), agent.tail_of(&noisy));
    let before = settled(&agent, 0).outcomes("tcp");
    let mut noise = Workload::prepare(&["loopback", "--count", "20000"], &noisy);
    let mut whisper = Workload::prepare(&["loopback", "--count", "10"], &quiet);
    noise.go();
    whisper.go();
    assert_eq!(whisper.report()["connections"], 10);
    assert_eq!(noise.report()["connections"], 20_000);

    let tcp = settled(&agent, before.seen + 80_040).outcomes("tcp");
    assert!(tcp.throttled - before.throttled > 10_000, "{before:?} {tcp:?}");
    assert_eq!(tcp.lost, before.lost, "what is throttled does not fill the ring");
    for kind in ["tcp.connect", "tcp.accept"] {
        assert_eq!(tail.wait_of(kind, quiet.path(), 10).len(), 10, "{kind} of the quiet one");
    }
    assert_eq!(tail.wait_of("tcp.close", quiet.path(), 20).len(), 20);
    let of_noisy = noisy_tail.events(|event| event["workload"] == noisy.path());
    assert!(!of_noisy.is_empty(), "the noisy one keeps its share");
    assert!(of_noisy.len() < 40_000, "{} events of the noisy one", of_noisy.len());
    noise.finish();
    whisper.finish();
}
