//! Names, from a real container runtime: whatever happens in a pod goes by the pod's and the container's name.
//!
//! The work is that of a shell: `kill -0 $$` is built in and is one system call, which is counted in a table; `(exit 7)`
//! is a process of its own, whose end is an event.

use std::{
    thread,
    time::{Duration, Instant},
};

use integration_tests::{
    Agent, Containerd, Metrics, Options, containerd, http, require_containerd,
    wait::{PATIENCE, fewer, unique, wait_until},
};

const CALLS: &str = "podwitness_syscalls_total";
const EXITS: &str = "podwitness_process_exits_total";
const STATE: &str = "podwitness_identity_source_state";

fn agent(containerd: &Containerd) -> Agent {
    let socket = containerd.socket();
    // Hundreds of containers within the grace period have more series than a node has by default.
    let options = Options::default().flag("metrics-series-limit", "0");
    Agent::start(options.flag("identity-cri-socket", socket.to_str().expect("utf-8")))
}

/// So many calls of `kill`, then so many seconds of sleep.
fn script(kills: u32, sleep: &str) -> String {
    format!("i=0; while [ $i -lt {kills} ]; do kill -0 $$; i=$((i+1)); done; sleep {sleep}")
}

fn of<'a>(namespace: &'a str, pod: &'a str, container: &'a str) -> [(&'static str, &'a str); 4] {
    [("namespace", namespace), ("pod", pod), ("container", container), ("syscall", "kill")]
}

fn is_in_state(metrics: &Metrics, state: &str) -> bool {
    metrics.count(STATE, &[("source", "cri"), ("state", state)]) == 1
}

#[test]
fn every_container_of_a_pod_goes_by_its_name() {
    require_containerd!();
    let containerd = Containerd::start();
    let agent = agent(&containerd);
    let namespace = format!("shop-{}", unique());
    let pod = containerd.pod(&namespace, "web-1");
    let init = pod.run("init", 0, &script(7, "0"));
    pod.wait(&init);
    let app = pod.run("app", 0, &script(100, "0.5"));
    let sidecar = pod.run("sidecar", 0, &script(30, "1000"));
    pod.wait(&app);
    // Started again, it is the same series.
    pod.remove_container(&app);
    pod.run("app", 1, &script(11, "1000"));
    for (container, kills) in [("init", 7), ("app", 111), ("sidecar", 30)] {
        agent.wait_count(CALLS, &of(&namespace, "web-1", container), kills);
    }
    let metrics = agent.scrape();
    for series in metrics.series(CALLS, &[("namespace", &namespace)]) {
        assert_eq!((series.label("workload_kind"), series.label("workload")), ("Pod", "web-1"), "{series:?}");
        assert_eq!(series.label("pod"), "web-1");
        // What has no name is the sandbox, which only waits.
        assert!(["", "init", "app", "sidecar"].contains(&series.label("container")), "{series:?}");
    }
    assert!(!metrics.series(CALLS, &[("namespace", &namespace), ("container", "")]).is_empty());
    for id in [pod.uid.as_str(), &sidecar[..12]] {
        let by_id = metrics.samples.iter().filter(|s| s.label("pod") == id || s.label("container") == id);
        assert_eq!(by_id.count(), 0, "series by id {id}");
    }
    assert!(is_in_state(&metrics, "connected"));
    assert_eq!(metrics.count("podwitness_identity_contradictions_total", &[]), 0);
    pod.remove();
}

/// What is left alone leaves no trace, and costs no slot.
#[test]
fn an_excluded_namespace_leaves_no_trace() {
    require_containerd!();
    let containerd = Containerd::start();
    let (hidden, shown) = (format!("hidden-{}", unique()), format!("shown-{}", unique()));
    let socket = containerd.socket();
    let agent = Agent::start(
        Options::default()
            .flag("identity-cri-socket", socket.to_str().expect("utf-8"))
            .flag("observe-exclude-namespaces", &hidden),
    );
    let tail = agent.tail("?kind=process");
    let pods = [containerd.pod(&hidden, "secret"), containerd.pod(&shown, "public")];
    for pod in &pods {
        pod.run("app", 0, &script(50, "1000"));
    }
    agent.wait_count(CALLS, &of(&shown, "public", "app"), 50);
    wait_until(PATIENCE, "the programs pass over the excluded container", || {
        // Its container and its sandbox.
        agent.scrape().count("podwitness_excluded_cgroups", &[]) >= 2
    });
    let metrics = agent.scrape();
    assert!(metrics.samples.iter().all(|sample| sample.label("namespace") != hidden));
    tail.wait("a start in the pod that is shown", |tail| {
        (!tail.events(|event| event["namespace"] == shown.as_str()).is_empty()).then_some(())
    });
    assert!(tail.events(|event| event["namespace"] == hidden.as_str()).is_empty());
    assert!(metrics.outcomes("syscalls").balanced());
    for pod in pods {
        pod.remove();
    }
}

/// Who hides a pod's containers from the kernel is seen as the pod's sandbox, and marked.
#[test]
fn a_sandbox_that_hides_its_containers_is_marked() {
    require_containerd!();
    let containerd = Containerd::start();
    let agent = agent(&containerd);
    let namespace = format!("vault-{}", unique());
    let (hiding, usual) = (
        containerd.pod_by(containerd::SANDBOXED, &namespace, "secret-1"),
        containerd.pod(&namespace, "plain-1"),
    );
    for (pod, container) in [("secret-1", "sandbox:kata"), ("plain-1", "")] {
        let labels = [("namespace", namespace.as_str()), ("pod", pod)];
        wait_until(PATIENCE, "the sandbox has started its program", || {
            agent.scrape().count("podwitness_processes_started_total", &labels) > 0
        });
        for series in agent.scrape().series(CALLS, &labels) {
            assert_eq!(series.label("container"), container, "{series:?}");
            assert_eq!((series.label("workload_kind"), series.label("workload")), ("Pod", pod), "{series:?}");
        }
    }
    hiding.remove();
    usual.remove();
}

/// Containers that are gone from the runtime as soon as they have lived for 50 ms.
#[test]
fn pods_that_come_and_go_are_attributed_by_name() {
    require_containerd!();
    // 200 pods, or as many as fit into the time on a machine that is busy with other things.
    const WAVES: u64 = 25;
    const TIME: Duration = Duration::from_secs(75);
    const KILLS: u32 = 100;
    const FAILURES: u64 = 3;
    let work = format!("(exit 7); (exit 7); (exit 7); {}", script(KILLS, "0.05"));
    let containerd = Containerd::start();
    let agent = agent(&containerd);
    let namespace = format!("waves-{}", unique());
    let begin = Instant::now();
    let (mut waves, waves_at_least) = (0, fewer(5).max(2));
    // At a time.
    let pods = fewer(8);
    while waves < WAVES && (waves < waves_at_least || begin.elapsed() < TIME) {
        let wave = waves;
        thread::scope(|scope| {
            for number in 0..pods {
                let (containerd, namespace, work) = (&containerd, &namespace, &work);
                scope.spawn(move || {
                    let pod = containerd.pod(namespace, &format!("job-{wave}-{number}"));
                    for name in ["first", "second"] {
                        let id = pod.run(name, 0, work);
                        pod.wait(&id);
                        pod.remove_container(&id);
                    }
                    pod.remove();
                });
            }
        });
        waves += 1;
    }
    let took = begin.elapsed();
    let containers = waves * pods * 2;
    // What goes by the names, of the calls and of the events.
    let named = || {
        let metrics = agent.scrape();
        let names = (0..waves).flat_map(|wave| (0..pods).map(move |number| format!("job-{wave}-{number}")));
        let both = names.flat_map(|pod| ["first", "second"].map(|container| (pod.clone(), container)));
        both.fold((0, 0), |(calls, ends), (pod, container)| {
            let [namespace, pod, container, call] = of(&namespace, &pod, container);
            (
                calls + metrics.count(CALLS, &[namespace, pod, container, call]),
                ends + metrics.count(EXITS, &[namespace, pod, container, ("reason", "error")]),
            )
        })
    };
    let truth = (containers * u64::from(KILLS), containers * FAILURES);
    let begin = Instant::now();
    while named() != truth && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
    }
    let found = named();
    eprintln!("{}: {containers} containers of 50 ms in {took:.1?}, two a pod", containerd.version());
    for (what, found, truth) in [("calls", found.0, truth.0), ("events", found.1, truth.1)] {
        let share = found as f64 / truth as f64;
        eprintln!("{found} of {truth} {what} attributed by name: {:.3} %", share * 100.0);
        // A runtime that reports no events has to be asked before it forgets: that is a race, if a short one.
        let at_least = if containerd.reports_events() { 0.999 } else { 0.98 };
        assert!((at_least..=1.0).contains(&share), "{what}: {share}; {}", names_of(&agent.scrape()));
    }
}

/// Lines of the metrics that tell about names.
fn names_of(metrics: &Metrics) -> String {
    let about = metrics.samples.iter().filter(|sample| sample.name.starts_with("podwitness_identity"));
    about.map(|sample| format!("{} {:?} {}\n", sample.name, sample.labels, sample.value)).collect()
}

#[test]
fn names_outlive_the_socket_and_come_back_with_it() {
    require_containerd!();
    let containerd = Containerd::start();
    let agent = agent(&containerd);
    let namespace = format!("gone-{}", unique());
    let pod = containerd.pod(&namespace, "web-1");
    pod.run("app", 0, "while :; do kill -0 $$; (exit 7); sleep 0.05; done");
    let labels = of(&namespace, "web-1", "app");
    let work = |agent: &Agent| agent.scrape().count(CALLS, &labels);
    wait_until(PATIENCE, "the work shows", || work(&agent) > 0);

    containerd.pause();
    // A container that nobody knows makes the agent ask.
    wait_until(PATIENCE * 2, "the loss shows", || is_in_state(&agent.scrape(), "failed"));
    let before = work(&agent);
    wait_until(PATIENCE, "the work goes on by its name", || work(&agent) > before);

    // One that starts now finds nobody to ask, and goes by what the cgroup says.
    let socket = containerd.socket();
    let options = Options::default()
        .flag("identity-cri-socket", socket.to_str().expect("utf-8"))
        .flag("identity-hold", "1s");
    let late = Agent::start(options);
    let by_uid = [("pod", pod.uid.as_str()), ("syscall", "kill")];
    wait_until(PATIENCE, "the work shows by its uid", || late.scrape().count(CALLS, &by_uid) > 5);
    let counted = late.scrape().count(CALLS, &by_uid);

    containerd.resume();
    for agent in [&agent, &late] {
        wait_until(PATIENCE * 2, "the runtime is back", || is_in_state(&agent.scrape(), "connected"));
    }
    wait_until(PATIENCE, "the work goes by its name", || work(&late) > 0);
    let metrics = late.scrape();
    assert!(metrics.count(CALLS, &labels) >= counted, "the counter has come along");
    assert_eq!(metrics.count(CALLS, &by_uid), 0, "the old series has ended");
    assert!(metrics.count("podwitness_identity_renamed_total", &[]) >= 1);
    // So have those who died before.
    let told = || http::get(late.debug, "/v1/containers").unwrap().body;
    wait_until(PATIENCE, "nothing goes by its uid", || !told().contains(&pod.uid));
    assert!(told().contains("\"exit_code\":7"));
    pod.remove();
}
