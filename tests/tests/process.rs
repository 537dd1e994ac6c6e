//! The `process` sensor: every start and every end, and how it came.

use std::{env, fs, process::Command};

use integration_tests::{Agent, Cgroup, Options, Workload, require_kernel, wait::unique};

const STARTED: &str = "podwitness_processes_started_total";
const EXITS: &str = "podwitness_process_exits_total";

#[test]
fn short_lived_processes_are_counted_exactly() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("spawn");
    let tail = agent.tail_of(&cgroup);
    let (workload, truth) = Workload::run(&["spawn", "--count", "200"], &cgroup);
    let parent = workload.pid();
    let of = [("workload", cgroup.path())];
    agent.wait_count(STARTED, &of, 200);
    agent.wait_count(EXITS, &of, 200);
    agent.wait_count(EXITS, &[of[0], ("reason", "completed")], 200);

    let pids = truth["pids"].as_array().unwrap();
    let mut told: f64 = 0.0;
    for kind in ["process.exec", "process.exit"] {
        let events = tail.wait_of(kind, cgroup.path(), 200);
        assert_eq!(events.len(), 200, "{kind}");
        for pid in pids {
            let of_pid: Vec<_> = events.iter().filter(|event| event["pid"] == *pid).collect();
            assert_eq!(of_pid.len(), 1, "{kind} of {pid}: {of_pid:#?}");
            let event = of_pid[0];
            assert_eq!(event["tid"], *pid, "{event}");
            assert_eq!(event["ppid"], parent, "{event}");
            assert_eq!(event["comm"], "workload", "{event}");
            if kind == "process.exec" {
                // Long paths are cut to 127 bytes.
                let executable = event["executable"].as_str().unwrap();
                assert!(truth["program"].as_str().unwrap().starts_with(executable), "{event}");
                assert!(executable.len() >= truth["program"].as_str().unwrap().len().min(127), "{event}");
            } else {
                assert_eq!(event["exit_code"], 0, "{event}");
                assert_eq!(event["reason"], "completed", "{event}");
                told += event["duration"].as_f64().unwrap();
            }
        }
    }
    let lived = truth["lived"].as_f64().unwrap();
    assert!((0.0..=lived).contains(&told), "they lived {told} s by the agent, {lived} s by their parent");
    workload.finish();
    agent.wait_count(EXITS, &of, 201);
}

#[test]
fn ends_are_counted_by_reason() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("ends");
    let tail = agent.tail_of(&cgroup);
    let of = [("workload", cgroup.path())];
    let (failing, _) = Workload::run(&["spawn", "--count", "5", "--exit", "7"], &cgroup);
    let (killed, _) = Workload::run(&["spawn", "--count", "3", "--signal", "9"], &cgroup);
    let (terminated, _) = Workload::run(&["spawn", "--count", "2", "--signal", "15"], &cgroup);
    agent.wait_count(STARTED, &of, 10);
    agent.wait_count(EXITS, &of, 10);
    agent.wait_count(EXITS, &[of[0], ("reason", "error")], 5);
    // SIGKILL by anybody but the kernel's OOM killer is a signal like any other.
    agent.wait_count(EXITS, &[of[0], ("reason", "signal")], 5);
    assert_eq!(agent.scrape().count(EXITS, &[of[0], ("reason", "oom_killed")]), 0);

    let ends = tail.wait_of("process.exit", cgroup.path(), 10);
    let with = |field: &str, value: u64| ends.iter().filter(|event| event[field] == value).count();
    assert_eq!((with("exit_code", 7), with("signal", 9), with("signal", 15)), (5, 3, 2), "{ends:#?}");
    for workload in [failing, killed, terminated] {
        workload.finish();
    }
}

/// The threads of a process are not processes: they neither start nor end one.
#[test]
fn threads_are_no_processes() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("threads");
    let of = [("workload", cgroup.path())];
    let workload = Workload::born_in(&["syscalls", "--threads", "16"], &cgroup);
    agent.wait_count(STARTED, &of, 1);
    let mut workload = workload;
    workload.go();
    workload.report();
    workload.finish();
    agent.wait_count(EXITS, &of, 1);
    let metrics = agent.scrape();
    assert_eq!((metrics.count(STARTED, &of), metrics.count(EXITS, &of)), (1, 1));
}

/// A file system that is mounted has threads of the kernel's own, which end with it.
#[test]
fn threads_of_the_kernel_are_no_processes() {
    require_kernel!();
    let directory = env::temp_dir().join(format!("podwitness-mount-{}", unique()));
    fs::create_dir(&directory).unwrap();
    let agent = Agent::start(Options::default());
    let tail = agent.tail("?kind=process.exit");
    let script = "truncate -s 16M image && mkfs.ext4 -q image && mkdir on && mount -o loop image on && umount on; \
                  code=$?; rm -r image on; exit $code";
    let output = Command::new("sh").args(["-c", script]).current_dir(&directory).output().unwrap();
    fs::remove_dir(&directory).unwrap();
    if !output.status.success() {
        // Nobody installs mkfs.ext4 for the tests, and containers have no loop devices.
        let said = String::from_utf8_lossy(&output.stderr);
        return eprintln!("not run: nothing can be mounted here: {said}");
    }
    // What ends in this cgroup afterwards is told afterwards.
    let cgroup = Cgroup::new("after");
    Workload::run(&["spawn", "--count", "1"], &cgroup).0.finish();
    tail.wait_of("process.exit", cgroup.path(), 2);
    // Programs that the kernel itself starts have the same parent.
    let of_mount =
        |comm: &str| ["jbd2", "kworker", "ext4", "loop"].iter().any(|thread| comm.starts_with(thread));
    let threads = tail.events(|event| event["ppid"] == 2 && event["comm"].as_str().is_some_and(of_mount));
    assert!(threads.is_empty(), "{threads:#?}");
}
