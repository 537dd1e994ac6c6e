//! Commands that reach an agent through the API server of its cluster.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read},
    os::unix::fs::symlink,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use integration_tests::{
    Agent, Cgroup, Cluster, NetNs, Options, Workload,
    agent::{self, command},
    cluster::{agent_pod, pod},
    http, kernel,
    netns::CLOSED_V4,
    require_kernel,
    wait::{PATIENCE, unique, wait_until},
};
use serde_json::{Value, json};

const NODE: &str = "node1";
const PORT: u16 = 9482;

/// A command that runs, and what it has said so far.
struct Running {
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
        let out = collect(child.stdout.take().unwrap());
        let said = collect(child.stderr.take().unwrap());
        Self { child, out, said }
    }

    fn events(&self) -> Vec<Value> {
        let lines = self.out.lock().unwrap();
        let parsed = lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
        parsed.filter(|event: &Value| event["id"].is_string()).collect()
    }

    fn notices(&self) -> Vec<Value> {
        let lines = self.out.lock().unwrap();
        let parsed = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        parsed.filter(|event| event["kind"].as_str().unwrap().starts_with("notice.")).collect()
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    #[track_caller]
    fn wait_said(&self, words: &str) {
        wait_until(PATIENCE, &format!("it says: {words}; now {}", self.said()), || {
            self.said().contains(words)
        });
    }

    #[track_caller]
    fn wait_events(&self, count: usize) -> Vec<Value> {
        wait_until(PATIENCE, &format!("{count} events have come; {}", self.said()), || {
            self.events().len() >= count
        });
        let events = self.events();
        assert_eq!(events.len(), count, "{events:#?}");
        events
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            sink.lock().unwrap().push(line);
        }
    });
    lines
}

/// A container of a pod: the pod as the API server tells it, and the container's cgroup.
fn container(namespace: &str, name: &str) -> (Value, Cgroup) {
    let number: String = unique().bytes().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{number:0>64}");
    let uid = format!("{:0>8}-0000-4000-8000-{:0>12}", std::process::id() % 100_000_000, &id[52..]);
    let mut object = pod(namespace, name, NODE);
    object["metadata"]["uid"] = uid.as_str().into();
    object["status"]["containerStatuses"] =
        json!([{"name": "app", "containerID": format!("containerd://{id}"), "state": {"running": {}}}]);
    (object, Cgroup::at(&format!("/kubepods/burstable/pod{uid}/{id}")))
}

/// Puts a pod into the cluster's namespace `shop`, and returns the cgroup of its container.
fn put(cluster: &Cluster, name: &str) -> Cgroup {
    let (pod, cgroup) = container("shop", name);
    cluster.put(pod);
    cgroup
}

/// An agent on the node, named by the cluster, and what leads to it.
fn agent_in(cluster: &Cluster, name: &str) -> Agent {
    let agent = Agent::start(
        Options::default()
            .flag("identity-kubeconfig", cluster.kubeconfig())
            .flag("identity-kubernetes", "on")
            .flag("identity-node-name", NODE)
            .flag("identity-cri-socket", "off"),
    );
    let state = [("source", "kubernetes"), ("state", "connected")];
    wait_until(PATIENCE, "the agent knows its pods by their names", || {
        agent.scrape().count("podwitness_identity_source_state", &state) == 1
    });
    cluster.put(agent_pod(name, NODE));
    cluster.lead(&format!("podwitness/{name}"), PORT, agent.debug);
    agent
}

#[track_caller]
fn is_read(agent: &Agent, readers: u64) {
    wait_until(PATIENCE, "the agent has its readers", || {
        agent.scrape().count("podwitness_live_clients", &[]) == readers
    });
}

fn connect(cgroup: &Cgroup, count: &str) {
    let (workload, _) = Workload::run(&["loopback", "--count", count], cgroup);
    workload.finish();
}

/// The whole way: pod → node → agent → forward → events of this pod and no other. The forward breaks, and nothing is lost;
/// the agent is replaced, and the new one is read on.
#[test]
fn a_pods_events_come_through_the_api_server() {
    require_kernel!();
    let cluster = Cluster::new(&[NODE]);
    let [cgroup, neighbour] = ["web-0", "web-1"].map(|name| put(&cluster, name));
    let mut first = agent_in(&cluster, "podwitness-aaaaa");
    let tail = Running::start(&[
        "tail",
        "--kubeconfig",
        cluster.kubeconfig(),
        "--pod",
        "shop/web-0",
        "-o",
        "json",
        "kind=tcp.connect",
    ]);
    is_read(&first, 1);
    connect(&neighbour, "4");
    connect(&cgroup, "3");
    for event in tail.wait_events(3) {
        assert_eq!(
            (&event["namespace"], &event["pod"], &event["container"]),
            (&"shop".into(), &"web-0".into(), &"app".into()),
            "{event}"
        );
    }

    // The way breaks; what happens meanwhile is kept by the agent, and comes afterwards.
    cluster.cut();
    tail.wait_said("trying again");
    is_read(&first, 0);
    connect(&cgroup, "5");
    cluster.mend();
    tail.wait_said("reading on from podwitness/podwitness-aaaaa on node1");
    let events = tail.wait_events(8);
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    let mut once = ids.clone();
    once.dedup();
    assert_eq!(ids, once, "nothing comes twice");
    assert_eq!(tail.notices().iter().filter(|notice| notice["kind"] == "notice.gap").count(), 0);

    // A DaemonSet is rolled: another pod, by another name.
    assert!(first.stop().success());
    tail.wait_said("the agent stops; trying again");
    cluster.remove("podwitness-aaaaa");
    let second = agent_in(&cluster, "podwitness-bbbbb");
    tail.wait_said("reading on from podwitness/podwitness-bbbbb on node1");
    is_read(&second, 1);
    connect(&cgroup, "2");
    tail.wait_events(10);
    let gaps = tail.notices().iter().filter(|notice| notice["kind"] == "notice.gap").count();
    assert_eq!(gaps, 1, "what the first one saw at the end is not known to the second");
    assert!(cluster.requests("/pods/web-0") >= 3, "pod and node are looked up each time");
}

/// With a node instead of a pod, all of the node is seen; the pod's namespace is that of the context if none is named.
#[test]
fn a_node_is_enough_and_the_context_has_a_namespace() {
    require_kernel!();
    let cluster = Cluster::new(&[NODE]);
    let cgroup = put(&cluster, "web-0");
    let agent = agent_in(&cluster, "podwitness-aaaaa");
    let outside = Cgroup::new("outside");
    let node = format!("workload=\"{}\"", outside.path());
    let tail = |which: [&str; 2], filter: &str| {
        let arguments = [
            "tail",
            "--kubeconfig",
            cluster.kubeconfig(),
            which[0],
            which[1],
            "-o",
            "json",
            "--limit",
            "2",
            filter,
        ];
        Running::start(&arguments)
    };
    let mut readers = [
        tail(["--node", NODE], &format!("kind=tcp.connect {node}")),
        tail(["--pod", "web-0"], "kind=tcp.connect"),
    ];
    is_read(&agent, 2);
    connect(&outside, "3");
    connect(&cgroup, "3");
    for reader in &mut readers {
        wait_until(PATIENCE, "it ends after two events", || reader.child.try_wait().unwrap().is_some());
        assert!(reader.child.wait().unwrap().success(), "{}", reader.said());
        reader.wait_events(2);
    }
}

/// The figures of a pod's containers alone, and of all that a node has.
#[test]
fn top_shows_a_pod_or_a_node() {
    require_kernel!();
    let cluster = Cluster::new(&[NODE]);
    let [cgroup, neighbour] = ["web-0", "web-1"].map(|name| put(&cluster, name));
    let agent = agent_in(&cluster, "podwitness-aaaaa");
    connect(&cgroup, "3");
    connect(&neighbour, "4");
    wait_until(PATIENCE, "both are told of", || {
        let answer = http::get(agent.debug, "/v1/containers").unwrap().body;
        answer.contains("web-0") && answer.contains("web-1")
    });
    let top = |which: [&str; 2]| {
        let words = ["top", "--once", "--interval", "500ms", "--kubeconfig", cluster.kubeconfig()];
        let output = agent::run(&[&words[..], &which].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let of_pod = top(["--pod", "shop/web-0"]);
    assert!(of_pod.contains("web-0") && !of_pod.contains("web-1"), "{of_pod}");
    let of_node = top(["--node", NODE]);
    assert!(of_node.contains("web-0") && of_node.contains("web-1"), "{of_node}");
}

/// Who died, of what, and what had failed before, asked afterwards and from elsewhere.
#[test]
fn why_a_pod_died() {
    require_kernel!();
    let cluster = Cluster::new(&[NODE]);
    let cgroup = put(&cluster, "web-0");
    let agent = agent_in(&cluster, "podwitness-aaaaa");
    let why = |more: &[&str]| {
        let output =
            agent::run(&[&["why", "--kubeconfig", cluster.kubeconfig(), "--pod", "web-0"], more].concat());
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let unknown = why(&[]);
    assert!(unknown.contains("knows no pod web-0 in the namespace shop"), "{unknown}");

    cgroup.limit_memory(48);
    // What failed is kept while somebody reads.
    let reader = agent.tail("?pod=web-0");
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let refused = ["connect", "--addr", CLOSED_V4, "--count", "2", "--netns", &namespace];
    Workload::run(&refused, &cgroup).0.finish();
    Workload::run(&["spawn", "--count", "1", "--exit", "3"], &cgroup).0.finish();
    let mut hog = Workload::prepare(&["hog", "--mib", "96"], &cgroup);
    hog.go();
    assert!(hog.report_or_end().is_none(), "it is killed");
    hog.wait();
    reader.wait("the end of the victim", |tail| {
        let is_end = |event: &Value| event["reason"] == "oom_killed" && event["pid"] == hog.pid();
        tail.events(is_end).pop()
    });
    drop(reader);

    // An answer of the agent is given again for half a second.
    wait_until(PATIENCE, "both deaths are told", || why(&[]).contains("killed for want of memory"));
    let text = why(&[]);
    for words in [
        "shop/web-0: 2 deaths",
        "ended with exit code 3",
        "killed for want of memory: the container's limit was reached",
        "it asked for more by itself; it had lived for",
        "tcp.connect → 127.0.0.1:9",
        "ECONNREFUSED",
    ] {
        assert!(text.contains(words), "no {words:?} in: {text}");
    }
    let report: Value = serde_json::from_str(&why(&["-o", "json"])).unwrap();
    let deaths = report["deaths"].as_array().unwrap();
    assert_eq!((&report["pod"], deaths.len()), (&"shop/web-0".into(), 2), "{report:#}");
    assert_eq!(
        (&deaths[0]["exit"]["exit_code"], &deaths[0]["before"][0]["errno"]),
        (&3.into(), &"ECONNREFUSED".into())
    );
    assert_eq!(
        (&deaths[1]["oom"]["pid"], &deaths[1]["exit"]["reason"]),
        (&hog.pid().into(), &"oom_killed".into())
    );
}

/// The real kubectl: the user's own, or the one that `cargo xtask test` hands over.
fn kubectl() -> Option<String> {
    let candidates = [Some("kubectl".into()), env::var("PODWITNESS_KUBECTL").ok()];
    let runs = |kubectl: &String| {
        let output = Command::new(kubectl).args(["version", "--client"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    candidates.into_iter().flatten().find(runs)
}

/// The doctor asks the agent, and a plugin is called as kubectl calls it.
#[test]
fn kubectl_finds_the_plugin_and_it_finds_the_agent() {
    require_kernel!();
    let cluster = Cluster::new(&[NODE]);
    let agent = agent_in(&cluster, "podwitness-aaaaa");
    let directory = env::temp_dir().join(format!("podwitness-plugin-{}", unique()));
    fs::create_dir_all(&directory).unwrap();
    for name in ["kubectl-podwitness", "kubectl_complete-podwitness"] {
        symlink(fs::canonicalize(agent::binary()).unwrap(), directory.join(name)).unwrap();
    }
    let path = env::join_paths(
        [directory.clone()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    );
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).env("PATH", path.as_ref().unwrap()).env("KUBECONFIG", cluster.kubeconfig());
        agent::clear_configuration(&mut command);
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let plugin = directory.join("kubectl-podwitness").display().to_string();
    let (is_well, said) = run(&plugin, &["doctor", "--node", NODE]);
    assert!(is_well, "{said}");
    let status = http::get(agent.debug, "/v1/status").unwrap().body;
    let status: Value = serde_json::from_str(&status).unwrap();
    let line =
        format!("podwitness {} on {}", status["version"].as_str().unwrap(), status["node"].as_str().unwrap());
    assert!(said.starts_with(&line) && said.contains("\nkubernetes connected"), "{said}");
    let (_, said) = run(&plugin, &["tial"]);
    assert!(said.contains("Usage: kubectl podwitness "), "{said}");
    let completer = directory.join("kubectl_complete-podwitness").display().to_string();
    assert_eq!(run(&completer, &["tail", "--agent-p"]).1.lines().last(), Some(":4"));

    match kubectl() {
        Some(kubectl) => {
            let (is_well, said) = run(&kubectl, &["podwitness", "doctor", "--node", NODE]);
            assert!(is_well && said.starts_with(&line), "{said}");
            let (_, said) = run(&kubectl, &["__complete", "podwitness", "tail", "--agent-p"]);
            assert!(said.starts_with("--agent-port\t"), "{said}");
        }
        None => {
            kernel::left_out("no kubectl on the PATH or in PODWITNESS_KUBECTL: `cargo xtask test` has one");
        }
    }
    fs::remove_dir_all(&directory).unwrap();
}

fn tail(cluster: &Cluster, more: &[&str]) -> String {
    let arguments = [&["tail", "--kubeconfig", cluster.kubeconfig()], more].concat();
    let output = agent::run(&arguments);
    failure(&output)
}

#[track_caller]
fn failure(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// Every link of the chain that is missing is named, with what to do about it.
#[test]
fn what_is_missing_is_said() {
    let cluster = Cluster::new(&[NODE, "node2"]);
    cluster.put(pod("shop", "web-0", NODE));
    cluster.put(pod("shop", "web-2", "node2"));
    let mut waiting = pod("shop", "waiting", "");
    waiting["status"] = json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/2 nodes are available: insufficient memory",
        }],
    });
    cluster.put(waiting);
    let said = |more: &[&str], words: &[&str]| {
        let said = tail(&cluster, more);
        for words in words {
            assert!(said.contains(words), "{more:?}: {said}");
        }
    };

    said(&["--pod", "shop/nobody"], &["there is no pod shop/nobody", "kubectl get pods -n shop"]);
    said(&["--pod", "web-0", "-n", "bakery"], &["there is no pod bakery/web-0"]);
    said(&["--pod", "shop/../nodes"], &["no name that a pod"]);
    said(&["--pod", "shop/waiting"], &["is on no node yet (Unschedulable: 0/2 nodes", "insufficient memory"]);
    said(&["--pod", "shop/web-0"], &["no agent is on the node node1", "app.kubernetes.io/name=podwitness"]);
    said(&["--node", "node3"], &["there is no node node3"]);
    said(&["--pod", "shop/web-0", "--context", "there"], &["no context \"there\"", "one of here"]);

    cluster.put(agent_pod("podwitness-aaaaa", NODE));
    let mut broken = agent_pod("podwitness-bbbbb", "node2");
    broken["status"] = json!({
        "phase": "Pending",
        "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}],
    });
    cluster.put(broken);
    said(&["--node", "node2"], &["podwitness/podwitness-bbbbb", "Pending, ImagePullBackOff"]);
    said(
        &["--node", NODE, "--agent-namespace", "elsewhere"],
        &["no agent is on", "in the namespace elsewhere"],
    );
    // Nobody listens there.
    said(&["--node", NODE], &["dial tcp4 127.0.0.1:9482", "--agent-port names another"]);

    cluster.forbid(Some("/api/v1/namespaces/shop/pods/web-0"));
    said(&["--pod", "shop/web-0"], &["(403)", "in the namespace shop", "resources: [pods], verbs: [get]"]);
    cluster.forbid(Some("/api/v1/pods"));
    said(&["--pod", "shop/web-0"], &["a ClusterRole", "verbs: [list]", "--agent-namespace"]);
    cluster.forbid(Some("/api/v1/namespaces/podwitness/pods"));
    said(
        &["--node", NODE, "--agent-namespace", "podwitness"],
        &["in the namespace podwitness", "verbs: [list]"],
    );
    cluster.forbid(Some("/api/v1/namespaces/podwitness/pods/podwitness-aaaaa/portforward"));
    said(&["--node", NODE], &["in the namespace podwitness", "[pods/portforward], verbs: [get, create]"]);
    cluster.forbid(None);
    cluster.cut();
    said(&["--node", NODE], &["forwards nothing to podwitness/podwitness-aaaaa", "no route to host"]);

    cluster.mend();
    let wrong = fs::read_to_string(cluster.kubeconfig()).unwrap().replace("open-sesame", "sesame");
    let kubeconfig = env::temp_dir().join(format!("podwitness-test-wrong-{}", unique()));
    fs::write(&kubeconfig, wrong).unwrap();
    let refused = agent::run(&["tail", "--node", NODE, "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert!(failure(&refused).contains("refuses the credentials (401)"), "{refused:?}");
    fs::remove_file(&kubeconfig).unwrap();
    let nowhere = agent::run(&["tail", "--node", NODE, "--kubeconfig", "/nonexistent"]);
    assert!(failure(&nowhere).contains("--kubeconfig"), "{nowhere:?}");
    let mut without = command(&["tail", "--node", NODE]);
    let without =
        without.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").env("HOME", "/nonexistent");
    assert!(failure(&without.output().unwrap()).contains("no kubeconfig is here"), "{without:?}");
}
