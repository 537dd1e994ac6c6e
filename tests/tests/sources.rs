//! Names while their sources fail: the Kubernetes API is down from the start, the runtime goes, and both come back.
//! Nothing restarts, nothing leaks, and the state of each is told.

use std::fs;

use integration_tests::{
    Agent, Api, Containerd, Options, agent,
    api::REPLICA_SETS,
    kernel, require_containerd,
    wait::{PATIENCE, unique, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
const STATE: &str = "podwitness_identity_source_state";
const NODE: &str = "node1";

struct Bench {
    containerd: Containerd,
    api: Api,
    agent: Agent,
}

impl Bench {
    /// A pod `web-1` with a container `app`, in which `kill` is called again and again: its namespace and uid.
    fn pod_at_work(&self) -> (String, String) {
        let namespace = format!("shop-{}", unique());
        let pod = self.containerd.pod(&namespace, "web-1");
        pod.run("app", 0, "while :; do kill -0 $$; sleep 0.05; done");
        (namespace, pod.uid.clone())
    }

    fn new() -> Self {
        let (containerd, api) = (Containerd::start(), Api::down());
        let mut options = Options::default();
        for [name, value] in flags(&containerd, &api) {
            options = options.flag(&name, &value);
        }
        Self { containerd, api, agent: Agent::start(options) }
    }

    /// Waits for the states of the Kubernetes API and of the runtime, and looks whether the doctor says the same.
    #[track_caller]
    fn become_(&self, kubernetes: &str, cri: &str) {
        let states = [("kubernetes", kubernetes), ("cri", cri)];
        for (source, state) in states {
            // Failures are tried again after 30 s at most.
            wait_until(PATIENCE * 3, &format!("{source} is {state}"), || {
                self.agent.scrape().count(STATE, &[("source", source), ("state", state)]) == 1
            });
        }
        let flags = flags(&self.containerd, &self.api);
        let flags = flags.iter().flat_map(|[name, value]| [format!("--{name}"), value.clone()]);
        let arguments: Vec<String> = std::iter::once("doctor".to_owned()).chain(flags).collect();
        let output = agent::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for (source, state) in states {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(source));
            let mark = line.and_then(|line| line.split_whitespace().nth(1));
            assert_eq!(mark, Some(if state == "connected" { "ok" } else { "FAILED" }), "{source}: {text}");
        }
    }

    fn calls(&self, of: &[(&str, &str)]) -> u64 {
        self.agent.scrape().count(CALLS, of)
    }

    #[track_caller]
    fn goes_on(&self, of: &[(&str, &str)]) {
        let before = self.calls(of);
        wait_until(PATIENCE, "the work goes on by its name", || self.calls(of) > before);
    }

    /// Waits until everything is watched that the agent asks the API server for, each over a connection of its own.
    #[track_caller]
    fn watches(&self) {
        for path in ["/api/v1/pods", "/api/v1/namespaces"] {
            wait_until(PATIENCE * 3, &format!("{path} is watched"), || self.api.is_watched(path));
        }
    }

    /// Open files and threads of the agent.
    fn held(&self) -> (usize, usize) {
        let pid = self.agent.pid();
        let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        (files, kernel::threads(pid).len())
    }
}

fn flags(containerd: &Containerd, api: &Api) -> [[String; 2]; 4] {
    let socket = containerd.socket().to_str().expect("utf-8").to_owned();
    [
        ["identity-cri-socket", &socket],
        // A runtime that is gone is missed at the next list.
        ["identity-cri-interval", "1s"],
        ["identity-kubeconfig", api.kubeconfig()],
        ["identity-node-name", NODE],
    ]
    .map(|pair| pair.map(str::to_owned))
}

#[test]
fn sources_that_fail_come_back_and_nothing_restarts() {
    require_containerd!();
    let mut bench = Bench::new();
    let (namespace, uid) = bench.pod_at_work();
    let pod =
        [("namespace", namespace.as_str()), ("pod", "web-1"), ("container", "app"), ("syscall", "kill")];
    let by = |kind, workload| [&[("workload_kind", kind), ("workload", workload)], &pod[..]].concat();

    // The runtime alone is enough.
    bench.become_("failed", "connected");
    bench.goes_on(&by("Pod", "web-1"));
    // With neither, who is known stays known.
    bench.containerd.pause();
    bench.become_("failed", "failed");
    bench.goes_on(&by("Pod", "web-1"));
    let counted = bench.calls(&pod);

    let object = format!(
        r#"{{"metadata":{{"name":"web-1","namespace":"{namespace}","uid":"{uid}","resourceVersion":"1","ownerReferences":[{{"apiVersion":"apps/v1","kind":"DaemonSet","name":"web","uid":"u","controller":true}}]}},"spec":{{"nodeName":"{NODE}"}},"status":{{}}}}"#
    );
    let namespaced = format!(r#"{{"metadata":{{"name":"{namespace}","resourceVersion":"1"}}}}"#);
    let objects = [("/api/v1/pods", object.as_str()), ("/api/v1/namespaces", namespaced.as_str())];
    bench.api.start(&objects);
    bench.containerd.resume();
    bench.become_("connected", "connected");
    // The API knows more, and the counter has come along.
    wait_until(PATIENCE, "the work goes by its workload", || bench.calls(&by("DaemonSet", "web")) >= counted);
    bench.goes_on(&by("DaemonSet", "web"));
    assert_eq!(bench.calls(&by("Pod", "web-1")), 0, "the old series has ended");
    bench.watches();
    let held = bench.held();

    bench.api.stop();
    bench.containerd.pause();
    bench.become_("failed", "failed");
    bench.goes_on(&by("DaemonSet", "web"));
    bench.api.start(&objects);
    bench.containerd.resume();
    bench.become_("connected", "connected");
    bench.goes_on(&by("DaemonSet", "web"));
    bench.watches();
    wait_until(PATIENCE, "the agent holds what it held before", || {
        let now = bench.held();
        // Threads that render pages end when they have had nothing to do for ten seconds.
        now.0 <= held.0 && now.1 <= held.1
    });
    let metrics = bench.agent.scrape();
    assert_eq!(metrics.count("podwitness_identity_contradictions_total", &[]), 0);
}

#[test]
fn a_workload_that_was_guessed_is_corrected_by_the_api() {
    require_containerd!();
    let mut bench = Bench::new();
    let (namespace, uid) = bench.pod_at_work();
    let owned = |name: &str, uid: &str, owner: &str, more: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{uid}","resourceVersion":"1","labels":{{"pod-template-hash":"abc12"}},"ownerReferences":[{owner}]}}{more}}}"#
        )
    };
    let pod = owned(
        "web-1",
        &uid,
        r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-abc12","uid":"r","controller":true}"#,
        &format!(r#","spec":{{"nodeName":"{NODE}"}},"status":{{}}"#),
    );
    let rollout =
        r#"{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","name":"shop","uid":"o","controller":true}"#;
    let replica_set = owned("web-abc12", "r", rollout, "");
    let path = format!("{REPLICA_SETS}{namespace}/replicasets/web-abc12");
    let namespaced = format!(r#"{{"metadata":{{"name":"{namespace}","resourceVersion":"1"}}}}"#);
    let mut objects =
        [("/api/v1/pods", pod.as_str()), ("/api/v1/namespaces", namespaced.as_str()), (path.as_str(), "")];
    let by = |kind, workload| {
        [
            ("namespace", namespace.as_str()),
            ("workload_kind", kind),
            ("workload", workload),
            ("pod", "web-1"),
            ("container", "app"),
            ("syscall", "kill"),
        ]
    };

    // The ReplicaSet can't be asked for: its name tells of a Deployment.
    bench.api.start(&objects);
    wait_until(PATIENCE * 3, "the work goes by the guess", || bench.calls(&by("Deployment", "web")) > 0);
    let counted = bench.calls(&by("Deployment", "web"));
    bench.api.stop();
    objects[2].1 = &replica_set;
    bench.api.start(&objects);
    wait_until(PATIENCE * 3, "the work goes by its workload", || {
        bench.calls(&by("Rollout", "shop")) >= counted
    });
    bench.goes_on(&by("Rollout", "shop"));
    assert_eq!(bench.calls(&by("Deployment", "web")), 0, "the old series has ended");
}
