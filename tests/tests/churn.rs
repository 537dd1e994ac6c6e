//! Containers that come and go all day: nothing of them is lost while they are there, and nothing of them is left
//! once they are forgotten.

use integration_tests::{
    Agent, Cgroup, Metrics, Options, Workload, kernel, require_kernel,
    wait::{PATIENCE, fewer, unique, wait_for, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
/// Containers that live at the same time.
const WAVE: u64 = 250;
/// Calls of each container that the agent has to find again.
const GETPPIDS: u64 = 7;
const SLOTS: u64 = 1024;
/// Bytes of pages that what is in use lies scattered on.
const SCATTERED: u64 = 8 << 20;
/// Bytes of the heap that tables may keep: room for 64 entries or nearly four times as many, by how many were left of those
/// who needed it when the agent looked. A container that left 50 bytes behind would take as much.
const ROOM: u64 = 256 << 10;
/// Cgroups that others on this machine may bring to life meanwhile.
const OTHERS: u64 = 16;

#[test]
fn five_thousand_containers_leave_nothing_behind() {
    require_kernel!();
    let options = Options::default()
        .flag("metrics-grace", "1s")
        // In force, and not reached: what the budget remembers is forgotten, too.
        .flag("metrics-series-limit", "10000000")
        .flag("identity-scan-interval", "1s")
        .flag("limits-map-memory", "1GiB")
        // What is free counts as free: without this, glibc's threads keep some of it each, and call it used.
        .variable("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    let agent = Agent::start(options.flag("limits-slots", &SLOTS.to_string()));
    let node = Cgroup::at(&format!("/podwitness-test-churn-{}/kubepods/besteffort", unique()));
    let cold = forgotten(&agent);
    // The first wave makes room that is kept: tables of the agent's that grow, its threads' first allocations.
    live_and_die(&agent, &node, 0);
    let before = forgotten(&agent);
    for wave in 1..=fewer(5000) / WAVE {
        // Those of the wave before last are free after the next look at the tables.
        wait_until(PATIENCE, "there are slots for one more wave", || {
            Usage::of(&agent).slots + WAVE + OTHERS < SLOTS
        });
        live_and_die(&agent, &node, wave);
    }
    wait_until(PATIENCE, "the heap is about as small as before", || {
        let heap = Usage::of(&agent).heap;
        eprintln!("heap: {heap} bytes, before {}", before.heap);
        heap <= before.heap + ROOM
    });
    let after = forgotten(&agent);
    println!("at start: {cold:?}\nbefore:   {before:?}\nafter:    {after:?}");
    assert!(after.slots <= before.slots + OTHERS, "slots: {before:?}, then {after:?}");
    assert!(after.alive <= before.alive + OTHERS, "cgroups: {before:?}, then {after:?}");
    assert!(after.heap <= before.heap + ROOM, "heap: {before:?}, then {after:?}");
    assert_eq!(after.kernel, before.kernel, "kernel memory");
    // A page of it is given back only when nothing on it is in use; but nobody keeps a crowd's pages.
    assert!(after.anonymous <= before.anonymous + SCATTERED, "anonymous memory: {before:?}, then {after:?}");
    assert_eq!(after.missed, before.missed, "each was told apart, and nothing was lost");
}

/// Waits until nothing is known of the containers that were, and what they took is given back.
#[track_caller]
fn forgotten(agent: &Agent) -> Usage {
    wait_until(PATIENCE, "their series are gone", || !agent.scrape_text().contains(&pod_uids()));
    let usage = wait_for(PATIENCE, "the cgroups that are gone are forgotten", || {
        Some(Usage::of(agent)).filter(|usage| usage.dead == 0)
    });
    // The agent gives back what the last page took when it has scanned the cgroups, here every second.
    let (mut anonymous, mut looks) = (u64::MAX, 0);
    wait_until(PATIENCE, "memory falls no more", || {
        let now = kernel::anonymous_memory(agent.pid());
        looks = if now < anonymous { 0 } else { looks + 1 };
        anonymous = anonymous.min(now);
        looks == 150
    });
    // The least of a few: a page of metrics that is being rendered is on the heap, too.
    let heap = (0..5).map(|_| Usage::of(agent).heap).min().unwrap_or(usage.heap);
    Usage { heap, anonymous, ..usage }
}

/// One wave: all at once they run a process each, are seen, and go.
#[track_caller]
fn live_and_die(agent: &Agent, node: &Cgroup, wave: u64) {
    let numbers = wave * WAVE..(wave + 1) * WAVE;
    let pods: Vec<_> = numbers.map(|number| Pod::new(node, number)).collect();
    let calls = GETPPIDS.to_string();
    let directory = |pod: &Pod| pod.container.directories()[0].display().to_string();
    let directories = pods.iter().map(directory).collect::<Vec<_>>().join(",");
    // A child for each container, of a helper that stays outside: pods hold no processes themselves.
    let outside = Cgroup::new("visitor");
    let (workload, _) = Workload::run(&["visit", "--cgroups", &directories, "--getppid", &calls], &outside);
    workload.finish();
    wait_until(PATIENCE, "each container's calls are counted for itself", || {
        let page = agent.scrape_text();
        let ours = page.lines().filter(|line| line.contains(&pod_uids()) && line.contains("\"getppid\""));
        let counters = Metrics::parse(&ours.collect::<Vec<_>>().join("\n"));
        pods.iter().all(|pod| {
            let calls = counters.count(CALLS, &[("workload_kind", "Pod"), ("pod", &pod.uid)]);
            assert!(calls <= GETPPIDS, "{}: {calls} calls", pod.uid);
            calls == GETPPIDS
        })
    });
}

/// A pod with one container, whose cgroups are named as the kubelet does.
struct Pod {
    uid: String,
    container: Cgroup,
    /// Removed after the container.
    _cgroup: Cgroup,
}

impl Pod {
    fn new(node: &Cgroup, number: u64) -> Self {
        let uid = format!("{}{number:012x}", pod_uids());
        let cgroup = node.child(&format!("pod{uid}"));
        let container = cgroup.child(&format!("{number:064x}"));
        Self { uid, container, _cgroup: cgroup }
    }
}

/// What the UIDs of all pods of this run begin with.
fn pod_uids() -> String {
    format!("{:08x}-0000-4000-8000-", std::process::id())
}

/// What the agent has in use.
#[derive(Debug)]
struct Usage {
    /// Bytes on the heap that are allocated.
    heap: u64,
    /// Bytes of anonymous memory: the heap with what is free in it, and stacks.
    anonymous: u64,
    /// Bytes of kernel memory.
    kernel: u64,
    slots: u64,
    alive: u64,
    dead: u64,
    /// Whatever is counted where something is lost or not told apart.
    missed: Vec<(&'static str, u64)>,
}

impl Usage {
    #[track_caller]
    fn of(agent: &Agent) -> Self {
        let page = agent.scrape_text();
        // A page of a thousand workloads is long; of theirs, only the one that stands for all others matters.
        let is_wanted = |line: &&str| !line.contains("workload_kind=") || line.contains("workload=\"other\"");
        let metrics = Metrics::parse(&page.lines().filter(is_wanted).collect::<Vec<_>>().join("\n"));
        let cgroups = |state| metrics.count("podwitness_identity_cgroups", &[("state", state)]);
        let missed: [(_, &[_]); 7] = [
            (CALLS, &[("workload", "other")]),
            ("podwitness_identity_resolutions_total", &[("way", "never")]),
            ("podwitness_identity_refused_total", &[]),
            ("podwitness_identity_evicted_total", &[]),
            ("podwitness_accounts_dropped_total", &[]),
            ("podwitness_sensor_events_total", &[("sensor", "cgroup"), ("outcome", "lost")]),
            ("podwitness_sensor_events_total", &[("sensor", "process"), ("outcome", "lost")]),
        ];
        Self {
            heap: metrics.count("podwitness_heap_bytes", &[]),
            anonymous: kernel::anonymous_memory(agent.pid()),
            kernel: metrics.count("podwitness_kernel_memory_bytes", &[]),
            slots: metrics.count("podwitness_slots_used", &[]),
            alive: cgroups("alive"),
            dead: cgroups("dead"),
            missed: missed.iter().map(|(name, labels)| (*name, metrics.count(name, labels))).collect(),
        }
    }
}
