//! The `calls` sensor against a helper that makes slow, failing and watched system calls in exact numbers.

use std::time::Instant;

use integration_tests::{
    Agent, Cgroup, Options, Tail, Workload,
    bpf::{Object, held_by},
    http, require_kernel,
    wait::{PATIENCE, fewer, wait_until},
};
use serde_json::Value;

const WATCHED: &str = "podwitness_calls_watched";
const WATCHED_CGROUPS: &str = "podwitness_calls_watched_cgroups";

/// An agent to which these calls are events, and no others.
fn events_of(slow: &str, failed: &str) -> Options {
    Options::default().flag("sensors-calls-slow", slow).flag("sensors-calls-failed", failed)
}

/// The calls among the events of a cgroup, when its helper has ended: by then all have come.
#[track_caller]
fn calls_until_the_end(tail: &Tail, workload: Workload, cgroup: &Cgroup) -> Vec<Value> {
    workload.finish();
    tail.wait_of("process.exit", cgroup.path(), 1);
    tail.events(|event| event["kind"].as_str().is_some_and(|kind| kind.starts_with("syscall.")))
}

fn of<'a>(events: &'a [Value], key: &str, value: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event[key] == value).collect()
}

/// The events of one cgroup, of the kinds that this query names.
fn tail(agent: &Agent, cgroup: &Cgroup, query: &str) -> Tail {
    agent.tail(&format!("?workload={}&{query}", http::encode(cgroup.path())))
}

#[test]
fn a_slow_call_is_told_once_with_its_duration_and_file() {
    require_kernel!();
    for mode in ["default", "full"] {
        let options = events_of("lock=1s,read=1s", "none").flag("sensors-syscalls-mode", mode);
        let agent = Agent::start(options);
        let cgroup = Cgroup::new("slow");
        let tail = tail(&agent, &cgroup, "kind=syscall,process.exit");
        let (workload, truth) =
            Workload::run(&["calls", "--fifo-ms", "1200", "--futex-ms", "1200", "--opens", "50"], &cgroup);
        let pid = workload.pid();
        let events = calls_until_the_end(&tail, workload, &cgroup);
        // A futex waits for somebody, and is in no class for that matter. The helper also reads its standard input,
        // for as long as this test likes.
        let fd = &truth["fifo_fd"];
        let events: Vec<_> = events.iter().filter(|event| event["arguments"]["fd"] != 0).collect();
        let [event] = events[..] else { panic!("one event: {events:#?}") };
        assert_eq!((&event["kind"], &event["syscall"]), (&"syscall.slow".into(), &"read".into()));
        assert_eq!((&event["pid"], &event["result"]), (&pid.into(), &1.into()));
        assert_eq!((&event["arguments"]["fd"], &event["arguments"]["count"]), (fd, &1.into()));
        assert_eq!(event["file"], truth["fifo"]);
        let (duration, measured) = (event["duration"].as_f64().unwrap(), truth["read"].as_f64().unwrap());
        assert!((1.0..=measured).contains(&duration), "{duration} s, as the helper sees it {measured} s");
    }
}

#[test]
fn chosen_errors_are_told_and_others_are_not() {
    require_kernel!();
    let options = events_of("none", "ENOSPC,EMFILE").flag("sensors-calls-rate", "100");
    let agent = Agent::start(options);
    let cgroup = Cgroup::new("failed");
    let tail = tail(&agent, &cgroup, "kind=syscall,process.exit");
    let arguments = ["calls", "--full", "5", "--emfile", "3", "--enoent", "70", "--opens", "9"];
    let (workload, _) = Workload::run(&arguments, &cgroup);
    let events = calls_until_the_end(&tail, workload, &cgroup);
    let (full, many) = (of(&events, "errno", "ENOSPC"), of(&events, "errno", "EMFILE"));
    assert_eq!((full.len(), many.len(), events.len()), (5, 3, 8), "{events:#?}");
    for event in full {
        assert_eq!((&event["kind"], &event["syscall"]), (&"syscall.failed".into(), &"write".into()));
        assert_eq!((&event["file"], &event["result"]), (&"/dev/full".into(), &Value::Null));
    }
    assert!(many.iter().all(|event| event["syscall"] == "dup" && event["arguments"]["fd"] == 0));
}

#[test]
fn paths_are_told_only_if_that_is_wanted() {
    require_kernel!();
    for paths in ["true", "false"] {
        let options = events_of("none", "ENOENT").flag("sensors-calls-paths", paths);
        let agent = Agent::start(options);
        let cgroup = Cgroup::new("paths");
        let tail = tail(&agent, &cgroup, "kind=syscall.failed,process.exit");
        let (workload, _) = Workload::run(&["calls", "--enoent", "4"], &cgroup);
        let events = calls_until_the_end(&tail, workload, &cgroup);
        let events = of(&events, "syscall", "openat");
        assert_eq!(events.len(), 4, "{events:#?}");
        for event in events {
            let arguments = &event["arguments"];
            assert_eq!(arguments["dirfd"], "AT_FDCWD");
            assert_eq!(arguments["flags"], "O_RDONLY|O_CLOEXEC");
            let expected = if paths == "true" { "/proc/no such file".into() } else { Value::Null };
            assert_eq!(arguments["pathname"], expected);
        }
    }
}

#[test]
fn a_storm_of_failures_is_limited_and_counted() {
    require_kernel!();
    let failures = fewer(20_000);
    let options = events_of("none", "ENOSPC").flag("sensors-calls-rate", "1");
    let agent = Agent::start(options);
    let cgroup = Cgroup::new("storm");
    let before = agent.scrape().outcomes("calls");
    let (workload, _) = Workload::run(&["calls", "--full", &failures.to_string()], &cgroup);
    wait_until(PATIENCE, "all are accounted for", || {
        let calls = agent.scrape().outcomes("calls");
        calls.balanced() && calls.seen - before.seen >= failures
    });
    let metrics = agent.scrape();
    let (throttled, delivered) = {
        let calls = metrics.outcomes("calls");
        (calls.throttled - before.throttled, calls.delivered - before.delivered)
    };
    // Ten at once, and one for each second that it took.
    assert!((10..failures / 10).contains(&delivered), "{delivered} of {failures} were delivered");
    assert_eq!(
        metrics.count("podwitness_events_throttled_total", &[("workload", cgroup.path())]),
        throttled,
        "they are the container's"
    );
    workload.finish();
}

/// The share of a container is one, on however many CPUs its tasks run.
#[test]
fn a_storm_on_several_cpus_is_limited_like_one() {
    require_kernel!();
    let failures = fewer(500_000);
    let agent = Agent::start(events_of("none", "ENOSPC"));
    let cgroup = Cgroup::new("storms");
    let before = agent.scrape().outcomes("calls");
    let full = ["calls", "--full", &failures.to_string()];
    let mut workloads = [(); 2].map(|()| Workload::prepare(&full, &cgroup));
    let begin = Instant::now();
    workloads.iter_mut().for_each(Workload::go);
    workloads.iter_mut().for_each(|workload| drop(workload.report()));
    wait_until(PATIENCE, "all are accounted for", || {
        let calls = agent.scrape().outcomes("calls");
        calls.balanced() && calls.seen - before.seen >= 2 * failures
    });
    // A hundred at once, and ten for each second, one that has begun included; twenty more, as two CPUs may take the same
    // token. A share for each CPU would be two hundred at once.
    let most = 100 + 10 * (begin.elapsed().as_secs() + 1) + 20;
    let delivered = agent.scrape().outcomes("calls").delivered - before.delivered;
    assert!((100..=most).contains(&delivered), "{delivered} of {}, at most {most}", 2 * failures);
    workloads.into_iter().for_each(Workload::finish);
}

#[test]
fn calls_are_told_one_by_one_while_somebody_watches() {
    require_kernel!();
    for hook in ["auto", "classic"] {
        watched(hook);
    }
}

fn watched(hook: &str) {
    const OPENS: u64 = 1000;
    let links = |agent: &Agent| {
        held_by(agent.pid()).into_iter().filter(|object| matches!(object, Object::Link(_))).count()
    };
    let watched = |agent: &Agent| {
        let metrics = agent.scrape();
        (metrics.sum(WATCHED, &[]) as i64, metrics.sum(WATCHED_CGROUPS, &[]) as i64)
    };
    let agent = Agent::start(events_of("none", "none").flag("sensors-syscalls-hook", hook));
    let (cgroup, other) = (Cgroup::new("watched"), Cgroup::new("unwatched"));
    let links_before = links(&agent);
    let seen = || agent.scrape().outcomes("calls").seen;
    let arguments = ["calls", "--opens", &OPENS.to_string(), "--getppid", "500"];
    let (stranger, _) = Workload::run(&arguments, &cgroup);
    assert_eq!((watched(&agent), seen()), ((0, 0), 0), "nobody watches");

    // Somebody who reads everything wants no single calls.
    let everything = agent.tail("");
    let tail = tail(&agent, &cgroup, "kind=syscall,process.exit&syscall=openat,exit_group&paths=true");
    wait_until(PATIENCE, "the kernel watches", || watched(&agent) == (2, 1));
    assert_eq!(links(&agent), links_before + 2, "a program at either end");
    let mut workloads = [&cgroup, &other].map(|cgroup| (Workload::prepare(&arguments, cgroup), cgroup));
    for (workload, _) in &mut workloads {
        workload.go();
        workload.report();
    }
    let [(workload, _), (bystander, _)] = workloads;
    let pid = workload.pid();
    workload.finish();
    let exits = tail.wait("the end of the helper", |tail| {
        let exits = tail.events(|event| event["syscall"] == "exit_group");
        (!exits.is_empty()).then_some(exits)
    });
    let opens = tail.events(|event| event["syscall"] == "openat");
    assert_eq!(opens.len() as u64, OPENS);
    for event in &opens {
        assert_eq!((&event["kind"], &event["pid"]), (&"syscall.call".into(), &pid.into()));
        assert_eq!(event["workload"], cgroup.path());
        assert_eq!(event["arguments"]["pathname"], "/proc/version");
        assert!(event["result"].as_i64().is_some_and(|fd| fd > 2), "{event}");
        assert!(event["duration"].as_f64().is_some_and(|duration| duration > 0.0), "{event}");
    }
    assert_eq!((exits.len(), &exits[0]["arguments"]["status"]), (1, &0.into()));
    assert_eq!(exits[0]["result"], Value::Null, "it never returns");
    // Nothing else has left the kernel, and nobody else got it.
    assert_eq!(seen(), OPENS + 1);
    assert_eq!(everything.events(|event| event["kind"] == "syscall.call").len(), 0);

    // A second watcher changes what the first one has; when both are gone, so are the programs.
    let second = agent.tail(&format!("?filter={}", http::encode("kind=oom or syscall=getppid")));
    wait_until(PATIENCE, "the kernel watches for both", || watched(&agent) == (3, -1));
    drop(tail);
    wait_until(PATIENCE, "the kernel watches for the second", || watched(&agent) == (1, -1));
    drop(second);
    wait_until(PATIENCE, "nobody watches", || watched(&agent) == (0, 0));
    assert_eq!(links(&agent), links_before);
    let before = seen();
    let (last, _) = Workload::run(&arguments, &cgroup);
    assert_eq!(seen(), before);
    for workload in [stranger, bystander, last] {
        workload.finish();
    }
}

#[test]
fn watched_calls_have_a_share_like_other_events() {
    require_kernel!();
    let opens = fewer(20_000);
    let options = events_of("none", "none").flag("events-rate", "100").flag("events-burst", "100");
    let agent = Agent::start(options);
    let cgroup = Cgroup::new("share");
    let tail = tail(&agent, &cgroup, "syscall=openat");
    wait_until(PATIENCE, "the kernel watches", || agent.scrape().sum(WATCHED, &[]) > 0.0);
    let (workload, _) = Workload::run(&["calls", "--opens", &opens.to_string()], &cgroup);
    wait_until(PATIENCE, "all are accounted for", || {
        let calls = agent.scrape().outcomes("calls");
        calls.balanced() && calls.seen >= opens
    });
    let metrics = agent.scrape();
    let calls = metrics.outcomes("calls");
    assert_eq!((calls.seen, calls.lost), (opens, 0));
    assert!(calls.throttled > opens / 2 && calls.delivered >= 100, "{calls:?}");
    assert_eq!(
        metrics.count("podwitness_events_throttled_total", &[("workload", cgroup.path())]),
        calls.throttled
    );
    let told = tail.wait("a notice of it in the tail", |tail| {
        let notices = tail.events(|event| event["kind"] == "notice.throttled" && event["sensor"] == "calls");
        (!notices.is_empty()).then_some(notices)
    });
    assert!(told.iter().all(|notice| notice["throttled"].as_u64().is_some()));
    workload.finish();
}

/// Containers for which there is no room go by no name of their own; a filter that takes them gets their calls all the same.
#[test]
fn calls_of_strangers_are_told() {
    require_kernel!();
    const CROWD: u64 = 24;
    let agent = Agent::start(events_of("none", "none").flag("limits-containers", "16"));
    let crowd: Vec<_> = (0..CROWD).map(|_| Cgroup::new("stranger")).collect();
    let mut workloads: Vec<_> =
        crowd.iter().map(|cgroup| Workload::prepare(&["syscalls", "--getppid", "10"], cgroup)).collect();
    let tail = agent.tail(&format!("?filter={}", http::encode("syscall=getppid namespace!=kube-system")));
    wait_until(PATIENCE, "the kernel watches all", || agent.scrape().sum(WATCHED_CGROUPS, &[]) as i64 == -1);
    for workload in &mut workloads {
        workload.go();
        workload.report();
    }
    let calls = || tail.events(|event| event["syscall"] == "getppid");
    wait_until(PATIENCE, "all are told", || calls().len() as u64 >= CROWD * 10);
    assert!(calls().iter().any(|call| call["workload"] == "other"));
    workloads.into_iter().for_each(Workload::finish);
}

/// The kernel asks seccomp before it tells of an entry: only their end is seen.
#[test]
fn calls_that_seccomp_refuses_are_told() {
    require_kernel!();
    let agent = Agent::start(events_of("none", "none"));
    let cgroup = Cgroup::new("refused");
    let tail = tail(&agent, &cgroup, "kind=syscall,process.exit&syscall=mount");
    let mut workload = Workload::prepare(&["refused", "--errno", "1", "--count", "20"], &cgroup);
    wait_until(PATIENCE, "mount is watched there", || agent.scrape().count(WATCHED_CGROUPS, &[]) == 1);
    workload.go();
    workload.report();
    workload.finish();
    let events = tail.wait_of("syscall.call", cgroup.path(), 20);
    for event in &events {
        assert_eq!((&event["syscall"], &event["errno"]), (&"mount".into(), &"EPERM".into()), "{event}");
        assert_eq!((&event["duration"], &event["result"]), (&Value::Null, &Value::Null), "{event}");
    }
    assert_eq!(events.len(), 20);
}

#[test]
fn who_asks_for_calls_is_told_that_the_sensor_is_off() {
    require_kernel!();
    let agent = Agent::start(Options::default().flag("sensors-calls", "false"));
    for query in ["?syscall=read&pod=to-come", "?syscall=read"] {
        let tail = agent.tail(query);
        let said = || tail.events(|event| event["kind"] == "notice.unwatched");
        wait_until(PATIENCE, "it is said", || !said().is_empty());
        let said = said();
        assert!(said[0]["message"].as_str().is_some_and(|told| told.contains("calls is off")), "{said:?}");
    }
}
