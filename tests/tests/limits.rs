//! Bounds: what happens when there is more of something than there is room for.

use integration_tests::{
    Agent, Cgroup, Metrics, Options, Workload, kernel, require_kernel,
    wait::{PATIENCE, fewer, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
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

/// More cgroups at once than there are slots: what has no slot of its own is counted together, not lost.
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
