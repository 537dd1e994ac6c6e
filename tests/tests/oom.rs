//! The `oom` sensor: real kills by the limits of real cgroups.

use std::{fs, os::unix::process::ExitStatusExt};

use integration_tests::{Agent, Cgroup, Options, Tail, Workload, require_kernel, require_vm, wait::unique};
use serde_json::Value;

const KILLS: &str = "podwitness_oom_kills_total";
const EXITS: &str = "podwitness_process_exits_total";

/// Lets the helper run into the limit, and checks that the kernel killed it.
fn run_into_limit(mut victim: Workload) -> u32 {
    let pid = victim.pid();
    victim.go();
    assert_eq!(victim.wait().signal(), Some(libc::SIGKILL), "the kernel kills what is over the limit");
    pid
}

/// The one kill that the tail tells of this victim.
fn kill_of(tail: &Tail, victim: u32) -> Value {
    let mut kills = tail.wait("the OOM kill in the tail", |tail| {
        let kills = tail.events(|event| event["kind"] == "oom.kill" && event["pid"] == victim);
        (!kills.is_empty()).then_some(kills)
    });
    assert_eq!(kills.len(), 1, "{kills:#?}");
    kills.remove(0)
}

fn check_kill(kill: &Value, victim_mib_at_least: u64, scope: &str, trigger: u32) {
    assert_eq!(kill["comm"], "workload", "{kill}");
    assert_eq!(kill["tid"], kill["pid"], "{kill}");
    assert_eq!(kill["scope"], scope, "{kill}");
    assert_eq!(kill["trigger_pid"], trigger, "{kill}");
    assert_eq!(kill["trigger_comm"], "workload", "{kill}");
    assert_eq!(kill["uid"], 0, "{kill}");
    // Fields that this kernel's tracepoint has; without them the agent can't know.
    let format = "events/oom/mark_victim/format";
    let format = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|root| fs::read_to_string(format!("{root}/{format}")).ok())
        .unwrap_or_default();
    if format.contains("anon_rss") {
        let anonymous = kill["anon_rss_bytes"].as_u64().unwrap();
        // Before 6.2 the kernel keeps up to 64 pages per thread out of the sum.
        let least = (victim_mib_at_least << 20) - 64 * 4096;
        assert!(anonymous >= least, "{anonymous} bytes of anonymous memory, at least {least} were: {kill}");
        assert!(kill["total_vm_bytes"].as_u64().unwrap() > anonymous, "{kill}");
        assert!(kill["pgtables_bytes"].as_u64().unwrap() > 0, "{kill}");
    }
}

#[test]
fn a_kill_by_the_own_limit_names_victim_container_and_scope() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("?kind=oom.kill");
    let cgroup = Cgroup::new("oom");
    cgroup.limit_memory(32);
    let victim = run_into_limit(Workload::prepare(&["hog", "--mib", "64"], &cgroup));

    let of = [("workload", cgroup.path())];
    agent.wait_count(KILLS, &of, 1);
    agent.wait_count(KILLS, &[of[0], ("scope", "container")], 1);
    agent.wait_count(EXITS, &[of[0], ("reason", "oom_killed")], 1);
    agent.wait_count(EXITS, &of, 1);
    let kill = kill_of(&tail, victim);
    assert_eq!(kill["workload"], cgroup.path(), "{kill}");
    // The limit is 32 MiB; what the process had before it was moved here is charged elsewhere.
    check_kill(&kill, 24, "container", victim);
}

/// The bigger process waits; a smaller one of the same container needs memory, and the bigger one dies for it.
#[test]
fn a_kill_triggered_by_another_process_is_told_apart() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("?kind=oom.kill");
    let cgroup = Cgroup::new("oom");
    cgroup.limit_memory(64);
    let (mut victim, _) = Workload::run(&["hog", "--mib", "44"], &cgroup);
    let (trigger, _) = Workload::run(&["hog", "--mib", "32"], &cgroup);
    assert_eq!(victim.wait().signal(), Some(libc::SIGKILL));

    agent.wait_count(KILLS, &[("workload", cgroup.path())], 1);
    let kill = kill_of(&tail, victim.pid());
    check_kill(&kill, 44, "container", trigger.pid());
    trigger.finish();
}

/// A limit of a cgroup above the container's that is no pod's.
#[test]
fn a_kill_by_the_limit_of_an_ancestor_has_its_own_scope() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("?kind=oom.kill");
    let parent = Cgroup::new("oom-parent");
    parent.limit_memory(32);
    let cgroup = parent.child("inner");
    let victim = run_into_limit(Workload::prepare(&["hog", "--mib", "64"], &cgroup));
    agent.wait_count(KILLS, &[("workload", cgroup.path()), ("scope", "ancestor")], 1);
    check_kill(&kill_of(&tail, victim), 24, "ancestor", victim);
}

/// The pod's limit: a process of container B needs memory, and the bigger one in container A dies. The kill
/// belongs to A, where the victim was, although B's process ran into the limit.
#[test]
fn a_kill_by_the_limit_of_the_pod_belongs_to_the_container_of_the_victim() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("?kind=oom.kill");
    let number = format!("{:0>12}", unique().replace('-', ""));
    let uid = format!("5ca1ab1e-0000-4000-8000-{number}");
    let pod = Cgroup::at(&format!("/kubepods/burstable/pod{uid}"));
    pod.limit_memory(64);
    let (id_a, id_b) = (container_id('a', &number), container_id('b', &number));
    let (a, b) = (pod.child(&id_a), pod.child(&id_b));
    let (mut victim, _) = Workload::run(&["hog", "--mib", "44"], &a);
    let (trigger, _) = Workload::run(&["hog", "--mib", "32"], &b);
    assert_eq!(victim.wait().signal(), Some(libc::SIGKILL));

    let of_a = [("workload_kind", "Pod"), ("pod", uid.as_str()), ("container", &id_a[..12])];
    agent.wait_count(KILLS, &of_a, 1);
    let metrics = agent.scrape();
    let series = metrics.series(KILLS, &[("pod", &uid)]);
    assert_eq!(series.len(), 1, "one kill, one series: {series:#?}");
    assert_eq!(series[0].label("scope"), "pod");
    assert_eq!(series[0].label("workload"), uid);
    agent.wait_count(EXITS, &[of_a[1], of_a[2], ("reason", "oom_killed")], 1);

    let kill = kill_of(&tail, victim.pid());
    assert_eq!((&kill["pod"], &kill["container"]), (&Value::from(uid), &Value::from(&id_a[..12])), "{kill}");
    check_kill(&kill, 44, "pod", trigger.pid());
    trigger.finish();
}

/// Nobody has a limit, and the node itself runs out of memory.
#[test]
fn a_kill_for_want_of_memory_of_the_node_is_told_apart() {
    require_kernel!();
    require_vm!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("");
    let cgroup = Cgroup::new("oom-node");
    let mebibytes = memory_mib().to_string();
    let victim = run_into_limit(Workload::prepare(&["hog", "--mib", &mebibytes], &cgroup));

    let of = [("workload", cgroup.path())];
    agent.wait_count(KILLS, &[of[0], ("scope", "node")], 1);
    agent.wait_count(EXITS, &[of[0], ("reason", "oom_killed")], 1);
    // Whoever asks for the page that isn't there triggers the kill: most likely, but not surely, the victim.
    let kill = kill_of(&tail, victim);
    assert_eq!((&kill["scope"], &kill["workload"]), (&"node".into(), &cgroup.path().into()), "{kill}");
}

/// What the kernel has in all; a part of it is always in use.
fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    total.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// 64 hexadecimal digits that are this container's alone.
fn container_id(letter: char, number: &str) -> String {
    format!("{}{number:0>52}", letter.to_string().repeat(12))
}
