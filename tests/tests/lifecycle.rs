//! Start and end of the agent, orderly and not.

use std::net::{SocketAddr, TcpListener, TcpStream};

use integration_tests::{
    Agent, Cgroup, Options, Tail, Workload, agent, bpf, http, require_kernel,
    wait::{PATIENCE, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";

/// A piece of work that an agent has to see.
#[track_caller]
fn sees(agent: &Agent) {
    let cgroup = Cgroup::new("life");
    let (workload, _) = Workload::run(&["syscalls", "--getppid", "1234"], &cgroup);
    agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], 1234);
    let (spawning, _) = Workload::run(&["spawn", "--count", "3"], &cgroup);
    agent.wait_count("podwitness_processes_started_total", &[("workload", cgroup.path())], 3);
    workload.finish();
    spawning.finish();
}

/// What the kernel frees, it frees a moment after the process has gone.
#[track_caller]
fn nothing_left(held: impl IntoIterator<Item = bpf::Object>) {
    let held: Vec<_> = held.into_iter().collect();
    assert!(held.iter().any(|object| matches!(object, bpf::Object::Program(_))), "no program: {held:?}");
    assert!(held.iter().any(|object| matches!(object, bpf::Object::Map(_))), "no map: {held:?}");
    wait_until(PATIENCE, "the kernel has freed everything of the agent", || {
        held.iter().all(|object| !object.exists())
    });
}

#[test]
fn sigterm_stops_in_time_and_leaves_nothing() {
    require_kernel!();
    let pinned = bpf::pinned();
    let mut agent = Agent::start(Options::default());
    // A reader that watches must not hold up the end.
    let tail = agent.tail("");
    sees(&agent);
    let held = bpf::held_by(agent.pid());
    let status = agent.stop();
    assert!(status.success(), "{status}");
    nothing_left(held);
    wait_until(PATIENCE, "the stream ends with the agent", || tail.ended());
    let left: Vec<_> = bpf::pinned().difference(&pinned).cloned().collect();
    assert!(left.is_empty(), "pinned: {left:?}");
}

#[test]
fn after_kill_9_nothing_is_left_and_a_new_agent_attaches_everything() {
    require_kernel!();
    let pinned = bpf::pinned();
    let mut agent = Agent::start(Options::default());
    sees(&agent);
    let held = bpf::held_by(agent.pid());
    let states = sensor_states(&agent);
    agent.kill();
    nothing_left(held);
    let left: Vec<_> = bpf::pinned().difference(&pinned).cloned().collect();
    assert!(left.is_empty(), "pinned: {left:?}");

    let agent = Agent::start(Options::default());
    assert_eq!(sensor_states(&agent), states, "everything attaches again");
    sees(&agent);
}

/// What the table at the start says about each sensor.
fn sensor_states(agent: &Agent) -> Vec<String> {
    let output = agent.output();
    let line = |sensor: &&str| {
        output.lines().find(|line| line.split_whitespace().next() == Some(*sensor)).map(str::to_owned)
    };
    let states: Vec<_> = agent::SENSORS.iter().filter_map(line).collect();
    assert_eq!(states.len(), agent::SENSORS.len(), "the table of sensors at the start:\n{output}");
    states
}

#[test]
fn two_agents_do_not_disturb_each_other() {
    require_kernel!();
    let mut first = Agent::start(Options::default());
    let second = Agent::start(Options::default());
    sees(&first);
    sees(&second);
    assert!(first.stop().success());
    sees(&second);
}

#[test]
fn a_stop_during_work_is_in_time() {
    require_kernel!();
    let mut agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("busy");
    let mut workload = Workload::prepare(&["loopback", "--count", "20000", "--threads", "2"], &cgroup);
    workload.go();
    wait_until(PATIENCE, "the agent sees the work", || {
        agent.scrape().count("podwitness_tcp_connects_total", &[("workload", cgroup.path())]) > 0
    });
    assert!(agent.stop().success());
    assert_eq!(workload.report()["connections"], 20_000, "the work goes on without the agent");
    workload.finish();
}

#[test]
fn a_port_in_use_is_said_clearly() {
    require_kernel!();
    for flag in ["--metrics-listen", "--debug-listen"] {
        let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = occupied.local_addr().unwrap().to_string();
        let other = if flag == "--metrics-listen" { "--debug-listen" } else { "--metrics-listen" };
        let output = agent::run(&["agent", flag, &address, other, "127.0.0.1:0"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{flag}: {}", output.status);
        assert!(said.contains(&address), "{flag}: the address is not named: {said}");
        let key = flag.trim_start_matches('-').replacen('-', ".", 1);
        assert!(said.contains(&key), "{flag}: the key {key} is not named: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// A sensor that is switched off is not attached, and the others don't miss it.
#[test]
fn a_sensor_can_be_switched_off() {
    require_kernel!();
    let agent = Agent::start(Options::default().flag("sensors-tcp", "false"));
    sees(&agent);
    let cgroup = Cgroup::new("off");
    let (workload, _) = Workload::run(&["loopback", "--count", "10"], &cgroup);
    let (marker, _) = Workload::run(&["spawn", "--count", "1"], &cgroup);
    agent.wait_count("podwitness_processes_started_total", &[("workload", cgroup.path())], 1);
    assert_eq!(agent.scrape().count("podwitness_tcp_connects_total", &[("workload", cgroup.path())]), 0);
    assert_eq!(http::get(agent.metrics, "/readyz").unwrap().status, 200);
    workload.finish();
    marker.finish();
}

/// What the agent does itself is none of its business, or it would keep itself busy.
#[test]
fn the_agent_does_not_count_its_own_calls() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("self");
    cgroup.add(agent.pid());
    let filtered = agent.scrape().outcomes("syscalls").filtered;
    wait_until(PATIENCE, "the agent filters its own calls", || {
        agent.scrape().outcomes("syscalls").filtered > filtered + 100
    });
    sees(&agent);
    let metrics = agent.scrape();
    assert!(metrics.series(CALLS, &[("workload", cgroup.path())]).is_empty());
    // A cgroup that still has the agent in it would take the agent with it when it goes.
    drop(agent);
}

/// Who asks the agent for its metrics shows on the asking side only.
#[test]
fn the_agent_does_not_count_connections_to_itself() {
    require_kernel!();
    const SCRAPES: usize = 20;
    let agent = Agent::start(Options::default());
    let port = u64::from(agent.metrics.port());
    let tail = agent.tail("?kind=tcp");
    for _ in 0..SCRAPES {
        agent.scrape();
    }
    let ours = |event: &serde_json::Value| event["kind"] == "tcp.close" && event["remote_port"] == port;
    tail.wait("the closes of the scrapes, on the side of the one who scraped", |tail| {
        (tail.events(ours).len() >= SCRAPES).then_some(())
    });
    let accepted = |tail: &Tail| tail.events(|event| event["local_port"] == port);
    assert!(accepted(&tail).is_empty(), "{:#?}", accepted(&tail));

    // Who listens on the same port of another address is somebody else.
    let neighbour = SocketAddr::from(([127, 0, 0, 2], agent.metrics.port()));
    let listener = TcpListener::bind(neighbour).unwrap();
    drop((TcpStream::connect(neighbour).unwrap(), listener.accept().unwrap()));
    let both = tail.wait("what is accepted by the neighbour, and closed", |tail| {
        Some(accepted(tail)).filter(|both| both.len() >= 2)
    });
    assert!(both.iter().all(|event| event["local_address"] == "127.0.0.2"), "{both:#?}");
}
