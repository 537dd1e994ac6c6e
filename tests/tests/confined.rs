//! The agent with no more than its manifests give it: in a real container, with two capabilities, a read-only root, and
//! few system calls.

use std::{fs, path::PathBuf};

use integration_tests::{
    Cgroup, Confinement, Containerd, Metrics, Pod, Seccomp, Workload, agent, http, kernel,
    require_containerd,
    wait::{PATIENCE, unique, wait_for, wait_until},
};
use serde_json::Value;

const PROFILE: &str = include_str!("../../deploy/seccomp.json");
/// What a manifest may let the agent call once it observes.
const CALLS_AFTER_START: usize = 45;
const BPF: [&str; 2] = ["BPF", "PERFMON"];

/// The agent's file and what it is linked with; the manifests' image needs none of the latter.
fn shown() -> Vec<PathBuf> {
    let libraries =
        ["/lib", "/lib64", "/usr/lib"].map(PathBuf::from).into_iter().filter(|path| path.is_dir());
    let cgroups = ["/sys/fs/cgroup", "/sys/kernel/tracing"].map(PathBuf::from);
    libraries.chain(cgroups).chain([fs::canonicalize(agent::binary()).expect("the agent")]).collect()
}

/// What a manifest gives. Before 5.11 the memory of maps is bounded by RLIMIT_MEMLOCK.
fn usual() -> Confinement {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's version");
    let mut capabilities = BPF.to_vec();
    if release.starts_with("5.10.") {
        capabilities.push("SYS_RESOURCE");
    }
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("a level");
    if paranoid.trim().parse::<i32>().is_ok_and(|level| level > 2) && !release.starts_with(['5', '6']) {
        capabilities.push("SYS_ADMIN");
    }
    Confinement { capabilities, shown: shown(), ..Confinement::default() }
}

fn binary() -> String {
    fs::canonicalize(agent::binary()).expect("the agent").display().to_string()
}

/// Starts the agent in the pod, and tells where its metrics are when it is ready.
fn start(pod: &Pod, name: &str, confinement: &Confinement, flags: &[&str]) -> std::net::SocketAddr {
    let binary = binary();
    let words = [&binary, "agent", "--metrics-listen", "127.0.0.1:0", "--debug-listen", "127.0.0.1:0"];
    let id = pod.run_confined(name, confinement, &[&words, flags].concat());
    let address = wait_for(PATIENCE * 3, "the agent tells its address", || {
        let log = pod.log(name);
        assert_eq!(pod.exit_code(&id), None, "{log}");
        let (_, rest) = log.split_once("metrics: http://")?;
        rest.split_once('/')?.0.parse().ok()
    });
    wait_until(PATIENCE, "the agent is ready", || {
        http::get(address, "/readyz").is_ok_and(|response| response.status == 200)
    });
    address
}

fn scrape(address: std::net::SocketAddr) -> Metrics {
    Metrics::parse(&http::get(address, "/metrics").expect("/metrics").body)
}

/// Every sensor is active, and counts what a workload does.
fn assert_alive(address: std::net::SocketAddr, pod: &Pod, name: &str) {
    let metrics = scrape(address);
    for sensor in agent::SENSORS {
        let labels = [("sensor", sensor), ("state", "active")];
        assert_eq!(metrics.count("podwitness_sensor_state", &labels), 1, "{sensor}: {}", pod.log(name));
    }
    let cgroup = Cgroup::new("confined");
    let (workload, _) = Workload::run(&["syscalls", "--getppid", "1000"], &cgroup);
    let of = [("workload", cgroup.path()), ("syscall", "getppid")];
    wait_until(PATIENCE, "the calls are counted", || {
        scrape(address).count("podwitness_syscalls_total", &of) == 1000
    });
    workload.finish();
    let ended = [("workload", cgroup.path()), ("reason", "completed")];
    wait_until(PATIENCE, "the end of the process is booked", || {
        scrape(address).count("podwitness_process_exits_total", &ended) == 1
    });
}

/// The lines of `status` of all threads of the agent that listens there.
fn statuses(pod: &Pod) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let own = processes.filter(|path| {
        fs::read_to_string(path.join("cgroup")).is_ok_and(|cgroup| cgroup.contains(&pod.uid))
            && fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == "podwitness")
    });
    let threads = own.flat_map(|path| fs::read_dir(path.join("task")).into_iter().flatten().flatten());
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).collect()
}

fn profile(file: &std::path::Path, change: impl Fn(&mut Value)) -> Seccomp {
    let mut profile: Value = serde_json::from_str(PROFILE).expect("JSON");
    change(&mut profile);
    fs::write(file, profile.to_string()).expect("a profile");
    Seccomp::File(file.to_owned())
}

/// Every thread of the agent is without capabilities in force, may have `permitted` and can gain none.
fn assert_given_up(pod: &Pod, permitted: &str) {
    let threads = statuses(pod);
    assert!(threads.len() >= 3, "of the agent: {threads:?}");
    for status in threads {
        for (key, value) in [("CapEff", "0000000000000000"), ("CapPrm", permitted), ("NoNewPrivs", "1")] {
            let found =
                status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
            assert_eq!(found, Some(value), "{key}: {status}");
        }
    }
}

#[test]
fn two_capabilities_suffice_and_none_is_kept() {
    require_containerd!();
    if kernel::is_vm() {
        return eprintln!("not run: some kernels of the emulated machines want CAP_BPF all the time");
    }
    let containerd = Containerd::start();
    let pod = containerd.pod(&format!("podwitness-{}", unique()), "agent");
    let address = start(&pod, "agent", &usual(), &["--sensors-syscalls-hook", "btf"]);
    assert_alive(address, &pod, "agent");
    assert_given_up(&pod, "0000000000000000");
}

/// They may have to be hung back, for which one capability stays in reserve.
#[test]
fn classic_tracepoints_leave_one_capability_in_reserve() {
    require_containerd!();
    if kernel::is_vm() {
        return eprintln!("not run: some kernels of the emulated machines want CAP_BPF all the time");
    }
    let containerd = Containerd::start();
    let pod = containerd.pod(&format!("podwitness-{}", unique()), "agent");
    let address = start(&pod, "agent", &usual(), &["--sensors-syscalls-hook", "classic"]);
    assert_alive(address, &pod, "agent");
    assert_given_up(&pod, "0000004000000000");
}

/// Where it isn't allowed, a call ends the agent: so none of those that it makes is missing in the profile.
#[test]
fn the_profile_of_system_calls_has_all_that_the_agent_makes() {
    require_containerd!();
    let containerd = Containerd::start();
    let file = containerd.file("seccomp.json");
    let seccomp = profile(&file, |profile| profile["defaultAction"] = "SCMP_ACT_KILL_PROCESS".into());
    let pod = containerd.pod(&format!("podwitness-{}", unique()), "agent");
    let address = start(&pod, "agent", &Confinement { seccomp, ..usual() }, &[]);
    assert_alive(address, &pod, "agent");
    let profile: Value = serde_json::from_str(PROFILE).expect("JSON");
    let after_start = profile["syscalls"][0]["names"].as_array().expect("names").len();
    assert!(after_start <= CALLS_AFTER_START, "{after_start} system calls after start");
}

#[test]
fn another_user_than_root_will_do_where_capabilities_are_ambient() {
    require_containerd!();
    let containerd = Containerd::start();
    let pod = containerd.pod(&format!("podwitness-{}", unique()), "agent");
    let confinement = Confinement { user: 65532, ambient: true, ..usual() };
    if containerd.version().contains(" 1.6.") {
        // CRI knows ambient capabilities from 1.7 on: what the agent says instead is what users will read.
        let id = pod.run_confined("doctor", &confinement, &[&binary(), "doctor"]);
        wait_until(PATIENCE * 3, "the doctor is done", || pod.exit_code(&id).is_some());
        assert!(pod.log("doctor").contains("without CAP_PERFMON, CAP_BPF"), "{}", pod.log("doctor"));
        return eprintln!(
            "not run further: this containerd gives no ambient capabilities, as those from 1.7 on do"
        );
    }
    let address = start(&pod, "agent", &confinement, &[]);
    assert_alive(address, &pod, "agent");
}

/// Whatever is taken away, the doctor names it.
#[test]
fn the_doctor_names_each_missing_piece() {
    require_containerd!();
    let containerd = Containerd::start();
    let file = containerd.file("seccomp.json");
    let without = |call: &'static str| {
        profile(&file, move |profile| {
            for group in profile["syscalls"].as_array_mut().expect("groups") {
                group["names"].as_array_mut().expect("names").retain(|name| name != call);
            }
        })
    };
    let hidden =
        |path: &str| shown().into_iter().filter(|shown| shown != &PathBuf::from(path)).collect::<Vec<_>>();
    let cases = [
        (
            "bpf",
            Confinement { capabilities: vec!["PERFMON"], ..usual() },
            vec!["privilege      FAILED", "without CAP_BPF:"],
        ),
        (
            "perfmon",
            Confinement { capabilities: vec!["BPF"], ..usual() },
            vec!["privilege      FAILED", "without CAP_PERFMON:"],
        ),
        (
            "both",
            Confinement { capabilities: vec![], ..usual() },
            vec!["privilege      FAILED", "without CAP_PERFMON, CAP_BPF:"],
        ),
        ("seccomp", Confinement { seccomp: without("bpf"), ..usual() }, vec!["seccomp        FAILED", "bpf"]),
        (
            "cgroups",
            Confinement { shown: hidden("/sys/fs/cgroup"), ..usual() },
            vec!["cgroups        FAILED", "mount the host's"],
        ),
    ];
    let pod = containerd.pod(&format!("podwitness-{}", unique()), "agent");
    for (name, confinement, expected) in cases {
        let id = pod.run_confined(name, &confinement, &[&binary(), "doctor"]);
        let code = wait_for(PATIENCE * 3, "the doctor is done", || pod.exit_code(&id));
        let log = pod.log(name);
        assert_eq!(code, 1, "{name}: {log}");
        for text in expected {
            assert!(log.contains(text), "{name}: no `{text}` in\n{log}");
        }
    }
    let id = pod.run_confined("whole", &usual(), &[&binary(), "doctor"]);
    let code = wait_for(PATIENCE * 3, "the doctor is done", || pod.exit_code(&id));
    assert_eq!(code, 0, "{}", pod.log("whole"));
    assert!(!pod.log("whole").contains("FAILED"), "{}", pod.log("whole"));
}
