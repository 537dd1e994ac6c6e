//! The `io_uring` sensor against a helper that submits requests in exact numbers.

use std::fs;

use integration_tests::{
    Agent, Api, Cgroup, Metrics, Options, Workload, kernel,
    refused::exactly,
    require_kernel,
    wait::{PATIENCE, fewer, unique, wait_until},
};
use serde_json::Value;

const RINGS: &str = "podwitness_io_uring_rings_total";
const SUBMISSIONS: &str = "podwitness_io_uring_submissions_total";

/// Leaves the test with a sentence where nobody may use io_uring.
macro_rules! require_io_uring {
    () => {
        require_kernel!();
        if let Err(error) = ::io_uring::IoUring::new(1) {
            let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            let reason = format!("io_uring_setup: {error}; kernel.io_uring_disabled={}", disabled.trim());
            return kernel::not_run(reason);
        }
    };
}

/// What a cgroup's rings were asked to do.
#[derive(Clone, Copy)]
struct Work {
    rings: u64,
    nops: u64,
    reads: u64,
    polled: bool,
}

impl Work {
    fn arguments(self) -> Vec<String> {
        let Self { rings, nops, reads, polled } = self;
        let text = format!(
            "io_uring --rings {rings} --nops {nops} --reads {reads} --refused 7 --polled {polled} --pause true"
        );
        text.split(' ').map(str::to_owned).collect()
    }

    /// A helper that is in `cgroup` and waits for the word to begin.
    #[track_caller]
    fn prepare(self, cgroup: &Cgroup) -> Workload {
        let arguments = self.arguments();
        Workload::prepare(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), cgroup)
    }
}

/// Lets a helper make its rings.
#[track_caller]
fn make_rings(workload: &mut Workload) {
    workload.go();
    assert_eq!(workload.report(), Value::from("made"));
}

/// Counts of rings, of requests that do nothing, of reads, and of requests of any kind.
fn counts(metrics: &Metrics, workload: &str) -> [u64; 4] {
    let of = [("workload", workload)];
    let submitted = |opcode| metrics.count(SUBMISSIONS, &[of[0], ("opcode", opcode)]);
    [metrics.count(RINGS, &of), submitted("nop"), submitted("read"), metrics.count(SUBMISSIONS, &of)]
}

#[test]
fn io_uring_is_counted_exactly() {
    require_io_uring!();
    exactly(|| exact(false, Options::default()));
}

/// The kernel's own thread takes the requests: no task of the container is in a system call meanwhile.
#[test]
fn polled_io_uring_is_counted_exactly() {
    require_io_uring!();
    exactly(|| exact(true, Options::default()));
}

/// What Linux 7.0 and later get by default.
#[test]
fn classic_tracepoints_count_io_uring_exactly() {
    require_io_uring!();
    let classic = || Options::default().flag("sensors-syscalls-hook", "classic");
    exactly(|| exact(false, classic()));
    exactly(|| exact(true, classic()));
}

/// Two cgroups at once, a third one that has nothing to do with it, and a count that stays.
fn exact(polled: bool, options: Options) {
    let agent = Agent::start(options);
    let [first, second, bystander] = ["first", "second", "bystander"].map(Cgroup::new);
    let works = [
        Work { rings: 4, nops: fewer(40_000), reads: 3_001, polled },
        Work { rings: 1, nops: 513, reads: fewer(20_000), polled },
    ];
    let mut workloads = [works[0].prepare(&first), works[1].prepare(&second)];
    let before = agent.scrape();
    workloads.iter_mut().for_each(make_rings);
    workloads.iter_mut().for_each(Workload::go);
    for workload in &mut workloads {
        workload.report();
    }
    for (Work { rings, nops, reads, .. }, cgroup) in works.into_iter().zip([&first, &second]) {
        // What the kernel refuses as it is, it hasn't taken.
        let expected = [rings, nops, reads, nops + reads];
        agent.wait_count(SUBMISSIONS, &[("workload", cgroup.path())], nops + reads);
        let metrics = agent.scrape();
        assert_eq!(counts(&metrics, cgroup.path()), expected);
        let series = metrics.series(RINGS, &[("workload", cgroup.path())]);
        assert_eq!(series[0].label("workload_kind"), "cgroup");
    }
    let after = agent.scrape();
    assert_eq!(counts(&after, bystander.path()), [0; 4]);
    for unattributed in [("workload_kind", "unknown"), ("workload_kind", "host"), ("workload", "other")] {
        for name in [RINGS, SUBMISSIONS] {
            assert_eq!(after.count(name, &[unattributed]), before.count(name, &[unattributed]));
        }
    }
    let outcomes = after.outcomes("io_uring");
    assert!(outcomes.balanced(), "{outcomes:?}");
    let all = after.count(RINGS, &[]) + after.count(SUBMISSIONS, &[]);
    assert_eq!((outcomes.delivered, outcomes.filtered), (all, 0));
    // The end of the rings is no request.
    let expected = counts(&after, first.path());
    workloads.into_iter().for_each(Workload::finish);
    first.remove();
    wait_until(PATIENCE, "its slot is taken back", || {
        agent.scrape().count("podwitness_slots_recycled_total", &[]) > 0
    });
    assert_eq!(counts(&agent.scrape(), first.path()), expected);
}

/// A ring belongs to whoever makes it, a request to whoever submits it, wherever that is by then; the thread that
/// polls goes with its process.
#[test]
fn io_uring_is_counted_where_its_process_is() {
    require_io_uring!();
    exactly(|| {
        let agent = Agent::start(Options::default());
        let active = [("sensor", "io_uring"), ("state", "active")];
        assert_eq!(agent.scrape().count("podwitness_sensor_state", &active), 1);
        for polled in [false, true] {
            let [before, after] = ["before", "after"].map(Cgroup::new);
            let mut workload = Work { rings: 2, nops: 1_000, reads: 10, polled }.prepare(&before);
            make_rings(&mut workload);
            if !after.try_add(workload.pid()) {
                assert!(kernel::is_vm(), "this kernel moves such processes");
                // Threads that may not be given other CPUs (kernel/cgroup/cpuset.c), as those of io_uring on old ones.
                eprintln!("not run: this kernel moves no process that has threads for io_uring");
                continue;
            }
            workload.go();
            workload.report();
            agent.wait_count(SUBMISSIONS, &[("workload", after.path())], 1_010);
            let metrics = agent.scrape();
            assert_eq!(counts(&metrics, before.path()), [2, 0, 0, 0], "polled: {polled}");
            assert_eq!(counts(&metrics, after.path()), [0, 1_000, 10, 1_010], "polled: {polled}");
            workload.finish();
        }
    });
}

/// More cgroups, one after the other, than there are slots: a slot begins at zero for the next one.
#[test]
fn slots_with_io_uring_are_read_and_emptied() {
    require_io_uring!();
    exactly(|| {
        let agent = Agent::start(Options::default().flag("limits-slots", "32"));
        let mut cgroups = Vec::new();
        for index in 0..48 {
            wait_until(PATIENCE, "half of the slots are free", || {
                index % 8 != 0 || agent.scrape().sum("podwitness_slots_used", &[]) <= 16.0
            });
            let cgroup = Cgroup::new("turn");
            let mut workload = Work { rings: 1, nops: 500 + index, reads: 1, polled: false }.prepare(&cgroup);
            make_rings(&mut workload);
            workload.go();
            workload.report();
            workload.finish();
            cgroup.remove();
            cgroups.push(cgroup);
        }
        let is_exact = |metrics: &Metrics| {
            let mut each = cgroups.iter().zip(500..);
            each.all(|(cgroup, nops)| counts(metrics, cgroup.path()) == [1, nops, 1, nops + 1])
        };
        wait_until(PATIENCE, "every one of them is counted for itself", || is_exact(&agent.scrape()));
    });
}

/// What is left alone leaves no trace but in the sum of what was passed over.
#[test]
fn io_uring_of_an_excluded_container_leaves_no_trace() {
    require_io_uring!();
    let number = format!("{:0>12}", unique().replace('-', ""));
    let uid = |pod: u32| format!("5ca1ab1e-000{pod}-4000-8000-{}", &number[number.len() - 12..]);
    let pod = |pod: u32, namespace: &str| {
        let uid = uid(pod);
        format!(
            r#"{{"metadata":{{"uid":"{uid}","name":"web","namespace":"{namespace}","resourceVersion":"1"}},
            "spec":{{"nodeName":"here"}}}}"#
        )
    };
    let pods = format!("{},{}", pod(1, "hidden"), pod(2, "shown"));
    let api = Api::serve(&[("/api/v1/pods", &pods), ("/api/v1/namespaces", "")]);
    let agent =
        Agent::start(Options::default().in_cluster(&api).flag("observe-exclude-namespaces", "hidden"));
    let id = format!("{}{number:0>52}", "c".repeat(12));
    let [hidden, shown] = [1, 2].map(|pod| Cgroup::at(&format!("/kubepods/burstable/pod{}/{id}", uid(pod))));
    wait_until(PATIENCE, "the programs pass over the hidden container", || {
        // Its cgroup and that of its pod.
        agent.scrape().count("podwitness_excluded_cgroups", &[]) >= 2
    });
    let before = agent.scrape().outcomes("io_uring");
    let work = Work { rings: 3, nops: 2_000, reads: 40, polled: true };
    for cgroup in [&hidden, &shown] {
        let mut workload = work.prepare(cgroup);
        make_rings(&mut workload);
        workload.go();
        workload.report();
        workload.finish();
    }
    agent.wait_count(SUBMISSIONS, &[("namespace", "shown")], 2_040);
    let metrics = agent.scrape();
    assert_eq!(metrics.count(RINGS, &[("namespace", "shown")]), 3);
    assert!(metrics.samples.iter().all(|sample| sample.label("namespace") != "hidden"));
    let outcomes = metrics.outcomes("io_uring");
    assert!(outcomes.balanced(), "{outcomes:?}");
    let missed = metrics.sum("podwitness_program_missed_runs_total", &[]);
    assert!(missed > 0.0 || outcomes.filtered - before.filtered == 2_043, "{before:?} {outcomes:?}");
}

/// Off is off: no program, no series, hardly any memory.
#[test]
fn io_uring_that_is_off_costs_nothing() {
    require_io_uring!();
    let memory = |agent: &Agent| agent.scrape().count("podwitness_kernel_memory_bytes", &[]);
    let on = memory(&Agent::start(Options::default()));
    let agent = Agent::start(Options::default().flag("sensors-io-uring", "false"));
    let metrics = agent.scrape();
    let slots = metrics.count("podwitness_limit", &[("key", "limits.slots")]);
    assert!(on - memory(&agent) >= slots * 1024, "{on} with it, {} without", memory(&agent));
    assert_eq!(metrics.count("podwitness_sensor_state", &[("sensor", "io_uring"), ("state", "disabled")]), 1);
    let programs = metrics.series("podwitness_program_runs_total", &[]);
    assert!(programs.iter().all(|series| !series.label("program").starts_with("io_uring")));
    let cgroup = Cgroup::new("unseen");
    let mut workload = Work { rings: 1, nops: 10, reads: 1, polled: false }.prepare(&cgroup);
    make_rings(&mut workload);
    workload.go();
    workload.report();
    workload.finish();
    let metrics = agent.scrape();
    assert!(metrics.series(RINGS, &[]).is_empty() && metrics.series(SUBMISSIONS, &[]).is_empty());
    assert_eq!(metrics.outcomes("io_uring").seen, 0);
}
