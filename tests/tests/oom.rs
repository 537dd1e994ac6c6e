//! The `oom` sensor: real kills by the limits of real cgroups.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use integration_tests::{
    Agent, Cgroup, Options, Tail, Workload, agent, kernel, require_kernel, require_vm, wait::unique,
};
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
        .find_map(|root| fs::read_to_string(format!("{root}/{format}")).ok());
    let Some(format) = format else {
        return kernel::left_out(
            "the kill's figures: mount tracefs at /sys/kernel/tracing, which tells which there are",
        );
    };
    if format.contains("anon_rss") {
        let anonymous = kill["anon_rss_bytes"].as_u64().unwrap();
        // Before 6.2 the kernel keeps up to 64 pages per thread out of the sum.
        let least = (victim_mib_at_least << 20).saturating_sub(64 * 4096);
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

    // What came after it and tells less has not pushed it out.
    Workload::run(&["spawn", "--count", "100", "--exit", "1"], &cgroup).0.finish();
    agent.wait_count(EXITS, &[of[0], ("reason", "error")], 100);
    // There is no pod: whoever asks why afterwards names the cgroup, or the last part of its path.
    let last = cgroup.path().trim_start_matches('/');
    for name in [cgroup.path(), last] {
        let output = agent::run(&["why", "--addr", &agent.debug.to_string(), name]);
        let text = String::from_utf8_lossy(&output.stdout);
        let death =
            format!("workload[{victim}]  killed for want of memory: the container's limit was reached");
        assert!(output.status.success() && text.contains(&death), "{name}: {output:?}");
        assert!(text.contains("of 101 deaths"), "{name}: {output:?}");
    }
}

/// The bigger process waits in its cgroup; the smaller one needs memory, and the bigger one dies for it. True if the
/// smaller one was killed after it.
///
/// That happens since Linux 6.1: a process that dies is no candidate any more as soon as its pages are unmapped, which is
/// before they are free (`exit_mmap`, mm/mmap.c). Who goes on asking in between is the next victim.
fn kill_the_bigger(victim: &mut Workload, trigger: &mut Workload) -> bool {
    trigger.go();
    assert_eq!(victim.wait().signal(), Some(libc::SIGKILL), "the bigger one is killed: {}", kernel_log());
    let is_killed = trigger.report_or_end().is_none();
    if is_killed {
        assert_eq!(trigger.wait().signal(), Some(libc::SIGKILL));
        println!("the smaller one was killed, too: {}", kernel_log());
    }
    is_killed
}

/// What the kernel has said about kills.
fn kernel_log() -> String {
    let log = Command::new("dmesg").output().map(|output| output.stdout).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| {
            line.contains("oom")
                || line.contains("Out of memory")
                || line.contains("Memory cgroup")
                || line.contains("workload")
        })
        .collect();
    lines[lines.len().saturating_sub(24)..].join("\n")
}

/// A kill in one container, by the need of another process in it.
#[test]
fn a_kill_triggered_by_another_process_is_told_apart() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("?kind=oom.kill");
    let cgroup = Cgroup::new("oom");
    cgroup.limit_memory(64);
    let (mut victim, _) = Workload::run(&["hog", "--mib", "44"], &cgroup);
    let mut trigger = Workload::prepare(&["hog", "--mib", "32"], &cgroup);
    let both = kill_the_bigger(&mut victim, &mut trigger);

    agent.wait_count(KILLS, &[("workload", cgroup.path())], 1 + u64::from(both));
    let kill = kill_of(&tail, victim.pid());
    check_kill(&kill, 44, "container", trigger.pid());
    if both {
        check_kill(&kill_of(&tail, trigger.pid()), 0, "container", trigger.pid());
    } else {
        trigger.finish();
    }
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
    let mut trigger = Workload::prepare(&["hog", "--mib", "32"], &b);
    let both = kill_the_bigger(&mut victim, &mut trigger);

    let of_a = [("workload_kind", "Pod"), ("pod", uid.as_str()), ("container", &id_a[..12])];
    agent.wait_count(KILLS, &of_a, 1);
    let of_b = [of_a[1], ("container", &id_b[..12])];
    agent.wait_count(KILLS, &of_b, u64::from(both));
    let metrics = agent.scrape();
    let series = metrics.series(KILLS, &of_a);
    assert_eq!(series.len(), 1, "one kill, one series: {series:#?}");
    assert_eq!(series[0].label("scope"), "pod");
    assert_eq!(series[0].label("workload"), uid);
    agent.wait_count(EXITS, &[of_a[1], of_a[2], ("reason", "oom_killed")], 1);

    let kill = kill_of(&tail, victim.pid());
    assert_eq!((&kill["pod"], &kill["container"]), (&Value::from(uid), &Value::from(&id_a[..12])), "{kill}");
    check_kill(&kill, 44, "pod", trigger.pid());
    if both {
        check_kill(&kill_of(&tail, trigger.pid()), 0, "pod", trigger.pid());
    } else {
        trigger.finish();
    }
}

/// Who is dying when a victim is sought is chosen, and gives up its memory; the kernel kills nobody.
#[test]
fn who_is_dying_anyway_is_not_killed() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    // Before 5.16 a traced process with one thread that gets another signal than SIGKILL isn't dying yet where it is held.
    let signals = [libc::SIGKILL, libc::SIGTERM];
    for signal in &signals[..if kernel::release() >= (5, 16) { 2 } else { 1 }] {
        let cgroup = Cgroup::new("oom-dying");
        cgroup.limit_memory(64);
        let arguments = ["linger", "--mib", "44", "--signal", &signal.to_string()];
        let (mut dying, _) = Workload::run(&arguments, &cgroup);
        let (hog, _) = Workload::run(&["hog", "--mib", "40"], &cgroup);
        dying.go();
        dying.report();
        for survivor in [dying, hog] {
            survivor.finish();
        }
        let of = [("workload", cgroup.path())];
        agent.wait_count(EXITS, &of, 3);
        agent.wait_count(EXITS, &[of[0], ("reason", "signal")], 1);
        assert_eq!(agent.scrape().count(KILLS, &of), 0, "{}", kernel_log());
    }
}

/// Nobody has a limit, and the node itself runs out of memory.
#[test]
fn a_kill_for_want_of_memory_of_the_node_is_told_apart() {
    require_kernel!();
    require_vm!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("");
    // Whoever asks in the moment between the victim's death and the end of its pages has another one killed: see
    // `kill_the_bigger`. That must not be the agent, nor this test.
    let spare = Workload::prepare(&["blocked"], &Cgroup::new("oom-spare"));
    fs::write(format!("/proc/{}/oom_score_adj", spare.pid()), "500").unwrap();
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
