//! Bounds: what happens when there is more of something than there is room for.

use std::{fs, path::Path};

use integration_tests::{
    Agent, Cgroup, Metrics, Options, Workload, hierarchies, kernel, refused, require_kernel,
    wait::{PATIENCE, fewer, wait_until},
};
use serde_json::Value;

const CALLS: &str = "podwitness_syscalls_total";
const DURATION: &str = "podwitness_syscall_duration_seconds";
/// Bytes of counters that a container more may take, and of what the rings bring meanwhile.
const HARDLY: u64 = 512 << 10;

/// More cgroups come and go than there are slots in the kernel's tables: each is counted for itself.
#[test]
fn slots_of_dead_cgroups_are_used_again() {
    require_kernel!();
    let agent =
        Agent::start(Options::default().flag("limits-slots", "128").flag("metrics-series-limit", "0"));
    let mut cgroups = Vec::new();
    for index in 0..200 {
        // Others use slots too; a dead cgroup's is free after the next look at the tables.
        wait_until(PATIENCE, "half of the slots are free", || {
            index % 16 != 0 || agent.scrape().sum("podwitness_slots_used", &[]) <= 64.0
        });
        let cgroup = Cgroup::new("churn");
        let calls = (1000 + index).to_string();
        let mut workload = Workload::born_in(&["syscalls", "--getppid", &calls], &cgroup);
        workload.go();
        workload.report();
        workload.finish();
        cgroup.remove();
        cgroups.push(cgroup);
    }
    wait_until(PATIENCE, "every one of them is counted for itself", || {
        let metrics = agent.scrape();
        cgroups.iter().zip(1000..).all(|(cgroup, calls)| {
            let count = metrics.count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")]);
            assert!(count <= calls, "{}: {count}, but {calls} were made", cgroup.path());
            count == calls
        })
    });
}

/// Tables and rings are as large as they may have to be; of that, the agent has mapped what it has read of late.
#[test]
fn little_of_large_tables_is_mapped() {
    require_kernel!();
    let options = Options::default().flag("limits-slots", "4096").flag("limits-map-memory", "8GiB");
    let options = options.flag("events-rate", "0").flag("identity-scan-interval", "1s");
    let agent = Agent::start(options);
    let all = agent.scrape().count("podwitness_kernel_memory_bytes", &[]);
    let at_first = kernel::mapped_maps(agent.pid());
    assert!(at_first > 0 && at_first < all / 32, "{at_first} of {all} bytes are mapped");
    let cgroup = Cgroup::new("tables");
    // Some megabytes of events, which go half round the ring.
    let connections = fewer(5000);
    let (workload, _) = Workload::run(&["loopback", "--count", &connections.to_string()], &cgroup);
    workload.finish();
    wait_until(PATIENCE, "they are counted", || {
        let closes = agent.scrape().count("podwitness_tcp_closes_total", &[("workload", cgroup.path())]);
        closes == 2 * connections
    });
    wait_until(PATIENCE, "the rings are hardly mapped any more", || {
        kernel::mapped_maps(agent.pid()) < at_first + HARDLY
    });
}

/// More cgroups at once than there are slots: what has no slot of its own is counted together, not lost.
#[test]
fn calls_without_a_slot_are_counted_together() {
    require_kernel!();
    let agent = Agent::start(Options::default().flag("limits-slots", "4"));
    let of_others = |metrics: &Metrics| {
        let unknown = metrics.series(CALLS, &[("syscall", "getppid"), ("workload_kind", "unknown")]);
        unknown.iter().map(|series| series.value).sum::<f64>()
    };
    let before = of_others(&agent.scrape());
    let mut alive = Vec::new();
    for _ in 0..16 {
        let cgroup = Cgroup::new("crowd");
        let (workload, _) = Workload::run(&["syscalls", "--getppid", "1000"], &cgroup);
        alive.push((workload, cgroup));
    }
    let own = |metrics: &Metrics, cgroup: &Cgroup| {
        metrics.sum(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")])
    };
    wait_until(PATIENCE, "all calls are counted somewhere", || {
        let metrics = agent.scrape();
        let of_ours: f64 = alive.iter().map(|(_, cgroup)| own(&metrics, cgroup)).sum();
        of_ours + of_others(&metrics) - before >= 16_000.0
    });
    let metrics = agent.scrape();
    assert!(of_others(&metrics) - before >= 12_000.0, "four slots can't hold more than four cgroups");
    for (_, cgroup) in &alive {
        let own = own(&metrics, cgroup);
        assert!(own == 0.0 || own == 1000.0, "{}: {own}: a cgroup has a slot or it has none", cgroup.path());
    }
}

/// A cgroup in which one process makes these calls, and then ends.
fn short_life(getppid: u64) -> Cgroup {
    let cgroup = Cgroup::new("short");
    let mut workload = Workload::born_in(&["syscalls", "--getppid", &getppid.to_string()], &cgroup);
    workload.go();
    workload.report();
    workload.finish();
    cgroup.remove();
    cgroup
}

/// The series of a container end some time after it has. What the agent counts of its own work doesn't.
#[test]
fn what_the_agent_has_seen_never_becomes_less() {
    require_kernel!();
    const GETPPID: u64 = 200_000;
    let agent = Agent::start(Options::default().flag("metrics-grace", "1s"));
    let cgroup = short_life(GETPPID);
    let of = [("workload", cgroup.path()), ("syscall", "getppid")];
    agent.wait_count(CALLS, &of, GETPPID);
    let (mut seen, mut delivered) = (0, 0);
    wait_until(PATIENCE, "its series end", || {
        let metrics = agent.scrape();
        let outcomes = metrics.outcomes("syscalls");
        assert!(outcomes.seen >= seen, "{} seen, {seen} before", outcomes.seen);
        assert!(outcomes.delivered >= delivered, "{} delivered, {delivered} before", outcomes.delivered);
        (seen, delivered) = (outcomes.seen, outcomes.delivered);
        metrics.series(CALLS, &of).is_empty()
    });
    assert!(agent.scrape().outcomes("syscalls").seen >= seen);
}

/// How many cgroups there are on this machine.
fn cgroups() -> usize {
    fn below(directory: &Path) -> usize {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        1 + directories.map(|entry| below(&entry.path())).sum::<usize>()
    }
    hierarchies().iter().map(|hierarchy| below(hierarchy)).max().unwrap_or(0)
}

/// The longest dead are forgotten early where room is needed. What they did is not somebody else's then.
#[test]
fn containers_that_are_forgotten_early_do_not_become_unknown() {
    require_kernel!();
    const GETPPID: u64 = 50_000;
    let limit = (cgroups() + 8).max(16);
    let agent = Agent::start(Options::default().flag("limits-containers", &limit.to_string()));
    let unknown = |metrics: &Metrics| {
        metrics.sum(CALLS, &[("workload_kind", "unknown"), ("workload", ""), ("syscall", "getppid")])
    };
    let before = unknown(&agent.scrape());
    let cgroup = short_life(GETPPID);
    let of = [("workload", cgroup.path()), ("syscall", "getppid")];
    agent.wait_count(CALLS, &of, GETPPID);
    for _ in 0..2 * limit {
        short_life(10);
    }
    wait_until(PATIENCE, "its series end", || agent.scrape().series(CALLS, &of).is_empty());
    let more = unknown(&agent.scrape()) - before;
    assert!(more < GETPPID as f64, "{more} more calls of nobody known");
}

/// Of more cgroups than can be remembered, the kernel has a slot all the same, as long as there are any.
#[test]
fn slots_of_cgroups_that_nobody_remembers_are_taken_back() {
    require_kernel!();
    let limit = (cgroups() + 4).max(16);
    // Room for those that are made here, and for all others.
    let slots = (4 * limit).max(1024);
    let options = Options::default().flag("limits-containers", &limit.to_string());
    let options = options.flag("limits-slots", &slots.to_string()).flag("limits-map-memory", "8GiB");
    let agent = Agent::start(options.flag("metrics-grace", "1s"));
    let live = || {
        let cgroup = Cgroup::new("crowd");
        let (workload, _) = Workload::run(&["syscalls", "--getppid", "1"], &cgroup);
        (workload, cgroup)
    };
    let alive: Vec<_> = (0..2 * limit).map(|_| live()).collect();
    let used = || agent.scrape().count("podwitness_slots_used", &[]);
    wait_until(PATIENCE, "each has a slot", || used() >= alive.len() as u64);
    let before = used();
    for _ in 0..16 {
        short_life(1);
    }
    wait_until(PATIENCE, "those who came and went have left no slot behind", || used() <= before);
}

/// Where tasks have no storage, what belongs to those that sleep is kept in a table. Of those that find no room there the
/// durations are lost, not the calls.
#[test]
fn calls_of_tasks_without_room_are_untimed() {
    require_kernel!();
    const SLEEPERS: u64 = 400;
    let typed = Options::default();
    let mut ways = vec![(typed.clone(), kernel::release() >= (6, 4))];
    if refused::is_the_rule() {
        eprintln!(
            "not run without types: on this kernel tasks preempt each other there, and runs are missed"
        );
    } else {
        ways.push((typed.without_btf(), false));
    }
    for ((options, has_storage), room) in ways.into_iter().flat_map(|way| [(way.clone(), 128), (way, 16384)])
    {
        let agent = Agent::start(options.flag("limits-tasks", &room.to_string()));
        assert_eq!(agent.scrape().count("podwitness_limit", &[("key", "limits.tasks")]), room);
        let cgroup = Cgroup::new("tasks");
        let (workload, truth) = Workload::run(&["blocked", "--sleepers", &SLEEPERS.to_string()], &cgroup);
        let tids = truth["tids"].as_array().unwrap();
        wait_until(PATIENCE, "all threads sleep", || {
            let sleeps = |tid: &Value| {
                kernel::blocked_in(workload.pid(), tid.as_u64().unwrap() as u32) == Some(libc::SYS_nanosleep)
            };
            tids.iter().all(sleeps)
        });
        workload.kill();
        agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "nanosleep")], SLEEPERS);
        let metrics = agent.scrape();
        let timed =
            metrics.count(&format!("{DURATION}_count"), &[("workload", cgroup.path()), ("class", "sleep")]);
        let most = if has_storage { SLEEPERS } else { room.min(SLEEPERS) };
        assert!(timed <= most, "{timed} calls of {SLEEPERS} are timed, with room for {room}");
        assert!(timed == SLEEPERS || most < SLEEPERS, "only {timed} calls of {SLEEPERS} are timed");
        assert!(metrics.count("podwitness_syscalls_untimed_total", &[]) >= SLEEPERS - timed);
    }
}

/// All maps count, and what they leave is for slots.
#[test]
fn the_maps_take_the_memory_that_they_may() {
    require_kernel!();
    let most = 48 << 20;
    let options = Options::default()
        .flag("limits-map-memory", "48MiB")
        .flag("limits-slots", "65535")
        .flag("limits-sockets", "50000")
        .flag("limits-tasks", "30000")
        .flag("limits-containers", "20000");
    let agent = Agent::start(options);
    let metrics = agent.scrape();
    let bytes = metrics.count("podwitness_kernel_memory_bytes", &[]);
    // Until 6.3 the kernel accounts for what is in a hash, not for the hash (`bpf_map_memory_footprint`).
    let least = if kernel::release() >= (6, 4) { most * 9 / 10 } else { most * 7 / 10 };
    assert!((least..=most).contains(&bytes), "{bytes} of {most}");
    assert!(metrics.count("podwitness_limit", &[("key", "limits.slots")]) < 65535);
}

/// Seccomp may answer with thousands of numbers that are no error's: they take no more room than they show.
#[test]
fn errors_without_a_name_are_counted_together() {
    require_kernel!();
    const ERRORS: &str = "podwitness_syscall_errors_total";
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("errors");
    let arguments = ["refused", "--errno", "2000", "--errnos", "500", "--count", "1500"];
    let (workload, _) = Workload::run(&arguments, &cgroup);
    let of = [("workload", cgroup.path()), ("syscall", "mount"), ("errno", "other")];
    agent.wait_count(ERRORS, &of, 1500);
    assert_eq!(agent.scrape().series(ERRORS, &of[..2]).len(), 1);
    workload.finish();
}
