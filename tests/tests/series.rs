//! How many series there are: their limit, what they are told apart by, and what `podwitness metrics` says of them.

use std::collections::BTreeMap;

use integration_tests::{
    Agent, Cgroup, Metrics, NetNs, Options, Workload,
    agent::run,
    http, kernel,
    netns::CLOSED_V4,
    prometheus::check,
    require_kernel,
    wait::{PATIENCE, unique, wait_until},
};
use serde_json::Value;

const LIMIT: usize = 2000;
/// Containers of one workload, each of which has some thirty series at least.
const PODS: u64 = 120;
const CALLS: &str = "podwitness_syscalls_total";
const CONNECTS: &str = "podwitness_tcp_connects_total";
const EXITS: &str = "podwitness_process_exits_total";

/// By what they count, of containers alone.
fn counters(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| line.contains("workload_kind="));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            (series.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn folded(metrics: &Metrics, detail: &str) -> f64 {
    metrics.sum("podwitness_series_folded", &[("detail", detail)])
}

/// More than there is room for comes and goes, while every page is looked at.
#[test]
fn the_limit_holds_and_no_counter_goes_back() {
    require_kernel!();
    let options = Options::default().flag("metrics-series-limit", &LIMIT.to_string());
    let agent = Agent::start(options.flag("metrics-grace", "1s").flag("identity-scan-interval", "1s"));
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let node = Cgroup::at(&format!("/podwitness-test-series-{}/kubepods/besteffort", unique()));
    let early = Cgroup::new("early");
    let (first, _) =
        Workload::run(&["connect", "--addr", CLOSED_V4, "--count", "20", "--netns", &namespace], &early);
    let of_early = [("workload", early.path())];
    agent.wait_count(CONNECTS, &of_early, 20);
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    let mut look = |living: &dyn Fn(&str) -> bool| {
        let page = agent.scrape_text();
        let metrics = Metrics::parse(&page);
        let series = metrics.sum("podwitness_container_series", &[]);
        let now = counters(&page);
        assert_eq!(series, now.len() as f64, "each is there once");
        assert!(now.len() <= LIMIT, "{} series", now.len());
        for (name, value) in &before {
            match now.get(name) {
                Some(later) => assert!(value <= later, "{name}: {value}, then {later}"),
                None => assert!(!living(name), "{name} has a gap"),
            }
        }
        before = now;
        metrics
    };
    for wave in 0..3 {
        let (pods, containers): (Vec<_>, Vec<_>) = (0..PODS)
            .map(|number| {
                let number = wave * PODS + number;
                let pod = node.child(&format!("pod{:08x}-0000-4000-8000-{number:012x}", std::process::id()));
                let container = pod.child(&format!("{number:064x}"));
                (pod, container)
            })
            .unzip();
        let directories: Vec<_> =
            containers.iter().map(|cgroup| cgroup.directories()[0].display().to_string()).collect();
        let outside = Cgroup::new("visitor");
        let arguments = ["visit", "--cgroups", &directories.join(","), "--getppid", "5"];
        let (workload, _) = Workload::run(&arguments, &outside);
        let late = Cgroup::new("late");
        let run = |arguments: &[&str]| Workload::run(arguments, &late).0.finish();
        run(&["connect", "--addr", CLOSED_V4, "--count", "30", "--netns", &namespace]);
        run(&["syscalls", "--getppid", "100", "--openat-enoent", "10", "--nanosleep-1ms", "2"]);
        let is_living = |series: &str| series.contains(early.path());
        wait_until(PATIENCE, "what was folded by containers has come", || {
            look(&is_living);
            let metrics = look(&is_living);
            // However they are folded: of whom there is a series, there is all of it.
            let connects = metrics.sum(CONNECTS, &[("workload", late.path())]);
            assert!(connects == 0.0 || connects == 30.0, "{connects} of 30");
            folded(&metrics, "container") + folded(&metrics, "workload") > 0.0
        });
        assert_eq!(look(&is_living).count(CONNECTS, &of_early), 20, "who was there first has all its series");
        workload.finish();
        drop((containers, pods));
    }
    let metrics = look(&|_| false);
    assert!(metrics.sum(EXITS, &[("workload", "other")]) > 0.0, "{:?}", metrics.series(EXITS, &[]));
    if !kernel::is_vm() {
        assert_eq!(check(&agent.scrape_text()), "", "promtool has nothing to say");
    }
    first.finish();
    tell(&agent);
}

/// One of a crowd that is told only in a sum has series of its own once the others have gone.
#[test]
fn a_container_that_was_folded_comes_back_when_there_is_room() {
    require_kernel!();
    let options = Options::default().flag("metrics-series-limit", &LIMIT.to_string());
    let agent = Agent::start(options.flag("metrics-grace", "1s").flag("identity-scan-interval", "1s"));
    let node = Cgroup::at(&format!("/podwitness-test-back-{}/kubepods/besteffort", unique()));
    // Too many for each to have even the coarsest series.
    let mut crowd: Vec<_> = (0..2 * PODS)
        .map(|number| {
            let uid = format!("{:08x}-0000-4000-9000-{number:012x}", std::process::id());
            let pod = node.child(&format!("pod{uid}"));
            let container = pod.child(&format!("{number:064x}"));
            (uid, container, pod)
        })
        .collect();
    let outside = Cgroup::new("visitor");
    let visit = |directories: &[String]| {
        let arguments = ["visit", "--cgroups", &directories.join(","), "--getppid", "5"];
        Workload::run(&arguments, &outside).0.finish();
    };
    let directory = |container: &Cgroup| container.directories()[0].display().to_string();
    visit(&crowd.iter().map(|(_, container, _)| directory(container)).collect::<Vec<_>>());
    // What there is is known before the page has to do with it: who comes late has no series for another reason.
    wait_until(PATIENCE, "all of them are known, with what they did", || {
        let response = http::get(agent.debug, "/v1/containers").unwrap();
        let told: Value = serde_json::from_str(&response.body).expect("JSON");
        let told = told["containers"].as_array().expect("containers").iter();
        let done = told
            .filter(|one| one["calls"]["getppid"] == 5 && one["figures"]["process_exits"]["completed"] == 1);
        let done: Vec<_> = done.map(|one| one["pod"].as_str().unwrap_or_default().to_owned()).collect();
        crowd.iter().all(|(uid, ..)| done.contains(uid))
    });
    let metrics = agent.scrape();
    let is_told =
        |uid: &str| [CALLS, EXITS].iter().any(|name| !metrics.series(name, &[("pod", uid)]).is_empty());
    let place = crowd.iter().position(|(uid, ..)| !is_told(uid)).expect("one that is only told in a sum");
    // Its cgroups are removed in this order, the container's before its pod's.
    let one = crowd.swap_remove(place);
    let (uid, container, _) = &one;
    drop(crowd);
    let calls = [("pod", uid.as_str()), ("syscall", "getppid")];
    wait_until(PATIENCE, "it has series of its own", || {
        // What it has done by now is told in the sum.
        agent.scrape().series(CALLS, &calls).first().is_some_and(|series| {
            assert_eq!(series.value, 0.0, "it begins with nothing");
            true
        })
    });
    visit(&[directory(container)]);
    agent.wait_count(CALLS, &calls, 5);
    // The first one stays where it was told.
    agent.wait_count(EXITS, &[("pod", uid.as_str())], 1);
}

/// The commands that tell of it agree with the page.
#[track_caller]
fn tell(agent: &Agent) {
    let address = agent.metrics.to_string();
    let output = run(&["metrics", "--dry-run", "--addr", &address, "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["limit"], LIMIT as f64);
    assert!(report["series"].as_f64().expect("a number") <= LIMIT as f64);
    let folded = report["folded"].as_object().expect("folded");
    assert!(folded.values().all(|series| series.as_f64() > Some(0.0)) && !folded.is_empty(), "{report}");
    let metrics = report["metrics"].as_array().expect("metrics");
    let calls = metrics.iter().find(|metric| metric["name"] == CALLS).expect("calls");
    assert!(calls["series"].as_u64() > Some(1) && calls["sum"].as_f64() > Some(100.0), "{calls}");
    let text = run(&["metrics", "--dry-run", "--addr", &address]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains("of at most 2000 (metrics.series_limit); folded into `other`: "), "{text}");
    let doctor = run(&["doctor", "--metrics-listen", &address]);
    let text = String::from_utf8(doctor.stdout).expect("text");
    let line = text.lines().find(|line| line.starts_with("series ")).expect("a line about series");
    assert!(line.contains("metrics.series_limit") && line.contains("folded into"), "{line}");
}

#[test]
fn the_dry_run_says_what_to_do_where_no_agent_is() {
    let output = run(&["metrics", "--dry-run", "--addr", "127.0.0.1:9"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("no agent answers at 127.0.0.1:9") && said.contains("--addr"), "{said}");
}

/// What nobody wants to be told apart is summed up, and the sums are the same.
#[test]
fn sums_are_the_same_with_less_detail() {
    require_kernel!();
    let cgroup = Cgroup::new("detail");
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let agents = ["all", "none", "syscall,container"]
        .map(|detail| Agent::start(Options::default().flag("metrics-detail", detail)));
    let runs: [&[&str]; 3] = [
        &["syscalls", "--getppid", "1000", "--openat-enoent", "50"],
        &["loopback", "--count", "20", "--netns", &namespace],
        &["connect", "--addr", CLOSED_V4, "--count", "30", "--netns", &namespace],
    ];
    runs.iter().for_each(|run| Workload::run(run, &cgroup).0.finish());
    let of = [("workload", cgroup.path())];
    for agent in &agents {
        for (name, count) in [
            (CONNECTS, 50),
            ("podwitness_tcp_connect_failures_total", 30),
            ("podwitness_tcp_accepts_total", 20),
            (EXITS, 3),
        ] {
            agent.wait_count(name, &of, count);
        }
    }
    let pages = agents.each_ref().map(Agent::scrape);
    // None of the helpers is left to make another call.
    for name in [CALLS, "podwitness_syscall_errors_total", "podwitness_syscall_duration_seconds_count"] {
        let sums = pages.each_ref().map(|page| page.sum(name, &of));
        assert!(sums[0] > 0.0, "{name}");
        if name.ends_with("_total") {
            assert_eq!(sums, [sums[0]; 3], "{name}");
        }
    }
    let [_, none, some] = &pages;
    assert_eq!(none.series(CALLS, &of).len(), 1);
    assert_eq!(none.series("podwitness_syscall_duration_seconds_count", &of).len(), 1);
    assert!(none.samples.iter().all(|sample| {
        ["syscall", "errno", "class", "peer_workload"].iter().all(|label| sample.label(label).is_empty())
    }));
    assert!(none.samples.iter().all(|sample| sample.label("pod").is_empty()));
    assert_eq!(some.count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")]), 1000);
    let errors =
        some.series("podwitness_syscall_errors_total", &[("workload", cgroup.path()), ("syscall", "openat")]);
    assert_eq!(errors.len(), 1, "one series for all errnos: {errors:?}");
}
