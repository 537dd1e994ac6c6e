//! Telemetry out when the collector fails: nothing comes twice, what is lost is counted exactly, and memory is bounded.

use std::{collections::BTreeSet, net::TcpListener, time::Duration};

use integration_tests::{
    Agent, Cgroup, NetNs, Options, Receiver, Workload,
    kernel::{self, anonymous_memory},
    netns::CLOSED_V4,
    otlp::{Directory, Protocol},
    require_kernel, require_receiver,
    tls::openssl,
    wait::{PATIENCE, fewer, wait_until},
};
use serde_json::Value;

const SPANS: [(&str, &str); 1] = [("signal", "traces")];

/// A workload whose failed connects are spans, which no sampling leaves out.
struct Scene {
    agent: Agent,
    cgroup: Cgroup,
    netns: NetNs,
}

impl Scene {
    #[track_caller]
    fn new(endpoint: &str, protocol: &str, more: Options) -> Self {
        let options = more
            .variable("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .variable("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .flag("otlp-delay", "50ms")
            .flag("otlp-metrics", "false")
            .flag("otlp-logs", "false");
        Self { agent: Agent::start(options), cgroup: Cgroup::new("otlp"), netns: NetNs::new() }
    }

    fn fail(&self, count: u64) {
        let (netns, count) = (self.netns.path().display().to_string(), count.to_string());
        let arguments = ["connect", "--addr", CLOSED_V4, "--count", &count, "--netns", &netns];
        Workload::run(&arguments, &self.cgroup).0.finish();
    }

    fn count(&self, name: &str) -> u64 {
        self.agent.scrape().count(&format!("podwitness_otlp_{name}_total"), &SPANS)
    }

    fn dropped(&self, reason: &str) -> u64 {
        let labels = [SPANS[0], ("reason", reason)];
        self.agent.scrape().count("podwitness_otlp_dropped_total", &labels)
    }

    /// Waits until all that was made so far is accounted for: by the agent, and by the receiver. Others on this machine
    /// may make more all the time.
    #[track_caller]
    fn settle(&self, receiver: Option<&Receiver>) {
        let due = self.count("produced");
        wait_until(PATIENCE * 2, "produced = sent + dropped, and sent = received", || {
            let metrics = self.agent.scrape();
            let of = |name: &str| metrics.count(&format!("podwitness_otlp_{name}_total"), &SPANS);
            let accounted = of("sent") + of("dropped");
            assert!(accounted <= of("produced"), "more is accounted for than was made");
            let received = receiver.map_or(0, |receiver| receiver.items("traces").len() as u64);
            accounted >= due && of("sent") == received
        });
        if let Some(receiver) = receiver {
            let spans = receiver.items("traces");
            let ids: BTreeSet<_> = spans.iter().map(|span| span["span"].to_string()).collect();
            assert_eq!(ids.len(), spans.len(), "a span came twice");
        }
    }

    /// The workload's failed connects among what has come.
    fn come(&self, receiver: &Receiver) -> usize {
        let is_ours = |span: &Value| {
            span["resource"]["podwitness.workload.name"] == self.cgroup.path() && span["kind"] == 3
        };
        receiver.items("traces").into_iter().filter(is_ours).count()
    }
}

#[test]
fn a_collector_that_is_away_gets_everything_when_it_comes() {
    require_kernel!();
    require_receiver!();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (protocol, name) in [(Protocol::Http, "http/protobuf"), (Protocol::Grpc, "grpc")] {
        let scene = Scene::new(&format!("http://127.0.0.1:{port}"), name, Options::default());
        scene.fail(50);
        wait_until(PATIENCE, "the agent has tried again", || scene.count("retries") > 0);
        let receiver = Receiver::start_with(protocol, port, &[]);
        wait_until(PATIENCE * 2, "all have come", || scene.come(&receiver) == 50);
        scene.settle(Some(&receiver));
        assert_eq!(scene.count("dropped"), 0, "{name}");
    }
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    require_kernel!();
    require_receiver!();
    // Unavailable, and exhausted with the word when to come again.
    for (protocol, busy) in
        [(Protocol::Http, ["status 503", "status 429 1"]), (Protocol::Grpc, ["status 14", "status 8 1"])]
    {
        let mut receiver = Receiver::start(protocol);
        let scene = Scene::new(&receiver.endpoint(), receiver.protocol(), Options::default());
        for (round, mode) in busy.into_iter().enumerate() {
            let faults = receiver.faults();
            receiver.answer(mode);
            scene.fail(20);
            wait_until(PATIENCE, mode, || receiver.faults() > faults);
            receiver.answer("take");
            wait_until(PATIENCE * 2, "all have come", || scene.come(&receiver) == 20 * (round + 1));
        }
        scene.settle(Some(&receiver));
        assert!(scene.count("retries") > 0);
        assert_eq!(scene.count("dropped"), 0);
    }
}

#[test]
fn what_may_have_arrived_is_not_sent_twice_and_what_is_lost_is_counted() {
    require_kernel!();
    require_receiver!();
    let modes = [
        (
            Protocol::Http,
            vec![
                ("reset", "unanswered"),
                ("garbage", "unanswered"),
                ("hang", "unanswered"),
                ("status 400", "refused"),
            ],
        ),
        (Protocol::Grpc, vec![("status 3", "refused"), ("status 8", "refused"), ("hang", "unanswered")]),
    ];
    for (protocol, modes) in modes {
        let mut receiver = Receiver::start(protocol);
        let options = Options::default().flag("otlp-timeout", "500ms");
        let scene = Scene::new(&receiver.endpoint(), receiver.protocol(), options);
        for (round, (mode, reason)) in modes.into_iter().enumerate() {
            let before = scene.dropped(reason);
            receiver.answer(mode);
            scene.fail(30);
            wait_until(PATIENCE, &format!("{mode}: what is lost is counted"), || {
                scene.dropped(reason) >= before + 30
            });
            receiver.answer("take");
            scene.fail(10);
            wait_until(PATIENCE * 2, "the next come", || scene.come(&receiver) == 10 * (round + 1));
        }
        // One that hung says in the end what it had got, to nobody: it is no answer.
        scene.settle(Some(&receiver));
        assert_eq!(scene.count("retries"), 0);
    }
}

#[test]
fn a_connection_that_falls_silent_is_left() {
    require_kernel!();
    require_receiver!();
    let mut receiver = Receiver::start(Protocol::Frames);
    let options = Options::default().flag("otlp-timeout", "3s");
    let scene = Scene::new(&receiver.endpoint(), receiver.protocol(), options);
    scene.fail(10);
    wait_until(PATIENCE, "the first come", || scene.come(&receiver) == 10);
    receiver.answer("mute");
    scene.fail(10);
    wait_until(PATIENCE, "what got no answer is counted", || scene.dropped("unanswered") > 0);
    // Some of the second ten may have been in later batches.
    let before = scene.come(&receiver);
    scene.fail(10);
    wait_until(PATIENCE * 2, "the next come", || scene.come(&receiver) >= before + 10);
    scene.settle(Some(&receiver));
    assert_eq!(receiver.faults(), 1);
}

#[test]
fn what_was_not_sent_is_sent_again() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no openssl");
    }
    // Whoever connects gets a connection, and never a word over it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new();
    openssl(
        &directory.0,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
    );
    let authority = directory.0.join("ca.pem").display().to_string();
    for protocol in ["http/protobuf", "grpc"] {
        let options = Options::default()
            .variable("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority)
            .flag("otlp-timeout", "500ms");
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let scene = Scene::new(&endpoint, protocol, options);
        scene.fail(10);
        wait_until(PATIENCE, "the agent has tried again", || scene.count("retries") > 0);
        assert_eq!(scene.count("dropped"), 0, "{protocol}: it can't have arrived");
    }
}

#[test]
fn a_collector_is_left_alone_for_as_long_as_it_asks_for() {
    require_kernel!();
    require_receiver!();
    for (protocol, busy) in [(Protocol::Http, "status 429 60"), (Protocol::Grpc, "status 8 60")] {
        let mut receiver = Receiver::start(protocol);
        receiver.answer(busy);
        let options = Options::default().flag("otlp-batch", "8").flag("otlp-queue", "64");
        let mut scene = Scene::new(&receiver.endpoint(), receiver.protocol(), options);
        // All batches of a minute could have been asked about by now; those that wait have filled the queue.
        wait_until(PATIENCE, "the queue is full", || {
            scene.fail(50);
            scene.dropped("queue_full") > 0
        });
        assert!(scene.dropped("retries_exhausted") <= 8);
        assert_eq!(receiver.faults(), 1, "{busy}: nobody was to ask again");
        // Nor does it delay the end.
        assert!(scene.agent.stop().success());
    }
}

#[test]
fn a_long_answer_is_none_that_asks_for_more() {
    require_kernel!();
    require_receiver!();
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let mut receiver = Receiver::start(protocol);
        let scene = Scene::new(&receiver.endpoint(), receiver.protocol(), Options::default());
        for (round, bytes) in [60_000, 70_000, 3_000_000].into_iter().enumerate() {
            receiver.answer(&format!("wordy {bytes}"));
            scene.fail(10);
            wait_until(PATIENCE, "all have come", || scene.come(&receiver) >= 10 * (round + 1));
        }
        scene.settle(Some(&receiver));
        assert_eq!((scene.count("retries"), scene.count("dropped")), (0, 0));
    }
}

#[test]
fn a_collector_that_hangs_does_not_delay_the_end() {
    require_kernel!();
    require_receiver!();
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let mut receiver = Receiver::start(protocol);
        receiver.answer("hang");
        let options = Options::default().flag("otlp-timeout", "60s");
        let mut scene = Scene::new(&receiver.endpoint(), receiver.protocol(), options);
        scene.fail(10);
        wait_until(PATIENCE, "a request hangs", || receiver.faults() > 0);
        assert!(scene.agent.stop().success());
    }
}

#[test]
fn what_a_collector_rejects_is_counted() {
    require_kernel!();
    require_receiver!();
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let mut receiver = Receiver::start(protocol);
        let scene = Scene::new(&receiver.endpoint(), receiver.protocol(), Options::default());
        receiver.answer("reject 1");
        scene.fail(10);
        // Others on this machine send, too, so that the numbers move: one request may be under way.
        let requests = || receiver.lines().iter().filter(|line| line["signal"] == "traces").count() as u64;
        wait_until(PATIENCE, "the batches are accounted for", || {
            let (least, rejected, most) = (requests(), scene.dropped("rejected"), requests());
            scene.come(&receiver) == 10 && (least.saturating_sub(1)..=most).contains(&rejected)
        });
        assert_eq!(scene.count("retries"), 0);
    }
}

/// A collector that is gone for longer than anybody has patience.
#[test]
fn memory_is_bounded_while_the_collector_is_gone() {
    require_kernel!();
    require_receiver!();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = Options::default().flag("otlp-retry-for", "1s");
    let scene = Scene::new(&format!("http://127.0.0.1:{port}"), "http/protobuf", options);
    scene.fail(fewer(3000));
    let before = anonymous_memory(scene.agent.pid());
    for _ in 0..4 {
        scene.fail(fewer(10_000));
    }
    let grown = anonymous_memory(scene.agent.pid()).saturating_sub(before);
    assert!(grown <= 8 << 20, "{grown} bytes more than before");
    // The reader may have some before it yet, which would settle the account for those that wait.
    wait_until(PATIENCE, "all have been made", || scene.count("produced") >= fewer(43_000));
    assert!(scene.dropped("queue_full") > 0);
    // Nothing waits for ever.
    scene.settle(None);
    assert!(scene.dropped("retries_exhausted") > 0);
    assert_eq!(scene.count("sent"), 0);
}

#[test]
fn both_ends_show_certificates() {
    require_kernel!();
    require_receiver!();
    let directory = Directory::new();
    openssl(
        &directory.0,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
    );
    for name in ["server", "client"] {
        openssl(
            &directory.0,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            &directory.0,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy -out {name}.pem"
            ),
        );
    }
    let path = |name: &str| directory.0.join(name).display().to_string();
    let more =
        ["--certificate", &path("server.pem"), "--key", &path("server.key"), "--authority", &path("ca.pem")];
    let receiver = Receiver::start_with(Protocol::Http, 0, &more);

    let shown = Options::default()
        .variable("OTEL_EXPORTER_OTLP_CERTIFICATE", &path("ca.pem"))
        .variable("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &path("client.pem"))
        .variable("OTEL_EXPORTER_OTLP_CLIENT_KEY", &path("client.key"))
        .variable("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20secret");
    let scene = Scene::new(&receiver.endpoint(), receiver.protocol(), shown);
    scene.fail(5);
    wait_until(PATIENCE, "all have come", || scene.come(&receiver) == 5);
    let request = receiver.lines().into_iter().find(|line| line["signal"] == "traces").unwrap();
    assert_eq!(request["headers"]["api-key"], "a secret");
    assert_eq!(request["headers"]["content-encoding"], "gzip");
    assert!(!scene.agent.output().contains("secret"), "a secret in the log");
    drop(scene);

    // Whoever shows nothing is not let in, and whoever can't be trusted gets nothing.
    for (name, file) in [("nothing shown", "ca.pem"), ("not trusted", "client.pem")] {
        let options = Options::default()
            .variable("OTEL_EXPORTER_OTLP_CERTIFICATE", &path(file))
            .flag("otlp-retry-for", "0s");
        let came = receiver.items("traces").len();
        let scene = Scene::new(&receiver.endpoint(), receiver.protocol(), options);
        scene.fail(5);
        wait_until(PATIENCE + Duration::from_secs(10), name, || scene.count("dropped") >= 5);
        assert_eq!(receiver.items("traces").len(), came, "{name}");
    }
}
