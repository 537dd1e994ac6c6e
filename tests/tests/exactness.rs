//! Calls that are hard to count, and circumstances that make it hard: the counts are the truth all the same.

use std::fs;

use integration_tests::{
    Agent, Cgroup, Metrics, Options, Workload,
    refused::{self, exactly},
    require_kernel, require_vm,
    wait::{PATIENCE, fewer, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
const ERRORS: &str = "podwitness_syscall_errors_total";
const DURATION: &str = "podwitness_syscall_duration_seconds";
const MODES: [&str; 3] = ["counts", "default", "full"];

/// Every way to count: in each mode, with the kernel's types and without, if that can be exact here.
fn ways() -> impl Iterator<Item = Options> {
    MODES.into_iter().flat_map(ways_in)
}

fn ways_in(mode: &str) -> Vec<Options> {
    let typed = Options::default().flag("sensors-syscalls-mode", mode);
    if refused::is_the_rule() {
        eprintln!(
            "not run without types: on this kernel tasks preempt each other there, and runs are missed"
        );
        return vec![typed];
    }
    vec![typed.clone(), typed.without_btf()]
}

#[test]
fn a_hundred_million_calls_of_threads_that_roam() {
    require_kernel!();
    exactly(|| {
        let agent = Agent::start(Options::default());
        let cgroup = Cgroup::new("roam");
        let calls = fewer(100_000_000);
        let arguments = ["roam", "--getppid", &calls.to_string(), "--threads", "4"];
        let (workload, _) = Workload::run(&arguments, &cgroup);
        agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], calls);
        workload.finish();
    });
}

#[test]
fn sixty_four_threads_that_roam() {
    require_kernel!();
    for way in ways() {
        exactly(|| {
            let agent = Agent::start(way.clone());
            let cgroup = Cgroup::new("threads");
            let (workload, _) = Workload::run(&["roam", "--getppid", "640064", "--threads", "64"], &cgroup);
            agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], 640_064);
            workload.finish();
        });
    }
}

#[test]
fn a_storm_of_forks() {
    require_kernel!();
    for way in ways() {
        exactly(|| {
            let agent = Agent::start(way.clone());
            let cgroup = Cgroup::new("storm");
            let forks = fewer(2000);
            let arguments = ["storm", "--forks", &forks.to_string(), "--getppid", "10", "--threads", "8"];
            let (workload, truth) = Workload::run(&arguments, &cgroup);
            let processes = truth["processes"].as_u64().unwrap();
            let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
            agent.wait_count(CALLS, &of("exit_group"), processes);
            agent.wait_count(CALLS, &of("getppid"), processes * 10);
            let metrics = agent.scrape();
            let made = ["fork", "vfork", "clone", "clone3"].map(|fork| metrics.count(CALLS, &of(fork)));
            assert_eq!(made.iter().sum::<u64>(), processes, "{made:?}: two return from each of them");
            workload.finish();
        });
    }
}

/// A restarted call is a new one to the kernel, and the interrupted one an error that the program never sees.
#[test]
fn calls_that_the_kernel_restarts() {
    require_kernel!();
    for way in ways() {
        let agent = Agent::start(way);
        let cgroup = Cgroup::new("restart");
        let (workload, truth) = Workload::run(&["interrupted", "--times", "50"], &cgroup);
        assert_eq!(truth["received"], 1);
        let of = [("workload", cgroup.path()), ("syscall", "recvfrom")];
        agent.wait_count(CALLS, &of, 51);
        let restarted = [of[0], of[1], ("errno", "ERESTARTSYS")];
        let metrics = agent.scrape();
        assert_eq!(metrics.count(ERRORS, &restarted), 50);
        assert_eq!(metrics.count(ERRORS, &of), 50, "and no other error");
        workload.finish();
    }
}

/// Where the result of rt_sigreturn(2) would be is that of what the signal has interrupted: here, an error.
#[test]
fn to_return_from_a_handler_does_not_fail() {
    require_kernel!();
    for way in ways() {
        let agent = Agent::start(way);
        let cgroup = Cgroup::new("handler");
        let (workload, _) = Workload::run(&["suspended", "--times", "50"], &cgroup);
        let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
        agent.wait_count(CALLS, &of("rt_sigreturn"), 50);
        let metrics = agent.scrape();
        assert_eq!(metrics.count(ERRORS, &of("rt_sigsuspend")), 50);
        assert_eq!(metrics.count(ERRORS, &of("rt_sigreturn")), 0);
        workload.finish();
    }
}

#[test]
fn an_exec_while_another_thread_is_inside_of_a_call() {
    require_kernel!();
    for way in ways() {
        let agent = Agent::start(way);
        let cgroup = Cgroup::new("exec");
        let (workload, truth) = Workload::run(&["replace", "--times", "20", "--getppid", "100"], &cgroup);
        assert_eq!(truth["times"], 20);
        let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
        agent.wait_count(CALLS, &of("getppid"), 2000);
        agent.wait_count(CALLS, &of("execve"), 20);
        agent.wait_count(CALLS, &of("nanosleep"), 20);
        workload.finish();
    }
}

#[cfg(target_arch = "x86_64")]
const NO_32_BITS: &str = "this kernel has no 32-bit programs (CONFIG_IA32_EMULATION), or not today";

/// A program of 32 bits, which enters the kernel by another gate.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_program_of_32_bits() {
    require_kernel!();
    for way in ways() {
        let agent = Agent::start(way);
        let cgroup = Cgroup::new("i386");
        let (workload, truth) = Workload::run(&["i386", "--getpid", "100"], &cgroup);
        if truth["ran"] == false {
            return integration_tests::kernel::not_run(NO_32_BITS);
        }
        let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
        // With the exec that it returns from, which a 64-bit program has called, and the exit that it doesn't.
        agent.wait_count(CALLS, &of("i386"), 102);
        assert_eq!(agent.scrape().count(CALLS, &of("writev")), 0, "number 20 is another call there");
        workload.finish();
    }
}

/// execve(2) returns by the other gate than it came by.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_program_of_32_bits_that_becomes_one_of_64() {
    require_kernel!();
    // Where registers have to be copied, it goes by the number that it came with.
    for mode in MODES {
        let agent = Agent::start(Options::default().flag("sensors-syscalls-mode", mode));
        let cgroup = Cgroup::new("across");
        let (workload, truth) = Workload::run(&["i386", "--getpid", "1", "--exec", "true"], &cgroup);
        if truth["ran"] == false {
            return integration_tests::kernel::not_run(NO_32_BITS);
        }
        let of = |syscall| [("workload", cgroup.path()), ("syscall", syscall)];
        agent.wait_count(CALLS, &of("i386"), 2);
        agent.wait_count(CALLS, &of("execve"), 1);
        workload.finish();
    }
}

/// The sum of all durations, where the helper's own clock sees the same: of sleeps long enough for the way into the
/// kernel and out of it not to matter, even if another task has the CPU meanwhile.
#[test]
fn sums_of_durations_are_the_helpers_own() {
    require_kernel!();
    for way in ways_in("full") {
        let cgroup = Cgroup::new("sleep");
        let agent = Agent::start(way);
        let (workload, truth) =
            Workload::run(&["syscalls", "--nanosleep-150ms", "80", "--threads", "8"], &cgroup);
        let of = [("workload", cgroup.path()), ("class", "sleep")];
        agent.wait_count(&format!("{DURATION}_count"), &of, 80);
        let (sum, slept) =
            (agent.scrape().sum(&format!("{DURATION}_sum"), &of), truth["slept"].as_f64().unwrap());
        workload.finish();
        assert!(sum <= slept, "{sum} s measured, {slept} s passed");
        // An emulated machine takes its time to return from a call.
        let least = if fewer(100) == 100 { 0.99 } else { 0.9 };
        assert!(sum >= slept * least, "{sum} s measured, {slept} s passed");
    }
}

/// Among many fast calls, which are sampled, each slow one is found.
#[test]
fn every_slow_call_is_caught_where_the_fast_ones_are_sampled() {
    require_kernel!();
    let cgroup = Cgroup::new("slow");
    let agent = Agent::start(Options::default().flag("sensors-syscalls-mode", "default"));
    let arguments = ["syscalls", "--getppid", "100000", "--nanosleep-15ms", "100", "--threads", "8"];
    let (workload, _) = Workload::run(&arguments, &cgroup);
    let of = [("workload", cgroup.path()), ("class", "sleep")];
    agent.wait_count(&format!("{DURATION}_count"), &of, 100);
    assert_eq!(agent.scrape().at_most(DURATION, &of, 0.0078125), 0, "each is known to be longer than 8 ms");
    workload.finish();
}

/// Ten thousand cgroups, of which three hundred are busy, and then three hundred others in the slots of those.
#[test]
fn no_call_is_booked_to_another_cgroup() {
    require_kernel!();
    let crowd = Cgroup::new("crowd");
    let _idle: Vec<_> = (0..fewer(10_000)).map(|index| crowd.child(&format!("idle-{index}"))).collect();
    let options = Options::default()
        .flag("limits-slots", "512")
        .flag("limits-map-memory", "1GiB")
        .flag("metrics-series-limit", "0");
    let agent = Agent::start(options.flag("limits-containers", "20000"));
    let outside = Cgroup::new("visitor");
    for round in 0..3 {
        let busy: Vec<_> =
            (0..fewer(300)).map(|index| crowd.child(&format!("busy-{round}-{index}"))).collect();
        let directories: Vec<_> =
            busy.iter().map(|cgroup| cgroup.directories()[0].display().to_string()).collect();
        wait_until(PATIENCE, "there are slots for all of them", || {
            agent.scrape().sum("podwitness_slots_used", &[]) + busy.len() as f64 <= 500.0
        });
        // Each makes one call more than the one before: what is booked to the wrong one shows.
        let arguments = ["visit", "--cgroups", &directories.join(","), "--getppid", "100", "--more", "1"];
        let (workload, _) = Workload::run(&arguments, &outside);
        wait_until(PATIENCE, "the calls of each are counted for itself", || {
            let page = agent.scrape_text();
            let ours =
                page.lines().filter(|line| line.contains(crowd.path()) && line.contains("\"getppid\""));
            let counters = Metrics::parse(&ours.collect::<Vec<_>>().join("\n"));
            busy.iter().zip(100..).all(|(cgroup, calls)| {
                let count = counters.count(CALLS, &[("workload", cgroup.path())]);
                assert!(count <= calls, "{}: {count} calls, of {calls}", cgroup.path());
                count == calls
            })
        });
        workload.finish();
    }
}

#[test]
fn two_agents_at_once_count_the_same() {
    require_kernel!();
    exactly(|| {
        let agents = ["default", "full"]
            .map(|mode| Agent::start(Options::default().flag("sensors-syscalls-mode", mode)));
        let cgroup = Cgroup::new("twice");
        let (workload, _) = Workload::run(&["roam", "--getppid", "200000", "--threads", "8"], &cgroup);
        for agent in &agents {
            agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], 200_000);
        }
        workload.finish();
    });
}

/// `kernel.bpf_stats_enabled` makes the kernel run programs by another way, and may change at any time.
#[test]
fn the_kernels_own_statistics_change_nothing() {
    require_kernel!();
    let switch = Switch::new("/proc/sys/kernel/bpf_stats_enabled");
    exactly(|| {
        let agent = Agent::start(Options::default());
        let (cgroup, clock) = (Cgroup::new("stats"), Cgroup::new("clock"));
        // Many times what is done while the switch is thrown.
        let calls = fewer(40_000_000);
        let arguments = ["roam", "--getppid", &calls.to_string(), "--threads", "4"];
        let mut workload = Workload::prepare(&arguments, &cgroup);
        workload.go();
        for state in ["1", "0", "1", "0"] {
            let before = agent.scrape().outcomes("process").seen;
            switch.set(state);
            // Some time passes, told by the agent itself.
            let (visitor, _) = Workload::run(&["spawn", "--count", "10"], &clock);
            visitor.finish();
            wait_until(PATIENCE, "the agent sees processes", || {
                agent.scrape().outcomes("process").seen > before
            });
        }
        workload.expect_at_work();
        workload.report();
        agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], calls);
        workload.finish();
    });
}

/// A CPU that goes takes no count along, and one that comes is counted on from its first call.
#[test]
fn cpus_that_come_and_go() {
    require_kernel!();
    require_vm!();
    let cpu = Switch::new("/sys/devices/system/cpu/cpu1/online");
    exactly(|| {
        cpu.set("0");
        let agent = Agent::start(Options::default());
        let (cgroup, clock) = (Cgroup::new("hotplug"), Cgroup::new("clock"));
        let calls = fewer(20_000_000);
        let arguments = ["syscalls", "--getppid", &calls.to_string(), "--threads", "4"];
        let mut workload = Workload::prepare(&arguments, &cgroup);
        workload.go();
        for state in ["1", "0", "1", "0", "1"] {
            cpu.set(state);
            // While the calls are made on what is left.
            let (visitor, _) = Workload::run(&["spawn", "--count", "10"], &clock);
            visitor.finish();
        }
        workload.report();
        agent.wait_count(CALLS, &[("workload", cgroup.path()), ("syscall", "getppid")], calls);
        workload.finish();
    });
}

/// A setting of the kernel, which is put back when this goes.
struct Switch {
    path: &'static str,
    before: String,
}

impl Switch {
    fn new(path: &'static str) -> Self {
        Self { path, before: fs::read_to_string(path).expect(path) }
    }

    fn set(&self, state: &str) {
        fs::write(self.path, state).expect(self.path);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.set(self.before.trim());
    }
}
