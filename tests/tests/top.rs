//! `podwitness top`: what it prints, compared with what the agent told and what a workload did; and how it treats a
//! terminal.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
};

use integration_tests::{
    Agent, Cgroup, NetNs, Options, Pty, Relay, Workload, agent, http,
    netns::CLOSED_V4,
    require_kernel,
    wait::{PATIENCE, wait_for, wait_until},
};
use serde_json::Value;

/// The container of a cgroup in an answer of `/v1/containers`.
fn container(answer: &str, cgroup: &Cgroup) -> Option<Value> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["containers"].as_array().unwrap().iter().find(|one| one["workload"] == cgroup.path()).cloned()
}

fn time(answer: &str) -> jiff::Timestamp {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["time"].as_str().unwrap().parse().unwrap()
}

/// The lines of a table by column. No column but the last has spaces in it.
fn table(text: &str) -> Vec<HashMap<String, String>> {
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    lines
        .map(|line| {
            header
                .iter()
                .zip(line.split_whitespace())
                .map(|(name, cell)| ((*name).into(), cell.into()))
                .collect()
        })
        .collect()
}

/// Everything between two answers is in the rates, and nothing else. The answers are seen on their way, so that it is
/// known what lies between them and how far apart they are.
#[test]
fn the_table_has_the_rates_of_a_workload() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("top");
    cgroup.limit_memory(64);
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    // It has counted before, so that the difference counts.
    let (before, _) = Workload::run(&["syscalls", "--getppid", "300", "--openat-enoent", "5"], &cgroup);
    wait_until(PATIENCE, "the agent tells of the container", || {
        let answer = http::get(agent.debug, "/v1/containers").unwrap().body;
        container(&answer, &cgroup).is_some_and(|told| told["calls"]["getppid"] == 300)
    });
    let relay = Relay::before(agent.debug, "/v1/containers");
    let address = relay.address.to_string();
    let filter = format!("workload=\"{}\"", cgroup.path());
    let top = agent::command(&["top", "--once", "--interval", "500ms", "--addr", &address, &filter])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    relay.let_through();
    wait_until(PATIENCE, "the first answer is given", || relay.answers().len() == 1);
    let (calls, _) = Workload::run(&["syscalls", "--getppid", "4321", "--openat-enoent", "77"], &cgroup);
    let (refused, _) =
        Workload::run(&["connect", "--addr", CLOSED_V4, "--count", "7", "--netns", &namespace], &cgroup);
    let exchange =
        ["exchange", "--count", "3", "--request", "100000", "--response", "5000", "--netns", &namespace];
    let (exchanged, _) = Workload::run(&exchange, &cgroup);
    wait_until(PATIENCE, "the agent has counted it", || {
        let answer = http::get(agent.debug, "/v1/containers").unwrap().body;
        let told = container(&answer, &cgroup).unwrap();
        told["figures"]["tcp_closes"] == 6 && told["calls"]["getppid"] == 4621
    });
    relay.let_through();
    let output = agent::output(top);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();

    let answers = relay.answers();
    let [first, second] = &answers[..] else { panic!("{} answers", answers.len()) };
    let seconds = time(second).duration_since(time(first)).as_secs_f64();
    let told = [first, second].map(|answer| container(answer, &cgroup).unwrap());
    let grown = |name: &str| {
        let [first, second] = [0, 1].map(|at| told[at]["figures"][name].as_u64().unwrap());
        second - first
    };
    assert_eq!((grown("tcp_connects"), grown("tcp_connect_failures"), grown("tcp_accepts")), (10, 7, 3));
    assert_eq!((grown("tcp_sent_bytes"), grown("tcp_received_bytes")), (315_000, 315_000));
    assert!(grown("syscalls") >= 4321 + 77 && grown("syscall_errors") >= 77 + 7, "{told:#?}");
    let rows = table(&text);
    assert_eq!(rows.len(), 1, "{text}");
    let rate = |name: &str| format!("{:.1}", grown(name) as f64 / seconds);
    let memory = &told[1]["memory"];
    assert_eq!(memory["limit_bytes"], 64 << 20, "{memory}");
    for (column, expected) in [
        ("CONTAINER", cgroup.path().to_owned()),
        ("CALLS/S", rate("syscalls")),
        ("ERRORS/S", rate("syscall_errors")),
        ("CONN/S", rate("tcp_connects")),
        ("FAILED/S", rate("tcp_connect_failures")),
        ("ACCEPT/S", rate("tcp_accepts")),
        ("SENT/S", rate("tcp_sent_bytes")),
        ("RECV/S", rate("tcp_received_bytes")),
        ("RTT", format!("{:.6}", told[1]["figures"]["tcp_rtt"]["seconds"].as_f64().unwrap() / 6.0)),
        ("MEMORY", memory["working_set_bytes"].to_string()),
        ("HEADROOM", memory["headroom_bytes"].to_string()),
        ("BUSIEST", "getppid".to_owned()),
    ] {
        assert_eq!(rows[0][column], expected, "{column} of\n{text}");
    }
    [before, calls, refused, exchanged].into_iter().for_each(Workload::finish);
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    require_kernel!();
    let said = |arguments: &[&str]| {
        let output = agent::run(arguments);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let mistake = said(&["top", "--once", "namespace=shop", "pid=1"]);
    assert!(
        mistake.contains("`pid` is told of events") && mistake.contains("\n               ^^^\n"),
        "{mistake}"
    );
    let nobody = said(&["top", "--once", "--addr", "127.0.0.1:1"]);
    assert!(nobody.contains("no agent answers at 127.0.0.1:1"), "{nobody}");
    let template = said(&["tail", "-o", "jsonpath={.kind}{range .x}"]);
    assert!(
        template.contains("ranges are not supported") && template.contains("\n        ^^^^^\n"),
        "{template}"
    );
}

/// A terminal shows the containers, outlives the agent, and is left as it was found.
#[test]
fn a_terminal_is_used_and_given_back() {
    require_kernel!();
    let mut agent = Agent::start(Options::default());
    let address = agent.debug.to_string();
    let cgroup = Cgroup::new("top-terminal");
    let (workload, _) = Workload::run(&["syscalls", "--getppid", "100"], &cgroup);
    let top = || {
        let command: Command =
            agent::command(&["top", "--interval", "500ms", "--addr", &address, "workload~terminal"]);
        Pty::start(command, 160, 30)
    };
    let mut pty = top();
    assert!(pty.is_as_shells_expect());
    pty.wait(0, cgroup.path());
    assert!(!pty.is_as_shells_expect());
    let mut seen = pty.output().len();
    // Into the container: an event of it is shown while it happens.
    pty.press("\r");
    seen = pty.wait(seen, "LIVE");
    wait_until(PATIENCE, "its events are read", || agent.scrape().sum("podwitness_live_clients", &[]) == 1.0);
    let (spawn, _) = Workload::run(&["spawn", "--count", "1"], &cgroup);
    seen = pty.wait(seen, "process.exec");
    pty.press("\u{1b}");
    seen = pty.wait(seen, "CONTAINER");
    agent.kill();
    seen = pty.wait(seen, "again");
    // Another agent at the same place, started by somebody.
    let agent = wait_for(PATIENCE, "another agent at the same address", || {
        Some(Agent::start(Options::default().flag("debug-listen", &address)))
    });
    // Only what differs is drawn anew: this name has no letter in common with the former one, place by place.
    let other = Cgroup::new("zz-terminal");
    let (again, _) = Workload::run(&["syscalls", "--getppid", "100"], &other);
    pty.wait(seen, "zz-terminal");
    pty.press("q");
    assert!(pty.end().success());
    let output = pty.output();
    assert!(pty.is_as_shells_expect(), "{output:?}");
    let leaves = output.rfind("\u{1b}[?1049l").expect("the screen of before is shown again");
    assert!(output[leaves..].ends_with("\u{1b}[?25h"), "the cursor is shown again: {output:?}");

    for (key, signal) in [(Some("\u{3}"), None), (None, Some(libc::SIGTERM))] {
        let mut pty = top();
        pty.wait(0, "CONTAINER");
        key.into_iter().for_each(|key| pty.press(key));
        signal.into_iter().for_each(|signal| pty.signal(signal));
        assert!(pty.end().success());
        assert!(pty.is_as_shells_expect(), "{:?}", pty.output());
    }
    drop(agent);
    [workload, spawn, again].into_iter().for_each(Workload::finish);
}
