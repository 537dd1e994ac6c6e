//! Telemetry out: what a collector gets of what workloads do.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt as _,
};

use integration_tests::{
    Agent, Cgroup, Containerd, NetNs, Options, Prometheus, Receiver, Workload, http,
    netns::CLOSED_V4,
    otlp::Protocol,
    require_containerd, require_kernel, require_receiver,
    wait::{PATIENCE, unique, wait_until},
};
use serde_json::{Value, json};

/// Sends at once.
fn with_metrics(receiver: &Receiver) -> Options {
    Options::default()
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())
        .variable("OTEL_EXPORTER_OTLP_PROTOCOL", receiver.protocol())
        .flag("otlp-delay", "50ms")
        .flag("otlp-metrics-interval", "1s")
}

fn options(receiver: &Receiver) -> Options {
    with_metrics(receiver).flag("otlp-metrics", "false")
}

/// A cgroup that looks like a container of a pod, and the container's id.
fn container() -> (Cgroup, String, String) {
    let number: String = unique().bytes().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{number:0>64}");
    let uid = format!("{:0>8}-0000-4000-8000-{:0>12}", std::process::id() % 100_000_000, &id[58..]);
    (Cgroup::at(&format!("/kubepods/burstable/pod{uid}/{id}")), uid, id)
}

fn of(id: &str) -> impl Fn(&Value) -> bool {
    move |item| item["resource"]["container.id"] == id
}

/// Whether one lies in the other, as the wall clock has them.
fn is_within(child: &Value, parent: &Value) -> bool {
    let time = |span: &Value, name: &str| span[name].as_u64().unwrap();
    time(child, "start") >= time(parent, "start") && time(child, "end") <= time(parent, "end")
}

fn a_containers_life_is_a_tree_of_spans(protocol: Protocol, compression: &str) {
    require_kernel!();
    require_receiver!();
    let receiver = Receiver::start(protocol);
    let options = options(&receiver).variable("OTEL_EXPORTER_OTLP_COMPRESSION", compression);
    let mut agent = Agent::start(options);
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let (cgroup, uid, id) = container();

    // The main process connects in vain; another one ends with an error, a third one is killed.
    let arguments = ["connect", "--addr", CLOSED_V4, "--count", "3", "--netns", &namespace];
    let mut main = Workload::born_in(&arguments, &cgroup);
    main.go();
    main.report();
    let (failing, _) = Workload::run(&["spawn", "--count", "1", "--exit", "3"], &cgroup);
    let (killed, _) = Workload::run(&["spawn", "--count", "1", "--signal", "9"], &cgroup);
    let pid = main.pid();
    main.finish();
    failing.finish();
    killed.finish();
    cgroup.remove();

    let spans = receiver.wait("traces", 9, of(&id));
    let named = |kind: &str, value: Value| -> Vec<&Value> {
        spans.iter().filter(|span| span["attributes"][kind] == value).collect()
    };
    // Three connections, the main process, two that were moved in with a child each, and the container.
    assert_eq!(spans.len(), 9, "{spans:#?}");
    let life: Vec<_> = spans.iter().filter(|span| span["parent"] == "").collect();
    assert_eq!(life.len(), 1, "{spans:#?}");
    let life = life[0];
    assert_eq!(life["resource"]["k8s.pod.uid"], uid, "{life}");
    assert!(spans.iter().all(|span| span["trace"] == life["trace"]), "{spans:#?}");

    let connections = named("network.transport", "tcp".into());
    assert_eq!(connections.len(), 3, "{spans:#?}");
    let process = named("process.pid", pid.into());
    let process = process.iter().find(|span| span["kind"] == 1).expect("the main process");
    assert_eq!((&process["parent"], &process["error"]), (&life["span"], &false.into()), "{process}");
    for connection in connections {
        assert_eq!(connection["kind"], 3, "{connection}");
        assert_eq!(connection["parent"], process["span"], "{connection}");
        assert_eq!(connection["attributes"]["error.type"], "ECONNREFUSED", "{connection}");
        assert_eq!(connection["error"], true, "{connection}");
        let peer = &connection["attributes"]["network.peer.address"];
        assert!(CLOSED_V4.starts_with(peer.as_str().unwrap()), "{connection}");
        assert!(is_within(connection, process), "{connection} is not within {process}");
        assert!(is_within(connection, life), "{connection} is not within {life}");
    }
    let failed = named("process.exit.code", 3.into());
    assert_eq!(failed.len(), 1, "{spans:#?}");
    assert_eq!(failed[0]["attributes"]["error.type"], "3");
    let signalled = named("podwitness.exit.signal", "SIGKILL".into());
    assert_eq!(signalled.len(), 1, "{spans:#?}");
    assert_eq!(signalled[0]["attributes"]["podwitness.sampling.decision"], "death");

    // Failures and the container's end are logs, linked to these spans.
    let logs = receiver.wait("logs", 3, of(&id));
    let names: Vec<_> = logs.iter().filter_map(|log| log["name"].as_str()).collect();
    assert_eq!(
        names,
        ["podwitness.process_exit", "podwitness.process_exit", "podwitness.container_exit"],
        "{logs:#?}"
    );
    assert_eq!((&logs[0]["span"], &logs[0]["trace"]), (&failed[0]["span"], &life["trace"]));
    assert_eq!(logs[2]["span"], life["span"]);
    assert_eq!(logs[2]["attributes"]["process.exit.code"], 0, "{:#}", logs[2]);
    assert!(agent.stop().success());
    // The receiver reads what the header says; gRPC's library keeps its own headers to itself.
    if protocol != Protocol::Grpc {
        let name = if protocol == Protocol::Http { "content-encoding" } else { "grpc-encoding" };
        let requests = receiver.lines().into_iter().filter(|line| !line["signal"].is_null());
        let encodings: BTreeSet<_> = requests.map(|line| line["headers"][name].to_string()).collect();
        assert_eq!(encodings, BTreeSet::from([format!("{compression:?}")]));
    }
}

#[test]
fn a_containers_life_is_a_tree_of_spans_over_http() {
    a_containers_life_is_a_tree_of_spans(Protocol::Http, "gzip");
}

#[test]
fn a_containers_life_is_a_tree_of_spans_over_grpc() {
    a_containers_life_is_a_tree_of_spans(Protocol::Grpc, "gzip");
}

#[test]
fn a_containers_life_is_a_tree_of_spans_in_zstd_over_http() {
    a_containers_life_is_a_tree_of_spans(Protocol::Http, "zstd");
}

#[test]
fn a_containers_life_is_a_tree_of_spans_in_zstd_over_grpc() {
    a_containers_life_is_a_tree_of_spans(Protocol::Frames, "zstd");
}

#[test]
fn a_restarted_container_is_linked_to_the_one_before_it_and_called_as_its_pod_says() {
    require_kernel!();
    require_receiver!();
    require_containerd!();
    let containerd = Containerd::start();
    let receiver = Receiver::start(Protocol::Http);
    let socket = containerd.socket();
    let options = with_metrics(&receiver).flag("identity-cri-socket", socket.to_str().expect("utf-8"));
    let agent = Agent::start(options);
    let namespace = format!("shop-{}", unique());
    let annotations = [
        ("resource.opentelemetry.io/service.name", "cart"),
        ("resource.opentelemetry.io/deployment.environment.name", "staging"),
    ];
    let pod = containerd.pod_with_annotations(&namespace, "web-1", &annotations);
    let ids = [0, 1].map(|attempt| {
        let id = pod.run("app", attempt, "kill -0 $$");
        pod.wait(&id);
        // By then it has its name, which nobody knows of one that is removed.
        let calls = [("namespace", namespace.as_str()), ("container", "app"), ("syscall", "kill")];
        agent.wait_count("podwitness_syscalls_total", &calls, u64::from(attempt) + 1);
        pod.remove_container(&id);
        id
    });
    let is_life = |span: &Value| span["parent"] == "" && ids.iter().any(|id| of(id)(span));
    let lives = receiver.wait("traces", 2, is_life);
    for (attempt, life) in lives.iter().enumerate() {
        let resource = &life["resource"];
        assert_eq!(resource["container.id"], ids[attempt], "{lives:#?}");
        assert_eq!(resource["k8s.container.restart_count"], attempt, "{life}");
        assert_eq!(resource["service.name"], "cart", "{life}");
        // The tag of the image.
        assert_eq!(resource["service.version"], "1", "{life}");
        assert_eq!(resource["service.namespace"], namespace, "{life}");
        assert_eq!(resource["service.instance.id"], format!("{namespace}.web-1.app"), "{life}");
        assert_eq!(resource["deployment.environment.name"], "staging", "{life}");
    }
    let [first, second] = lives.as_slice() else { panic!("{lives:#?}") };
    assert_eq!((&first["events"], &first["links"]), (&json!([]), &json!([])), "{first}");
    assert_eq!(
        second["events"],
        json!([{"name": "podwitness.restart", "podwitness.restarts": 1}]),
        "{second}"
    );
    assert_eq!(second["links"], json!([first["span"]]), "{second}");

    let told = http::get(agent.debug, "/v1/containers").unwrap().body;
    let told: Value = serde_json::from_str(&told).unwrap();
    let is_ours = |one: &&Value| one["namespace"] == namespace && one["container"] == "app";
    let ours = told["containers"].as_array().unwrap().iter().find(is_ours);
    assert_eq!(ours.unwrap()["restart_count"], 1, "{told}");

    // Metrics stand under the same service.
    let is_of_app = |point: &Value| {
        point["resource"]["k8s.namespace.name"] == namespace
            && point["resource"]["k8s.container.name"] == "app"
    };
    let point = &receiver.wait("metrics", 1, is_of_app)[0]["resource"];
    assert_eq!((&point["service.name"], &point["service.version"]), (&json!("cart"), &json!("1")), "{point}");
    assert_eq!(point["deployment.environment.name"], "staging", "{point}");
    pod.remove();
}

#[test]
fn an_oom_kill_is_a_log_and_an_event_of_the_containers_life() {
    require_kernel!();
    require_receiver!();
    let receiver = Receiver::start(Protocol::Http);
    let _agent = Agent::start(options(&receiver));
    let (cgroup, _, id) = container();
    cgroup.limit_memory(32);
    let mut victim = Workload::born_in(&["hog", "--mib", "64"], &cgroup);
    let pid = victim.pid();
    victim.go();
    assert_eq!(victim.wait().signal(), Some(libc::SIGKILL));
    cgroup.remove();

    let logs = receiver.wait("logs", 3, of(&id));
    let kill = logs.iter().find(|log| log["name"] == "podwitness.oom_kill").expect("the kill");
    assert_eq!(kill["attributes"]["process.pid"], pid, "{kill}");
    assert_eq!(kill["severity"], "ERROR", "{kill}");
    assert_eq!(kill["attributes"]["podwitness.oom.scope"], "container", "{kill}");
    let end = logs.iter().find(|log| log["name"] == "podwitness.container_exit").expect("the end");
    assert_eq!(end["attributes"]["error.type"], "oom_killed", "{end}");

    let spans = receiver.wait("traces", 2, of(&id));
    let process = spans.iter().find(|span| span["attributes"]["process.pid"] == pid).expect("the process");
    assert_eq!(process["span"], kill["span"], "{process}");
    assert_eq!(process["attributes"]["error.type"], "oom_killed", "{process}");
    let life = spans.iter().find(|span| span["parent"] == "").expect("the container");
    assert_eq!(life["events"][0]["name"], "podwitness.oom_kill", "{life}");
    assert_eq!((&life["error"], &life["span"]), (&true.into(), &process["parent"]), "{life}");
}

#[test]
fn metrics_are_those_that_prometheus_gets() {
    require_kernel!();
    require_receiver!();
    let receiver = Receiver::start(Protocol::Http);
    let options = Options::default()
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())
        .variable("OTEL_TRACES_EXPORTER", "none")
        .variable("OTEL_LOGS_EXPORTER", "none")
        .variable("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=test")
        .flag("otlp-metrics-interval", "1s");
    let agent = Agent::start(options);
    let cgroup = Cgroup::new("metrics");
    let netns = NetNs::new();
    let arguments =
        ["connect", "--addr", CLOSED_V4, "--count", "30", "--netns", &netns.path().display().to_string()];
    let (workload, _) = Workload::run(&arguments, &cgroup);
    agent.wait_count("podwitness_tcp_connects_total", &[("workload", cgroup.path())], 30);
    // It waits for its end by now, in one call.
    let page = agent.scrape();
    let exports = || receiver.lines().iter().filter(|line| line["signal"] == "metrics").count();
    let before = receiver.items("metrics").len();
    let so_far = exports();
    wait_until(PATIENCE, "metrics were sent twice more", || exports() >= so_far + 4);
    let points = receiver.items("metrics").split_off(before);
    assert!(points.iter().all(|point| point["resource"]["k8s.cluster.name"] == "test"));
    let ours: Vec<_> = points
        .iter()
        .filter(|point| point["resource"]["podwitness.workload.name"] == cgroup.path())
        .collect();

    // Everything that the page says of the workload, the last export says, too.
    let mut compared = 0;
    for (name, kind, suffix) in [
        ("podwitness_tcp_connects", "sum", "_total"),
        ("podwitness_tcp_connect_failures", "sum", "_total"),
        ("podwitness_syscalls", "sum", "_total"),
        ("podwitness_tcp_connect_duration_seconds", "histogram", "_count"),
    ] {
        for series in page.series(&format!("{name}{suffix}"), &[("workload", cgroup.path())]) {
            let is_same =
                |point: &&&Value| point["name"] == name && point["attributes"] == own(&series.labels);
            let point = ours.iter().rev().find(is_same).unwrap_or_else(|| panic!("no point for {series:?}"));
            assert_eq!(point["type"], kind, "{point}");
            let value = if kind == "sum" { &point["value"] } else { &point["count"] };
            assert_eq!(value.as_f64(), Some(series.value), "{point}");
            compared += 1;
        }
    }
    assert!(compared >= 10, "{compared}");
    let duration =
        ours.iter().find(|point| point["name"] == "podwitness_tcp_connect_duration_seconds").unwrap();
    assert_eq!(
        (&duration["unit"], duration["resource"]["service.name"].as_str().unwrap()),
        (&"s".into(), cgroup.path())
    );
    // The agent's own stand under the agent.
    let agents = points.iter().find(|point| point["name"] == "podwitness_ring_wakeups").expect("its own");
    assert_eq!(agents["resource"]["service.name"], "podwitness");
    workload.finish();
}

/// By metrics as by spans.
#[test]
fn who_has_no_name_is_known_by_ids_alone() {
    require_kernel!();
    require_receiver!();
    let receiver = Receiver::start(Protocol::Http);
    let options = with_metrics(&receiver)
        .flag("identity-docker-socket", "off")
        .flag("identity-cri-socket", "off")
        .flag("identity-kubernetes", "off");
    let _agent = Agent::start(options);
    let netns = NetNs::new();
    let arguments =
        ["connect", "--addr", CLOSED_V4, "--count", "3", "--netns", &netns.path().display().to_string()];
    let (pod, uid, id) = container();
    let docker = id.replacen("0", "d", 1);
    for (cgroup, id, uid) in
        [(&pod, &id, Some(&uid)), (&Cgroup::at(&format!("/docker/{docker}")), &docker, None)]
    {
        let (workload, _) = Workload::run(&arguments, cgroup);
        for signal in ["metrics", "traces"] {
            let resource = &receiver.wait(signal, 1, of(id))[0]["resource"];
            assert_eq!(resource["service.name"], "unknown_service", "{signal}: {resource}");
            assert_eq!(resource["service.instance.id"], **id, "{signal}: {resource}");
            assert_eq!(resource["k8s.pod.uid"], json!(uid), "{signal}: {resource}");
            let names = ["container.name", "k8s.container.name", "k8s.pod.name"];
            assert!(names.iter().all(|name| resource[name].is_null()), "{signal}: {resource}");
        }
        workload.finish();
    }
}

#[test]
fn the_last_page_is_sent_at_the_end_and_waits_for_nobody() {
    require_kernel!();
    require_receiver!();
    let receiver = Receiver::start(Protocol::Http);
    let options = Options::default()
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())
        .flag("otlp-metrics-interval", "1h")
        .flag("ring-look-timeout", "10s");
    // A test that ends an agent looks how long that takes.
    assert!(Agent::start(options).stop().success());
    let points = receiver.items("metrics");
    let late = points.iter().find(|point| point["name"] == "podwitness_ring_looks_late").expect("a page");
    assert_eq!(late["value"], 0);
}

/// The exemplars of a workload on the page: name and bound of the series, ids, and value.
fn exemplars(agent: &Agent, workload: &str) -> Vec<(String, Option<f64>, [String; 2], f64)> {
    let page = http::get_as(agent.metrics, "/metrics", "application/openmetrics-text;version=1.0.0").unwrap();
    let workload = format!("workload=\"{workload}\"");
    let lines = page.body.lines().filter(|line| line.contains(&workload));
    let quoted = |text: &str, name: &str| -> Option<String> {
        let (_, rest) = text.split_once(&format!("{name}=\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    lines
        .filter_map(|line| line.split_once(" # "))
        .map(|(series, exemplar)| {
            let name = series.split('{').next().expect("a name").to_owned();
            let bound = quoted(series, "le").map(|bound| bound.parse().expect("a bound"));
            let ids = ["trace_id", "span_id"].map(|name| quoted(exemplar, name).expect("an id"));
            let value = exemplar.split(' ').nth(1).expect("a value").parse().expect("a number");
            (name, bound, ids, value)
        })
        .collect()
}

/// Each exemplar on the page is a span that the collector has, and Prometheus keeps it, in every format.
#[test]
fn exemplars_are_spans_that_were_sent() {
    require_kernel!();
    require_receiver!();
    let receiver = Receiver::start(Protocol::Http);
    let agent = Agent::start(with_metrics(&receiver));
    let text = Prometheus::start_as(agent.metrics, &[], "1s", &["exemplar-storage"]);
    let protobuf = Prometheus::start_as(agent.metrics, &[], "1s", &["exemplar-storage", "native-histograms"]);
    let (cgroup, netns) = (Cgroup::new("exemplars"), NetNs::new());
    let namespace = netns.path().display().to_string();
    let runs: [&[&str]; 3] = [
        &["loopback", "--count", "50", "--netns", &namespace],
        &["connect", "--addr", CLOSED_V4, "--count", "30", "--netns", &namespace],
        &["spawn", "--count", "3", "--exit", "3"],
    ];
    runs.iter().for_each(|run| Workload::run(run, &cgroup).0.finish());
    agent.wait_count("podwitness_process_exits_total", &[("workload", cgroup.path())], 6);

    let (duration, rtt) = ("podwitness_tcp_connect_duration_seconds", "podwitness_tcp_rtt_seconds");
    let (failures, exits) = ("podwitness_tcp_connect_failures_total", "podwitness_process_exits_total");
    let buckets = [duration, rtt].map(|name| format!("{name}_bucket"));
    let names = [buckets[0].as_str(), &buckets[1], failures, exits];
    wait_until(PATIENCE, "all that has spans has exemplars", || {
        let found = exemplars(&agent, cgroup.path());
        names.iter().all(|name| found.iter().any(|(of, ..)| of == name))
    });
    let found = exemplars(&agent, cgroup.path());
    // Of an exit with code 0, and of another one.
    assert_eq!(found.iter().filter(|(name, ..)| name == exits).count(), 2, "{found:#?}");
    let sent = || receiver.items("traces");
    for (name, bound, [trace, span], value) in &found {
        let is_meant = |sent: &&Value| sent["trace"] == **trace && sent["span"] == **span;
        wait_until(PATIENCE, &format!("the collector has {span} of {name}"), || {
            sent().iter().any(|sent| is_meant(&sent))
        });
        let sent = sent();
        let attributes = &sent.iter().find(is_meant).expect("a span")["attributes"];
        let measured = match name.as_str() {
            _ if *name == buckets[0] => attributes["podwitness.connect.duration"].as_f64(),
            _ if *name == buckets[1] => attributes["podwitness.connection.rtt"].as_f64(),
            _ => Some(1.0),
        };
        assert!((measured.expect("measured") - value).abs() < 1e-8, "{name}: {value}, {attributes}");
        let is_inside = |bound: f64| *value <= bound && (*value > bound / 2.0 || bound < 0.000_1);
        assert!(bound.is_none_or(is_inside), "{value} in {bound:?}");
        assert!(names.contains(&name.as_str()), "{name}");
    }
    // The collector has them with the metrics, too, under the names there.
    for name in [duration, rtt, failures.trim_end_matches("_total"), exits.trim_end_matches("_total")] {
        let points = receiver.wait("metrics", 1, |point| {
            point["name"] == name
                && point["resource"]["podwitness.workload.name"] == cgroup.path()
                && point["exemplars"].as_array().is_some_and(|exemplars| !exemplars.is_empty())
        });
        for exemplar in points.iter().flat_map(|point| point["exemplars"].as_array().into_iter().flatten()) {
            let is_meant = |sent: &Value| ["trace", "span"].iter().all(|id| sent[*id] == exemplar[*id]);
            assert!(sent().iter().any(is_meant), "{name}: {exemplar} is no span");
        }
    }
    // A native histogram has them under its own name.
    for (prometheus, names) in [(&text, names), (&protobuf, [duration, rtt, failures, exits])] {
        for name in names {
            let path = format!("query_exemplars?query={}&start=0&end=4102444800", http::encode(name));
            wait_until(PATIENCE, &format!("Prometheus has exemplars of {name}"), || {
                let data = prometheus.data(&path);
                let series = data.as_array().into_iter().flatten();
                let of_ours = series.filter(|series| series["seriesLabels"]["workload"] == cgroup.path());
                let ids: Vec<_> = of_ours
                    .flat_map(|series| series["exemplars"].as_array().into_iter().flatten())
                    .map(|exemplar| [&exemplar["labels"]["trace_id"], &exemplar["labels"]["span_id"]])
                    .collect();
                let is_sent = |ids: &[&Value; 2]| {
                    sent().iter().any(|span| span["trace"] == *ids[0] && span["span"] == *ids[1])
                };
                !ids.is_empty() && ids.iter().all(is_sent)
            });
        }
    }
}

/// Nobody could follow them.
#[test]
fn a_span_that_was_not_sent_is_no_exemplar() {
    require_kernel!();
    require_receiver!();
    let receiver = Receiver::start(Protocol::Http);
    for (options, has_failures) in [
        (options(&receiver).flag("otlp-sample-ratio", "0"), true),
        (options(&receiver).variable("OTEL_TRACES_EXPORTER", "none"), false),
    ] {
        let agent = Agent::start(options);
        let (cgroup, netns) = (Cgroup::new("unsent"), NetNs::new());
        let namespace = netns.path().display().to_string();
        let loopback = ["loopback", "--count", "20", "--netns", &namespace];
        Workload::run(&loopback, &cgroup).0.finish();
        agent.wait_count("podwitness_process_exits_total", &[("workload", cgroup.path())], 1);
        let found = exemplars(&agent, cgroup.path());
        assert!(found.is_empty(), "{found:#?}");
        let refused = ["connect", "--addr", CLOSED_V4, "--count", "5", "--netns", &namespace];
        Workload::run(&refused, &cgroup).0.finish();
        agent.wait_count("podwitness_process_exits_total", &[("workload", cgroup.path())], 2);
        let found = exemplars(&agent, cgroup.path());
        assert_eq!(
            found.iter().any(|(name, ..)| name.ends_with("_failures_total")),
            has_failures,
            "{found:#?}"
        );
        assert!(found.iter().all(|(name, ..)| !name.contains("exits")), "{found:#?}");
    }
}

/// The labels that don't say whose the series is: those do as attributes of the resource.
fn own(labels: &BTreeMap<String, String>) -> Value {
    const BASE: [&str; 5] = ["namespace", "workload_kind", "workload", "pod", "container"];
    let own = labels.iter().filter(|(name, value)| !BASE.contains(&name.as_str()) && !value.is_empty());
    own.map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
