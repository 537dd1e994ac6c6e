//! System calls of namespaces that are measured in modes of their own.

use std::array;

use integration_tests::{
    Agent, Api, Cgroup, Metrics, Options, Workload, kernel, require_kernel,
    wait::{PATIENCE, unique, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
const DURATION: &str = "podwitness_syscall_duration_seconds_count";
const ESTIMATED: &str = "podwitness_syscall_duration_estimated_total";

/// The namespaces of the scene, by what is said of them; nothing is of the last one.
const TIMED: &str = "timed";
const COUNTED: &str = "counted";
const SAMPLED: &str = "sampled";

/// A pod in each namespace.
struct Scene {
    agent: Agent,
    cgroups: [Cgroup; 3],
    _api: Api,
}

impl Scene {
    fn new() -> Self {
        let number = format!("{:0>12}", unique().replace('-', ""));
        let number = &number[number.len() - 12..];
        let uid = |pod: usize| format!("0ddba115-000{pod}-4000-8000-{number}");
        let pod = |(pod, namespace): (usize, &str)| {
            format!(
                r#"{{"metadata":{{"uid":"{}","name":"web","namespace":"{namespace}","resourceVersion":"1"}},
                "spec":{{"nodeName":"here"}}}}"#,
                uid(pod)
            )
        };
        let pods = [TIMED, COUNTED, SAMPLED].into_iter().enumerate().map(pod).collect::<Vec<_>>().join(",");
        let api = Api::serve(&[("/api/v1/pods", &pods), ("/api/v1/namespaces", "")]);
        let agent = Agent::start(
            Options::default()
                .in_cluster(&api)
                .flag("sensors-syscalls-mode", "default")
                .flag("sensors-syscalls-modes", "timed=full,counted=counts"),
        );
        let id = format!("{}{number:0>52}", "d".repeat(12));
        let cgroups = array::from_fn(|pod| Cgroup::at(&format!("/kubepods/burstable/pod{}/{id}", uid(pod))));
        let scene = Self { agent, cgroups, _api: api };
        let mut round = 0;
        wait_until(PATIENCE, "each namespace is measured in its mode", || {
            round += 1;
            scene.modes(round) == [(1000, 1000, 0), (1000, 0, 0), (1000, 1, 1)]
        });
        scene
    }

    /// What the next 1,000 calls do in each namespace: how many are counted, and how many of those and of what stands for
    /// them have a duration; of the last one, only whether there are any.
    fn modes(&self, round: u64) -> [(u64, u64, u64); 3] {
        let of = |metrics: &Metrics, namespace: &str| {
            let all = |name, label: &[(&str, &str)]| {
                metrics.count(name, &[&[("namespace", namespace)], label].concat())
            };
            let process = [("class", "process")];
            (all(CALLS, &[("syscall", "getppid")]), all(DURATION, &process), all(ESTIMATED, &process))
        };
        let namespaces = [TIMED, COUNTED, SAMPLED];
        let before = self.agent.scrape();
        for cgroup in &self.cgroups {
            Workload::run(&["syscalls", "--getppid", "1000"], cgroup).0.finish();
        }
        for namespace in namespaces {
            let of = [("namespace", namespace), ("syscall", "getppid")];
            self.agent.wait_count(CALLS, &of, 1000 * round);
        }
        let after = self.agent.scrape();
        let [timed, counted, sampled] = namespaces.map(|namespace| {
            let (before, after) = (of(&before, namespace), of(&after, namespace));
            (after.0 - before.0, after.1 - before.1, after.2 - before.2)
        });
        // What a process does besides at its beginning and end is in the class, too.
        let timed = (timed.0, timed.1.min(1000), timed.2);
        [timed, counted, (sampled.0, sampled.1.min(1), sampled.2.min(1))]
    }
}

/// Whatever the mode, no call is missed. One that began where calls are timed and returned where they aren't is not taken for
/// one that begins there, unseen, and returns to where it would have been timed.
#[test]
fn calls_that_wander_between_modes_keep_their_names() {
    require_kernel!();
    let scene = Scene::new();
    let [timed, counted, _] = &scene.cgroups;
    let of = |metrics: &Metrics, syscall| {
        [TIMED, COUNTED]
            .map(|namespace| metrics.count(CALLS, &[("namespace", namespace), ("syscall", syscall)]))
    };
    let mut workload = Workload::prepare(&["wander"], timed);
    let pid = workload.pid();
    let before = scene.agent.scrape();
    for (call, to) in [(libc::SYS_readv, counted), (libc::SYS_preadv2, timed)] {
        workload.go();
        wait_until(PATIENCE, "it waits", || kernel::blocked_in(pid, pid) == Some(call));
        to.add(pid);
    }
    workload.go();
    workload.report();
    let gained = |metrics: &Metrics, syscall| {
        let (before, after) = (of(&before, syscall), of(metrics, syscall));
        [after[0] - before[0], after[1] - before[1]]
    };
    wait_until(PATIENCE, "both calls are counted", || {
        let metrics = scene.agent.scrape();
        [gained(&metrics, "readv"), gained(&metrics, "preadv2")].concat().iter().sum::<u64>() == 2
    });
    let metrics = scene.agent.scrape();
    assert_eq!((gained(&metrics, "readv"), gained(&metrics, "preadv2")), ([0, 1], [1, 0]));
    workload.finish();
}
