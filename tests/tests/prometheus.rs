//! What is exported, read by a real Prometheus.

use std::collections::BTreeSet;

use integration_tests::{
    Agent, Cgroup, NetNs, Options, Prometheus, Workload, http, kernel,
    netns::CLOSED_V4,
    prometheus::check,
    require_kernel,
    wait::{PATIENCE, wait_until},
};

#[test]
fn a_real_prometheus_scrapes_without_error_and_knows_the_exact_counts() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Prometheus");
    }
    let agent = Agent::start(Options::default());
    assert_eq!(check(&agent.scrape_text()), "", "promtool has nothing to say about a fresh agent");
    let prometheus = Prometheus::start(agent.metrics);
    wait_until(PATIENCE, "Prometheus has scraped", || {
        prometheus.query("up") == [1.0] && prometheus.query("scrape_samples_scraped > 0").len() == 1
    });

    let calls = Cgroup::new("calls");
    let (workload, _) = Workload::run(
        &["syscalls", "--getppid", "100000", "--openat-enoent", "1000", "--nanosleep-15ms", "100"],
        &calls,
    );
    let tcp = Cgroup::new("tcp");
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let (open, _) = Workload::run(&["loopback", "--count", "1000", "--netns", &namespace], &tcp);
    let (closed, _) =
        Workload::run(&["connect", "--addr", CLOSED_V4, "--count", "300", "--netns", &namespace], &tcp);

    let of = |cgroup: &Cgroup, more: &str| format!("{{workload=\"{}\"{more}}}", cgroup.path());
    let expectations = [
        (format!("podwitness_syscalls_total{}", of(&calls, ",syscall=\"getppid\"")), 100_000.0),
        (
            format!("podwitness_syscall_errors_total{}", of(&calls, ",syscall=\"openat\",errno=\"ENOENT\"")),
            1_000.0,
        ),
        (format!("podwitness_syscall_duration_seconds_count{}", of(&calls, ",class=\"sleep\"")), 100.0),
        (
            format!(
                "podwitness_syscall_duration_seconds_bucket{}",
                of(&calls, ",class=\"sleep\",le=\"0.01\"")
            ),
            0.0,
        ),
        (format!("podwitness_tcp_connects_total{}", of(&tcp, "")), 1_300.0),
        (format!("podwitness_tcp_connect_failures_total{}", of(&tcp, ",reason=\"refused\"")), 300.0),
        (format!("podwitness_tcp_accepts_total{}", of(&tcp, "")), 1_000.0),
        (format!("podwitness_tcp_closes_total{}", of(&tcp, "")), 2_000.0),
    ];
    for (query, expected) in expectations {
        // Prometheus has them with its next scrapes; then they have to be right.
        wait_until(PATIENCE, &format!("{query} is {expected}"), || {
            let values = prometheus.query(&query);
            assert!(values.iter().all(|value| *value <= expected), "{query}: {values:?} > {expected}");
            values == [expected]
        });
    }
    for workload in [workload, open, closed] {
        workload.finish();
    }

    wait_until(PATIENCE, "ten scrapes", || prometheus.query("count_over_time(up[5m]) >= 10").len() == 1);
    assert_eq!(prometheus.query("min_over_time(up[5m])"), [1.0], "a scrape failed");
    // Whatever Prometheus had to refuse (doubles, values out of order), it counts.
    let refused =
        "sum({__name__=~\"prometheus_target_scrapes_sample_(duplicate_timestamp|out_of_.*)_total\"})";
    assert!(prometheus.query(refused).iter().all(|count| *count == 0.0));
    assert_eq!(check(&agent.scrape_text()), "", "promtool has nothing to say after the work");
}

/// The reference and the page name the same metrics.
#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    require_kernel!();
    let reference = include_str!("../../docs/metrics.md");
    let in_tables = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<&str> =
        in_tables.filter(|name| name.starts_with("podwitness_") || name.starts_with("process_")).collect();
    // With all that has metrics of its own; nobody listens there.
    let options = Options::default().flag("otlp-endpoint", "http://127.0.0.1:9");
    let page = Agent::start(options).scrape_text();
    let exported: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(exported, documented);
}

/// Whoever asks for OpenMetrics gets it, and whoever doesn't gets the text format of old.
#[test]
fn the_format_is_negotiated() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let text = http::get_as(agent.metrics, "/metrics", "text/plain").unwrap();
    assert!(text.content_type.starts_with("text/plain"), "{}", text.content_type);
    assert!(!text.body.contains("# EOF"));
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = http::get_as(agent.metrics, "/metrics", accept).unwrap();
    assert!(open.content_type.starts_with("application/openmetrics-text"), "{}", open.content_type);
    assert!(open.body.ends_with("# EOF\n"), "the end is marked");
    let anything = http::get_as(agent.metrics, "/metrics", "*/*").unwrap();
    assert!(anything.content_type.starts_with("text/plain"), "{}", anything.content_type);
}

#[test]
fn health_and_readiness_are_answered() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::get(agent.metrics, path).unwrap().status, 200, "{path}");
    }
    assert_eq!(http::get(agent.metrics, "/nowhere").unwrap().status, 404);
}
