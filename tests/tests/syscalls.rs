//! The `syscalls` sensor against a helper that makes system calls in exact numbers.

use std::time::Instant;

use integration_tests::{
    Agent, Cgroup, Metrics, Options, Workload, agent, bpf, kernel,
    metrics::Sample,
    refused::{self, exactly},
    require_kernel,
    wait::{PATIENCE, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
const ERRORS: &str = "podwitness_syscall_errors_total";
const DURATION: &str = "podwitness_syscall_duration_seconds";
const ESTIMATED: &str = "podwitness_syscall_duration_estimated_total";

#[test]
fn one_thread_is_counted_exactly() {
    require_kernel!();
    exactly(|| exact("1", "full", Options::default()));
}

#[test]
fn eight_threads_are_counted_exactly() {
    require_kernel!();
    exactly(|| exact("8", "full", Options::default()));
}

#[test]
fn sampling_leaves_the_counts_exact() {
    require_kernel!();
    exactly(|| exact("8", "default", Options::default()));
}

#[test]
fn counts_alone_are_exact_too() {
    require_kernel!();
    exactly(|| exact("8", "counts", Options::default()));
}

/// What Linux 7.0 and later get by default.
#[test]
fn classic_tracepoints_count_exactly() {
    require_kernel!();
    exactly(|| exact("8", "full", Options::default().flag("sensors-syscalls-hook", "classic")));
    exactly(|| exact("8", "counts", Options::default().flag("sensors-syscalls-hook", "classic")));
}

/// Tracepoints that need no types, where the kernel has some and where it has none.
#[test]
fn raw_tracepoints_count_exactly() {
    require_kernel!();
    if refused::is_the_rule() {
        return eprintln!("not run: on this kernel tasks preempt each other there, and runs are missed");
    }
    for mode in ["counts", "default", "full"] {
        exactly(|| exact("8", mode, Options::default().flag("sensors-syscalls-hook", "raw")));
        exactly(|| exact("8", mode, Options::default().without_btf()));
    }
}

/// What is there without the kernel's types, and what isn't and why.
#[test]
fn without_btf_the_rest_says_what_it_lacks() {
    require_kernel!();
    let agent = Agent::start(Options::default().without_btf());
    let metrics = agent.scrape();
    let states = metrics.series("podwitness_sensor_state", &[]);
    let of = |state: &str| {
        let is_it = |series: &&&Sample| series.label("state") == state && series.value == 1.0;
        states.iter().filter(is_it).map(|series| series.label("sensor").to_owned()).collect::<Vec<_>>()
    };
    let state = if refused::is_the_rule() { "degraded" } else { "active" };
    assert_eq!((of(state), of("unsupported").len()), (vec!["syscalls".to_owned()], agent::SENSORS.len() - 1));
    let mut doctor = agent::command_without_btf(&["doctor"]);
    let output = doctor.output().expect("podwitness doctor");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    for line in ["CONFIG_DEBUG_INFO_BTF", "Until then system calls are counted", "raw_tp/sys_exit"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

/// 100,000 getppid, 1,000 openat that fail and 100 nanosleep, by this many threads.
fn exact(threads: &str, mode: &str, options: Options) {
    let agent = Agent::start(options.flag("sensors-syscalls-mode", mode));
    let cgroup = Cgroup::new("calls");
    let sibling = Cgroup::new("sibling");
    let (bystander, _) = Workload::run(&["syscalls"], &sibling);
    let before = agent.scrape();
    let (workload, truth) = Workload::run(
        &[
            "syscalls",
            "--getppid",
            "100000",
            "--openat-enoent",
            "1000",
            "--nanosleep-15ms",
            "100",
            "--threads",
            threads,
        ],
        &cgroup,
    );

    let of = |name, value| [("workload", cgroup.path()), (name, value)];
    agent.wait_count(CALLS, &of("syscall", "getppid"), 100_000);
    agent.wait_count(CALLS, &of("syscall", "openat"), 1_000);
    agent.wait_count(CALLS, &of("syscall", "nanosleep"), 100);
    agent.wait_count(ERRORS, &[of("errno", "ENOENT"), of("syscall", "openat")].concat(), 1_000);

    let after = agent.scrape();
    assert_eq!(after.count(ERRORS, &of("syscall", "openat")), 1_000, "openat fails with ENOENT only");
    assert_eq!(after.count(ERRORS, &of("syscall", "getppid")), 0, "getppid can't fail");
    assert_eq!(after.count(ERRORS, &of("syscall", "nanosleep")), 0, "nobody interrupts the sleepers");

    // Whatever sleeps is timed, also where others are sampled.
    let sleep = of("class", "sleep");
    let timed = if mode == "counts" { 0 } else { 100 };
    assert_eq!(after.count(&format!("{DURATION}_count"), &sleep), timed);
    assert_eq!(after.at_most(DURATION, &sleep, f64::INFINITY), timed);
    assert_eq!(after.count(ESTIMATED, &sleep), 0, "each stands for itself");
    if mode != "counts" {
        let sum = after.sum(&format!("{DURATION}_sum"), &sleep);
        let slept = truth["slept"].as_f64().unwrap();
        // Of a call that is not sampled, the time before it sleeps is not known.
        let least = if mode == "full" { 1.5 } else { 1.45 };
        // Where it isn't, late ticks may add what passed since the one before it.
        let most = if mode == "full" { slept } else { slept * 1.001 };
        assert!(
            (least..=most).contains(&sum),
            "the agent measured {sum} s, the helper {slept} s from outside"
        );
    }
    let process = of("class", "process");
    let calls = after.count(&format!("{DURATION}_count"), &process);
    let estimated = after.count(ESTIMATED, &process);
    match mode {
        "full" => {
            assert_eq!(
                after.at_most(DURATION, &sleep, 0.0078125),
                0,
                "the kernel never sleeps less than asked for"
            );
            assert_eq!(estimated, 0, "nothing is sampled");
            assert!(calls >= 100_000);
        }
        "default" => {
            // 6,250 samples of 16 each: their gaps are random, so the sum is off by less than 6 % surely.
            assert!((94_000..=108_000).contains(&calls), "{calls} calls in the histogram for 100,000");
            assert!(
                estimated * 16 >= calls * 14 && estimated < calls,
                "{estimated} of {calls} are estimated"
            );
        }
        _ => assert_eq!(calls, 0, "nothing is timed"),
    }

    // The identity is that of a plain cgroup.
    let series = after.series(CALLS, &of("syscall", "getppid"));
    assert_eq!(series.len(), 1, "{series:#?}");
    assert_eq!(series[0].label("workload_kind"), "cgroup");
    for label in ["namespace", "pod", "container"] {
        assert_eq!(series[0].label(label), "", "{label} does not apply to a plain cgroup");
    }

    // And nobody else got any of them. Others on this machine may call getppid (shells do, once each), but
    // neither the sibling nor what can't be attributed may have gained one.
    for name in ["getppid", "nanosleep"] {
        assert_eq!(after.count(CALLS, &[("workload", sibling.path()), ("syscall", name)]), 0);
    }
    for unattributed in [("workload_kind", "unknown"), ("workload", "other")] {
        let of = [unattributed, ("syscall", "getppid")];
        assert_eq!(after.count(CALLS, &of), before.count(CALLS, &of), "{unattributed:?}");
    }
    let gained = by_others(&after) - by_others(&before);
    assert!(gained < 10_000.0, "{gained} getppid of others, of the 100,000 that one cgroup made");

    workload.finish();
    bystander.finish();
}

/// Calls of getppid by everybody but the cgroups of tests, some of which may run at the same time.
fn by_others(metrics: &Metrics) -> f64 {
    let series = metrics.series(CALLS, &[("syscall", "getppid")]);
    let others = series.iter().filter(|series| !series.label("workload").starts_with("/podwitness-test-"));
    others.map(|series| series.value).sum()
}

/// A task that moves while it runs: what its CPU remembers of its container is forgotten at once.
#[test]
fn calls_of_a_task_that_moves_are_booked_where_it_is() {
    require_kernel!();
    for mode in ["counts", "default"] {
        let agent = Agent::start(Options::default().flag("sensors-syscalls-mode", mode));
        let cgroups = [Cgroup::new("from"), Cgroup::new("to")];
        let directories =
            cgroups.iter().map(|cgroup| cgroup.directories()[0].display().to_string()).collect::<Vec<_>>();
        let outside = Cgroup::new("visitor");
        let arguments = ["visit", "--cgroups", &directories.join(","), "--getppid", "1000"];
        let (workload, _) = Workload::run(&arguments, &outside);
        for cgroup in &cgroups {
            agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], 1000);
        }
        workload.finish();
    }
}

/// Calls of the 32-bit ABI have numbers of their own: 20 is getpid there, and writev(2) in the 64-bit one.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_the_32_bit_abi_are_not_mistaken() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("i386");
    let (workload, truth) = Workload::run(&["syscalls", "--i386-getpid", "300"], &cgroup);
    if truth["i386"] == false {
        return kernel::not_run("this kernel has no 32-bit calls (CONFIG_IA32_EMULATION), or not today");
    }
    let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
    agent.wait_count(CALLS, &of("i386"), 300);
    assert_eq!(agent.scrape().count(CALLS, &of("writev")), 0);
    workload.finish();
}

/// Whether a kernel has the x32 ABI or not, a call of it has been made. And the kernel knows calls by the lower half of a
/// register: a program that puts something into the upper one can't hide what it calls.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_odd_numbers_are_not_mistaken() {
    require_kernel!();
    for mode in ["counts", "full"] {
        let agent = Agent::start(Options::default().flag("sensors-syscalls-mode", mode));
        let cgroup = Cgroup::new("odd-numbers");
        let (workload, truth) =
            Workload::run(&["syscalls", "--x32-getpid", "300", "--wide-getppid", "200"], &cgroup);
        let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
        agent.wait_count(CALLS, &of("x32"), 300);
        if truth["wide"] == 200 {
            agent.wait_count(CALLS, &of("getppid"), 200);
        } else {
            println!("this kernel looks at the upper half (before 5.13), and has no such calls");
        }
        workload.finish();
    }
}

/// A thread that is ended by a signal inside its call, and a process killed with all its blocked threads.
#[test]
fn calls_cut_short_by_death_are_counted_once() {
    require_kernel!();
    const SLEEPERS: usize = 4;
    const READERS: usize = 2;
    let agent = Agent::start(Options::default().flag("sensors-syscalls-mode", "full"));
    let cgroup = Cgroup::new("blocked");
    let sleepers = SLEEPERS.to_string();
    let readers = READERS.to_string();
    let begin = Instant::now();
    let (workload, truth) =
        Workload::run(&["blocked", "--sleepers", &sleepers, "--readers", &readers], &cgroup);
    let pid = workload.pid();
    let tids: Vec<u32> =
        truth["tids"].as_array().unwrap().iter().map(|tid| tid.as_u64().unwrap() as u32).collect();
    assert_eq!(tids.len(), SLEEPERS + READERS);
    let in_call = |number, tid: &&u32| kernel::blocked_in(pid, **tid) == Some(number);
    let count_in = |number| tids.iter().filter(|tid| in_call(number, tid)).count();
    wait_until(PATIENCE, "all threads are blocked", || {
        count_in(libc::SYS_nanosleep) == SLEEPERS && count_in(libc::SYS_read) == READERS
    });
    let blocked_since = Instant::now();

    let nanosleep = [("workload", cgroup.path()), ("syscall", "nanosleep")];
    let sleep = [("workload", cgroup.path()), ("class", "sleep")];
    let one = *tids.iter().find(|tid| in_call(libc::SYS_nanosleep, tid)).unwrap();
    kernel::kill_thread(pid, one, libc::SIGUSR1).unwrap();
    agent.wait_count(CALLS, &nanosleep, 1);
    assert_eq!(kernel::blocked_in(pid, one), None, "the thread is gone");

    let at_least = blocked_since.elapsed();
    workload.kill();
    let at_most = begin.elapsed();
    agent.wait_count(CALLS, &nanosleep, SLEEPERS as u64);
    let metrics = agent.scrape();
    assert_eq!(metrics.count(&format!("{DURATION}_count"), &sleep), SLEEPERS as u64);
    let sum = metrics.sum(&format!("{DURATION}_sum"), &sleep);
    // All but the first slept at least from when all were blocked until the kill.
    let bounds = at_least.as_secs_f64() * (SLEEPERS - 1) as f64..=at_most.as_secs_f64() * SLEEPERS as f64;
    assert!(bounds.contains(&sum), "{sum} s outside of {bounds:?}");

    // An interrupted call is an error at most once, and has a name: EINTR, as a program would see it, or the
    // kernel's own, as strace shows it.
    let errors = metrics.series(ERRORS, &nanosleep);
    assert!(errors.iter().map(|series| series.value).sum::<f64>() <= SLEEPERS as f64, "{errors:#?}");
    for series in errors {
        let name = series.label("errno");
        assert!(name == "EINTR" || name.starts_with("ERESTART"), "errno {name:?} of an interrupted call");
    }
}

/// Task storage is made while tasks are switched. Before 6.4 the kernel takes memory for it that it charges to the agent, and
/// where the agent has reached its limit, that hangs the node.
#[test]
fn tasks_are_given_storage_only_where_that_is_safe() {
    require_kernel!();
    const TASK_STORAGE: u32 = 29;
    let agent = Agent::start(Options::default());
    let types = bpf::map_types_of(agent.pid());
    assert_eq!(types.contains(&TASK_STORAGE), kernel::release() >= (6, 4), "{types:?}");
}

#[test]
fn calls_of_short_lived_processes_are_counted_exactly() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let cgroup = Cgroup::new("short");
    let (workload, truth) = Workload::run(&["spawn", "--count", "200", "--getppid", "500"], &cgroup);
    assert_eq!(truth["succeeded"], 200);
    let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
    agent.wait_count(CALLS, &of("getppid"), 100_000);
    // Calls that return twice, from another program, or never.
    let metrics = agent.scrape();
    assert_eq!(metrics.count(CALLS, &of("execve")), 200);
    assert_eq!(metrics.count(CALLS, &of("exit_group")), 200);
    let forks = ["fork", "vfork", "clone", "clone3"].map(|fork| metrics.count(CALLS, &of(fork)));
    assert_eq!(forks.iter().sum::<u64>(), 200, "a fork is one call, although two return from it: {forks:?}");
    workload.finish();
}

/// A counter that was right once has to stay right: neither the tick nor the process' end may change it.
#[test]
fn counters_do_not_move_when_nothing_happens() {
    require_kernel!();
    let cgroup = Cgroup::new("still");
    let agent = Agent::start(Options::default());
    let (workload, _) = Workload::run(&["syscalls", "--getppid", "777", "--threads", "3"], &cgroup);
    let getppid = [("workload", cgroup.path()), ("syscall", "getppid")];
    agent.wait_count(CALLS, &getppid, 777);
    let tick = agent.scrape().outcomes("process").seen;
    workload.finish();
    // The helper's exit has been seen: what was counted before it has long been read.
    wait_until(PATIENCE, "the agent sees the exit", || agent.scrape().outcomes("process").seen > tick);
    assert_eq!(agent.scrape().count(CALLS, &getppid), 777);
    cgroup.remove();
    assert_eq!(agent.scrape().count(CALLS, &getppid), 777, "a removed cgroup keeps its counts for a while");
}
