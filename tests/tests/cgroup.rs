//! The `cgroup` sensor and what hangs on it: who a cgroup is, from its birth until after its death.

use std::fs;

use integration_tests::{
    Agent, Cgroup, Options, Workload,
    cgroup::hierarchies,
    require_kernel,
    wait::{PATIENCE, unique, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
const STARTED: &str = "podwitness_processes_started_total";

/// Calls made by a process that is born into `cgroup`, works and ends.
fn one_process(cgroup: &Cgroup, calls: &str) {
    let mut workload = Workload::born_in(&["syscalls", "--getppid", calls], cgroup);
    workload.go();
    workload.report();
    workload.finish();
}

/// As short as a cgroup's life can be: one process, and it is gone before anybody could have looked at it.
#[test]
fn a_cgroup_that_hardly_lived_is_attributed_by_name() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("?kind=process");
    let mut paths = Vec::new();
    for _ in 0..10 {
        let cgroup = Cgroup::new("brief");
        one_process(&cgroup, "123");
        cgroup.remove();
        paths.push(cgroup.path().to_owned());
    }
    for path in paths {
        agent.wait_count(CALLS, &[("workload", &path), ("syscall", "getppid")], 123);
        agent.wait_count(STARTED, &[("workload", &path)], 1);
        let metrics = agent.scrape();
        let series = metrics.series(CALLS, &[("workload", &path), ("syscall", "getppid")]);
        assert_eq!(series[0].label("workload_kind"), "cgroup");
        for kind in ["process.exec", "process.exit"] {
            assert_eq!(tail.wait_of(kind, &path, 1).len(), 1, "{kind} of {path}");
        }
    }
}

/// On a node without v2 the cgroups of the memory controller tell containers apart; a hybrid one can be told so.
#[test]
fn cgroups_of_the_v1_memory_controller_tell_containers_apart() {
    require_kernel!();
    let [v2, _memory] = &hierarchies()[..] else {
        // Most machines have v2 alone, build servers too.
        return eprintln!("not run: this machine has no v1 memory controller");
    };
    let agent = Agent::start(Options::default().flag("identity-hierarchy", "memory"));
    let cgroup = Cgroup::new("memory-v1");
    for (arguments, metric, expected) in [
        (["syscalls", "--getppid", "700"], CALLS, 700),
        (["loopback", "--count", "5"], "podwitness_tcp_connects_total", 5),
    ] {
        let mut workload = Workload::prepare(&arguments, &cgroup);
        // In the v2 hierarchy it is at home in the root, which must not matter.
        fs::write(v2.join("cgroup.procs"), workload.pid().to_string()).unwrap();
        workload.go();
        workload.report();
        let mut labels = vec![("workload", cgroup.path())];
        if metric == CALLS {
            labels.push(("syscall", "getppid"));
        }
        agent.wait_count(metric, &labels, expected);
        workload.finish();
    }
}

/// What lived before the agent is found by a look at the tree, not by the event of its birth.
#[test]
fn a_cgroup_older_than_the_agent_is_attributed_by_name() {
    require_kernel!();
    let cgroup = Cgroup::new("old");
    let inner = cgroup.child("inner");
    let mut outer_work = Workload::prepare(&["syscalls", "--getppid", "1000"], &cgroup);
    let mut inner_work = Workload::prepare(&["syscalls", "--getppid", "2000"], &inner);
    let agent = Agent::start(Options::default());
    for workload in [&mut outer_work, &mut inner_work] {
        workload.go();
        workload.report();
    }
    agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], 1000);
    agent.wait_count(CALLS, &[("workload", inner.path()), ("syscall", "getppid")], 2000);
}

#[test]
fn series_of_a_removed_cgroup_leave_after_the_grace_period() {
    require_kernel!();
    let agent = Agent::start(Options::default().flag("metrics-grace", "2s"));
    let patient = Agent::start(Options::default().flag("metrics-grace", "1h"));
    let staying = Cgroup::new("staying");
    let leaving = Cgroup::new("leaving");
    let (workload, _) = Workload::run(&["syscalls", "--getppid", "10"], &staying);
    one_process(&leaving, "20");
    let of = |path| [("workload", path), ("syscall", "getppid")];
    agent.wait_count(CALLS, &of(staying.path()), 10);
    agent.wait_count(CALLS, &of(leaving.path()), 20);
    patient.wait_count(CALLS, &of(leaving.path()), 20);
    leaving.remove();
    // Counters never go backwards while they exist: right up to the end, or nothing.
    wait_until(PATIENCE, "the series of the removed cgroup leave", || {
        let metrics = agent.scrape();
        let series = metrics.series(CALLS, &of(leaving.path()));
        assert!(series.iter().all(|series| series.value == 20.0), "{series:#?}");
        assert_eq!(metrics.count(CALLS, &of(staying.path())), 10, "who lives, stays");
        metrics.series(CALLS, &[("workload", leaving.path())]).is_empty()
    });
    assert_eq!(
        patient.scrape().count(CALLS, &of(leaving.path())),
        20,
        "they stay where the grace period is longer"
    );
    workload.finish();

    // A cgroup of the same name is a new one.
    let again = Cgroup::at(leaving.path());
    let (workload, _) = Workload::run(&["syscalls", "--getppid", "5"], &again);
    agent.wait_count(CALLS, &of(again.path()), 5);
    workload.finish();
}

/// The same name again while the series of the first are still there: one workload, and its counters go on.
#[test]
fn a_cgroup_made_again_under_its_name_goes_on_counting() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let first = Cgroup::new("again");
    let path = first.path().to_owned();
    let of = [("workload", path.as_str()), ("syscall", "getppid")];
    one_process(&first, "100");
    first.remove();
    let second = Cgroup::at(&path);
    one_process(&second, "11");
    agent.wait_count(CALLS, &of, 111);
    assert_eq!(agent.scrape().series(CALLS, &of).len(), 1);
}

#[test]
fn containers_of_kubernetes_are_recognised_by_both_cgroup_drivers() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let number = format!("{:0>12}", unique().replace('-', ""));
    let uid = format!("5ca1ab1e-0000-4000-8000-{number}");
    let underscored = uid.replace('-', "_");
    let id = |letter: &str| format!("{}{number:0>52}", letter.repeat(12));
    let forms = [
        (format!("/kubepods/burstable/pod{uid}/{}", id("a")), "aaaaaaaaaaaa"),
        (format!("/kubepods/pod{uid}/{}", id("b")), "bbbbbbbbbbbb"),
        (
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{underscored}.slice/\
                 cri-containerd-{}.scope",
                id("c")
            ),
            "cccccccccccc",
        ),
    ];
    for (path, container) in forms {
        let cgroup = Cgroup::at(&path);
        let (workload, _) = Workload::run(&["syscalls", "--getppid", "42"], &cgroup);
        let of = [("pod", uid.as_str()), ("container", container), ("syscall", "getppid")];
        agent.wait_count(CALLS, &of, 42);
        let metrics = agent.scrape();
        let series = metrics.series(CALLS, &of);
        assert_eq!(series.len(), 1, "{series:#?}");
        assert_eq!(series[0].label("workload_kind"), "Pod", "{path}");
        assert_eq!(series[0].label("workload"), uid, "{path}");
        workload.finish();
    }
}

/// Names out of a random generator would make a series each; they are folded into one.
#[test]
fn parts_of_a_path_that_look_like_ids_are_folded() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let parent = Cgroup::new("jobs");
    let folded = format!("{}/*", parent.path());
    for id in ["0123456789abcdef0123", "fedcba98765432100123"] {
        let cgroup = parent.child(id);
        one_process(&cgroup, "50");
    }
    agent.wait_count(CALLS, &[("workload", &folded), ("syscall", "getppid")], 100);
}
