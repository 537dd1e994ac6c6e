//! What `/v1/containers`, `/v1/status` and `/v1/schema` tell, `podwitness tail` and `doctor`, and who may ask.

use std::{
    fs,
    process::{Command, Stdio},
};

use integration_tests::{
    Agent, Cgroup, NetNs, Options, Workload, agent, http,
    netns::CLOSED_V4,
    require_kernel, schema,
    wait::{PATIENCE, unique, wait_for, wait_until},
};
use serde_json::Value;

fn json(agent: &Agent, path: &str) -> Value {
    let response = http::get(agent.debug, path).unwrap();
    assert_eq!(
        (response.status, &*response.content_type),
        (200, "application/json"),
        "{path}: {}",
        response.body
    );
    serde_json::from_str(&response.body).unwrap()
}

fn container(agent: &Agent, cgroup: &Cgroup) -> Option<Value> {
    let all = json(agent, "/v1/containers");
    all["containers"].as_array().unwrap().iter().find(|one| one["workload"] == cgroup.path()).cloned()
}

/// The same figures as the metrics, the deaths that happened before anybody looked, and all of it by container.
#[test]
fn a_container_is_told_with_its_figures_and_deaths() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("state");
    cgroup.limit_memory(32);
    let (calls, _) = Workload::run(&["syscalls", "--getppid", "1234", "--openat-enoent", "56"], &cgroup);
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let (refused, _) =
        Workload::run(&["connect", "--addr", CLOSED_V4, "--count", "7", "--netns", &namespace], &cgroup);
    let mut victim = Workload::prepare(&["hog", "--mib", "64"], &cgroup);
    let pid = victim.pid();
    victim.go();
    victim.wait();
    let told = wait_for(PATIENCE, "the container with its death", || {
        let told = container(&agent, &cgroup)?;
        (told["deaths"].as_array().unwrap().len() == 2 && told["calls"]["getppid"] == 1234).then_some(told)
    });
    let figures = &told["figures"];
    assert_eq!(
        (&figures["tcp_connects"], &figures["tcp_connect_failures"]),
        (&7.into(), &7.into()),
        "{told:#}"
    );
    assert_eq!(figures["oom_kills"], 1, "{told:#}");
    assert!(figures["syscall_errors"].as_u64().unwrap() >= 56 + 7, "{told:#}");
    assert_eq!((&told["alive"], &told["workload_kind"]), (&true.into(), &"cgroup".into()));
    assert_eq!((&told["cgroups"]["alive"], &told["cgroups"]["dead"]), (&1.into(), &0.into()));
    let memory = |name: &str| told["memory"][name].as_u64().unwrap_or_else(|| panic!("{name}: {told:#}"));
    assert_eq!(memory("limit_bytes"), 32 << 20);
    assert!(memory("usage_bytes") > 0 && memory("working_set_bytes") <= memory("usage_bytes"), "{told:#}");
    // An ancestor may have less left.
    assert!(memory("headroom_bytes") <= (32 << 20) - memory("working_set_bytes"), "{told:#}");
    let [kill, exit] = [0, 1].map(|at| &told["deaths"][at]);
    assert_eq!(
        (&kill["kind"], &kill["pid"], &kill["scope"]),
        (&"oom.kill".into(), &pid.into(), &"container".into())
    );
    assert_eq!(
        (&exit["kind"], &exit["pid"], &exit["reason"]),
        (&"process.exit".into(), &pid.into(), &"oom_killed".into())
    );
    calls.finish();
    refused.finish();

    let status = json(&agent, "/v1/status");
    assert_eq!(status["sensors"]["tcp"]["state"], "active", "{status:#}");
    assert!(status["limits"]["debug.replay"].as_f64() == Some(1024.0), "{status:#}");
}

/// Whether a line fits, and why not: against the part of the schema that is about its kind.
fn describing(schema: &Value, line: &Value) -> Result<(), String> {
    let one = schema["oneOf"].as_array().unwrap().iter().find(|one| one["title"] == line["kind"]);
    schema::fits(one.ok_or("no schema has this kind")?, line)?;
    schema::fits(schema, line)
}

/// Every line of every kind that real events give fits the schema, and the schema refuses others.
#[test]
fn real_events_fit_the_published_schema() {
    require_kernel!();
    let agent = Agent::start(Options::default().flag("sensors-calls-failed", "ENOENT"));
    let schema = json(&agent, "/v1/schema");
    let tail = agent.tail("");
    let calls = agent.tail("?filter=syscall%20in%20(openat,connect,exit_group,read)&paths=true&limit=5000");
    wait_until(PATIENCE, "the kernel watches", || agent.scrape().sum("podwitness_calls_watched", &[]) > 0.0);
    let cgroup = Cgroup::new("schema");
    cgroup.limit_memory(32);
    let (open, _) = Workload::run(&["loopback", "--count", "5"], &cgroup);
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let (refused, _) =
        Workload::run(&["connect", "--addr", CLOSED_V4, "--count", "2", "--netns", &namespace], &cgroup);
    let mut victim = Workload::prepare(&["hog", "--mib", "64"], &cgroup);
    victim.go();
    victim.wait();
    open.finish();
    refused.finish();
    let path = cgroup.path().to_owned();
    drop(cgroup);
    let gone = |event: &Value| event["kind"] == "cgroup.rmdir" && event["cgroup"].as_str() == Some(&*path);
    tail.wait("the end of the cgroup", |tail| (!tail.events(gone).is_empty()).then_some(()));
    calls.wait("a call", |calls| {
        (!calls.events(|event| event["kind"] == "syscall.call").is_empty()).then_some(())
    });
    let mut events = tail.events(|_| true);
    events.extend(calls.events(|_| true));
    for event in &events {
        if let Err(error) = describing(&schema, event) {
            panic!("{event:#}: {error}");
        }
    }
    let kinds = [
        "process.exec",
        "process.exit",
        "tcp.connect",
        "tcp.accept",
        "tcp.close",
        "oom.kill",
        "cgroup.mkdir",
        "syscall.call",
    ];
    for kind in kinds {
        assert!(events.iter().any(|event| event["kind"] == kind), "no {kind}");
    }
    let mut other = events[0].clone();
    other["colour"] = "red".into();
    assert!(schema::fits(&schema, &other).is_err());
}

/// A reader that lost its connection gets what happened meanwhile, once.
#[test]
fn a_reader_goes_on_where_it_was() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("resume");
    let filter = http::encode(&format!("kind=process.exec workload=\"{}\"", cgroup.path()));
    let first = agent.tail(&format!("?filter={filter}"));
    let (one, _) = Workload::run(&["spawn", "--count", "1"], &cgroup);
    let seen = first.wait_of("process.exec", cgroup.path(), 1);
    let id = seen.last().unwrap()["id"].as_str().unwrap().to_owned();
    drop(first);
    // Nobody reads.
    let (more, _) = Workload::run(&["spawn", "--count", "3"], &cgroup);
    let all = agent.tail(&format!("?filter={filter}&after={id}"));
    let again = all.wait_of("process.exec", cgroup.path(), 3);
    assert_eq!(again.len(), 3, "{again:#?}");
    assert!(all.events(|event| event["id"] == id.as_str()).is_empty(), "what was seen doesn't come again");
    one.finish();
    more.finish();
}

/// `podwitness tail` shows a line for each event that its filter wants, and ends when it has shown enough.
#[test]
fn tail_shows_events_in_lines() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("tail");
    let address = agent.debug.to_string();
    let workload = format!("workload=\"{}\"", cgroup.path());
    let tail = |output: &str| {
        let arguments = [
            "tail",
            "--addr",
            &address,
            "-o",
            output,
            "--limit",
            "3",
            "kind=tcp.connect",
            "errno",
            &workload,
        ];
        agent::command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (text, lines) = (tail("text"), tail("json"));
    let filled = tail("jsonpath={.kind} {.errno}: {.workload}{\"\\n\"}");
    wait_until(PATIENCE, "all read", || {
        agent.scrape().series("podwitness_live_clients", &[]).iter().any(|series| series.value == 3.0)
    });
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let (refused, _) =
        Workload::run(&["connect", "--addr", CLOSED_V4, "--count", "5", "--netns", &namespace], &cgroup);
    let [text, lines, filled] = [text, lines, filled].map(|child| {
        let output = agent::output(child);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    refused.finish();
    assert_eq!(text.lines().count(), 3, "{text}");
    for line in text.lines() {
        assert!(line.contains(" tcp.connect ") && line.contains("refused ECONNREFUSED"), "{line}");
        assert!(!line.contains('\u{1b}'), "no colour without a terminal: {line:?}");
    }
    assert_eq!(lines.lines().count(), 3, "{lines}");
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["errno"], "ECONNREFUSED", "{event}");
    }
    assert_eq!(filled, format!("tcp.connect ECONNREFUSED: {}\n", cgroup.path()).repeat(3));

    let mistake = agent::run(&["tail", "kind=tcp.conect"]);
    let said = String::from_utf8_lossy(&mistake.stderr);
    assert!(!mistake.status.success() && said.contains("     ^^^^^^^^^^\n"), "{said}");
    assert!(said.contains("did you mean `tcp.connect`?"), "{said}");
    let nobody = agent::run(&["tail", "--addr", "127.0.0.1:1"]);
    let said = String::from_utf8_lossy(&nobody.stderr);
    assert!(!nobody.status.success() && said.contains("no agent answers at 127.0.0.1:1"), "{said}");
}

/// Beyond loopback nothing is told without the token, and the token can be replaced while the agent runs.
#[test]
fn other_addresses_need_a_token() {
    require_kernel!();
    let refused = agent::run(&["agent", "--debug-listen", "0.0.0.0:0"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("debug.token_file"), "{said}");

    let file = std::env::temp_dir().join(format!("podwitness-token-{}", unique()));
    let other = file.with_extension("other");
    fs::write(&file, "the-first-token-of-all").unwrap();
    fs::write(&other, "another-token-for-it").unwrap();
    let path = file.to_str().unwrap();
    let agent =
        Agent::start(Options::default().flag("debug-listen", "0.0.0.0:0").flag("debug-token-file", path));
    for path in ["/", "/v1/events", "/v1/containers", "/v1/status", "/v1/schema"] {
        assert_eq!(http::get(agent.debug, path).unwrap().status, 401, "{path}");
    }
    assert_eq!(http::get(agent.debug, "/healthz").unwrap().status, 200);
    let address = agent.debug.to_string();
    let tail = |token: &str| {
        let arguments = ["tail", "--addr", &address, "--token-file", token, "--limit", "1"];
        let mut child =
            agent::command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Something to see.
        wait_until(PATIENCE, "the tail ends", || {
            Command::new("true").status().unwrap();
            child.try_wait().unwrap().is_some()
        });
        child.wait_with_output().unwrap()
    };
    assert!(tail(path).status.success());
    let said = tail(other.to_str().unwrap());
    assert!(String::from_utf8_lossy(&said.stderr).contains("wants a token"), "{said:?}");
    fs::rename(&other, &file).unwrap();
    assert!(tail(path).status.success(), "the new token opens, without a restart");
    fs::remove_file(&file).unwrap();
}

/// The doctor needs no agent, and says the same to programs as to people.
#[test]
fn the_doctor_reports_in_json() {
    require_kernel!();
    let output = agent::run(&["doctor", "-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"] == true, output.status.success(), "{report:#}");
    let sensors = report["sensors"].as_array().unwrap();
    assert!(
        sensors.iter().any(|sensor| sensor["name"] == "tcp" && sensor["state"] == "active"),
        "{report:#}"
    );
    assert!(
        report["checks"].as_array().unwrap().iter().any(|check| check["name"] == "cgroups"),
        "{report:#}"
    );
}
