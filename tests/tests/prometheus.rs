//! What is exported, read by a real Prometheus.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use integration_tests::{
    Agent, Cgroup, NetNs, Options, Prometheus, Workload, http, kernel,
    metrics::Sample,
    netns::CLOSED_V4,
    prometheus::check,
    require_kernel,
    wait::{PATIENCE, wait_until},
};
use serde_json::Value;

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
        prometheus.query("up{job=\"podwitness\"} and on (job) (scrape_samples_scraped > 0)") == [1.0]
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
                of(&calls, ",class=\"sleep\",le=\"0.0078125\"")
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

    let up = "up{job=\"podwitness\"}";
    wait_until(PATIENCE, "ten scrapes", || {
        prometheus.query(&format!("sum_over_time({up}[5m]) >= 10")).len() == 1
    });
    good_scrapes(&prometheus, 1.0);
    assert_eq!(prometheus.refused(), 0.0);
    assert_eq!(check(&agent.scrape_text()), "", "promtool has nothing to say after the work");
}

/// When the agent was scraped. Where a scrape has failed, it took longer than there is time until the next.
#[track_caller]
fn good_scrapes(prometheus: &Prometheus, every: f64) -> Vec<f64> {
    let durations = prometheus.samples("scrape_duration_seconds{job=\"podwitness\"}");
    let durations: BTreeMap<u64, f64> =
        durations[0].1.iter().map(|(time, took)| (time.to_bits(), *took)).collect();
    let mut scrapes = Vec::new();
    for (time, up) in &prometheus.samples("up{job=\"podwitness\"}")[0].1 {
        if *up == 1.0 {
            scrapes.push(*time);
        } else {
            let took = durations[&time.to_bits()];
            assert!(took >= every, "a scrape has failed after {took} s");
        }
    }
    scrapes
}

/// The reference and the page name the same metrics.
#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    require_kernel!();
    let reference = reference();
    let documented: BTreeMap<_, _> =
        reference.iter().map(|(name, (kind, _))| (name.as_str(), kind.as_str())).collect();
    let document = include_str!("../../docs/metrics.md");
    assert!(documented.keys().all(|name| document.contains(&format!("| `{name}` |"))));
    let documented: BTreeMap<_, _> =
        documented.into_iter().filter(|(name, _)| !name.starts_with(OF_TLS)).collect();
    // With all that has metrics of its own; nobody listens there.
    let options = Options::default().flag("otlp-endpoint", "http://127.0.0.1:9");
    let agent = Agent::start(options);
    let page = agent.scrape_text();
    let exported: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert_eq!(exported, documented);
}

/// Type and labels of each metric, as `podwitness metrics` tells them; those of containers with the base labels.
fn reference() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let output = integration_tests::agent::run(&["metrics", "-o", "json"]);
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let base = ["namespace", "workload_kind", "workload", "pod", "container"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    all.as_array()
        .expect("metrics")
        .iter()
        .map(|entry| {
            let metric = &entry["metric"];
            let own = metric["labels"].as_array().expect("labels").iter().map(text);
            let base =
                base.iter().filter(|_| entry["of_containers"] == true).map(|label| (*label).to_owned());
            (text(&metric["name"]), (text(&metric["type"]), own.chain(base).collect()))
        })
        .collect()
}

/// What is only there where the debug listener speaks TLS.
const OF_TLS: &str = "podwitness_debug_tls_";

/// What counts only where something is lost, refused, folded or late, or what this test has none of. Of most of them
/// another test has its share.
const RARE: [&str; 51] = [
    "podwitness_accounts_dropped_total",
    "podwitness_calls_watched",
    "podwitness_calls_watched_cgroups",
    "podwitness_excluded_cgroups",
    "podwitness_http_connections_displaced_total",
    "podwitness_http_connections_silent_total",
    "podwitness_identity_contradictions_total",
    "podwitness_identity_evicted_total",
    "podwitness_identity_facts",
    "podwitness_identity_names_refused_total",
    "podwitness_identity_names_total",
    "podwitness_identity_refused_total",
    "podwitness_identity_renamed_total",
    "podwitness_identity_sockets_left_out",
    "podwitness_identity_source_failures_total",
    "podwitness_identity_source_undecodable_total",
    "podwitness_kubernetes_expired_total",
    "podwitness_kubernetes_heard_timestamp_seconds",
    "podwitness_kubernetes_lists_total",
    "podwitness_kubernetes_namespace_failures_total",
    "podwitness_kubernetes_owners_asked_total",
    "podwitness_kubernetes_owners_wanted",
    "podwitness_kubernetes_pods",
    "podwitness_kubernetes_pods_told_total",
    "podwitness_kubernetes_watches_total",
    "podwitness_live_clients",
    "podwitness_live_clients_refused_total",
    "podwitness_live_deaths_dropped_total",
    "podwitness_live_events_total",
    "podwitness_map_windows_refused_total",
    "podwitness_otlp_dropped_total",
    "podwitness_otlp_forgotten_total",
    "podwitness_otlp_retries_total",
    "podwitness_otlp_sent_total",
    "podwitness_otlp_spans_sampled_total",
    "podwitness_peer_addresses",
    "podwitness_peer_addresses_refused_total",
    "podwitness_peer_source_problems_total",
    "podwitness_peers_folded_total",
    "podwitness_program_missed_runs_total",
    "podwitness_program_recursion_misses_total",
    "podwitness_program_run_time_seconds_total",
    "podwitness_program_runs_total",
    "podwitness_ring_looks_late_total",
    "podwitness_ring_undecodable_total",
    "podwitness_sensor_untracked_total",
    "podwitness_series_folded",
    "podwitness_slots_recycled_total",
    "podwitness_syscall_errors_folded_total",
    "podwitness_syscalls_untimed_total",
    "podwitness_tcp_retransmits_total",
];

/// Work of every kind moves every metric, under the labels that the reference says.
#[test]
fn every_metric_counts_something() {
    require_kernel!();
    let options = Options::default().flag("otlp-endpoint", "http://127.0.0.1:9");
    let agent = Agent::start(options.flag("events-rate", "10").flag("events-burst", "100"));
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let (calls, noisy, killed) = (Cgroup::new("calls"), Cgroup::new("noisy"), Cgroup::new("killed"));
    let runs: [(&[&str], &Cgroup); 4] = [
        (&["syscalls", "--getppid", "100000", "--openat-enoent", "50", "--nanosleep-1ms", "10"], &calls),
        (&["spawn", "--count", "5", "--signal", "9"], &calls),
        (&["connect", "--addr", CLOSED_V4, "--count", "10", "--netns", &namespace], &calls),
        (&["loopback", "--count", "500", "--netns", &namespace], &noisy),
    ];
    runs.iter().for_each(|(arguments, cgroup)| Workload::run(arguments, cgroup).0.finish());
    let mut rings = Workload::prepare(&["io_uring", "--rings", "1", "--nops", "10"], &calls);
    rings.go();
    rings.report();
    rings.finish();
    killed.limit_memory(32);
    let mut victim = Workload::prepare(&["hog", "--mib", "64"], &killed);
    victim.go();
    victim.wait();
    let reference = reference();
    let still = || -> Vec<String> {
        let metrics = agent.scrape();
        let moves = |name: &str| {
            let endings = ["", "_count"];
            endings.iter().any(|ending| metrics.sum(&format!("{name}{ending}"), &[]) > 0.0)
        };
        let is_common = |name: &&String| !RARE.contains(&name.as_str()) && !name.starts_with(OF_TLS);
        reference.keys().filter(|name| is_common(name) && !moves(name)).cloned().collect()
    };
    // A kernel without io_uring, or one that doesn't tell of requests, is another test's.
    let is_active = [("sensor", "io_uring"), ("state", "active")];
    let tells_of_rings = agent.scrape().count("podwitness_sensor_state", &is_active) == 1;
    let mut left = still();
    wait_until(PATIENCE, "everything has counted something", || {
        left = still();
        left.iter().all(|name| !tells_of_rings && name.starts_with("podwitness_io_uring_"))
    });
    for sample in agent.scrape().samples {
        let plain = ["_bucket", "_sum", "_count"].iter().find_map(|ending| {
            let name = sample.name.strip_suffix(ending)?;
            reference.get(name).filter(|(kind, _)| kind == "histogram")
        });
        let (_, labels) = plain.or_else(|| reference.get(&sample.name)).expect("documented");
        let has: BTreeSet<_> = sample.labels.keys().filter(|label| *label != "le").cloned().collect();
        assert_eq!(&has, labels, "{}", sample.name);
    }
    assert!(RARE.iter().all(|name| reference.contains_key(*name)), "one of them has another name");
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
    // Each format escapes them in its own way, so that no text has any.
    let helps = || open.body.lines().filter(|line| line.starts_with("# HELP"));
    assert!(helps().count() > 50 && helps().all(|line| !line.contains(['"', '\\'])), "{}", open.body);
    assert!(open.body.ends_with("# EOF\n"), "the end is marked");
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let (status, content_type, _) = http::open(agent.metrics, "/metrics", accept).unwrap();
    assert!(status == 200 && content_type.starts_with("application/vnd.google.protobuf"), "{content_type}");
    let anything = http::get_as(agent.metrics, "/metrics", "*/*").unwrap();
    assert!(anything.content_type.starts_with("text/plain"), "{}", anything.content_type);
}

/// A Prometheus that asks for protobuf reads the same out of it as stands in the text, and histograms as native ones.
#[test]
fn protobuf_is_what_the_text_is() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Prometheus");
    }
    let agent = Agent::start(Options::default());
    let prometheus = Prometheus::start_as(agent.metrics, &[], "1s", &["native-histograms"]);
    let cgroup = Cgroup::new("proto");
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let runs: [&[&str]; 2] = [
        &["syscalls", "--getppid", "1000", "--openat-enoent", "10", "--nanosleep-1ms", "5"],
        &["connect", "--addr", CLOSED_V4, "--count", "30", "--netns", &namespace],
    ];
    runs.iter().for_each(|run| Workload::run(run, &cgroup).0.finish());
    let of = [("workload", cgroup.path())];
    agent.wait_count("podwitness_process_exits_total", &of, 2);
    // Nobody is left there: from now on the counts stand still.
    let page = agent.scrape();
    let ours = Shown::of_page(page.samples.iter().filter(|sample| sample.label("workload") == cgroup.path()));
    assert!(ours.numbers.len() > 20 && ours.histograms.len() > 5, "{ours:?}");
    let all = format!("{{__name__=~\"podwitness_.+\",workload=\"{}\"}}", cgroup.path());
    let is_ours = || Shown::of_prometheus(&prometheus.series(&all)) == ours;
    wait_until(PATIENCE, "Prometheus has what the page has", is_ours);
    let of_all = format!("podwitness_syscall_duration_seconds{{workload=\"{}\"}}", cgroup.path());
    // A scrape that takes too long on a busy machine makes series stale for a moment: each is asked for until it is there.
    let expect = |query: &str, range: RangeInclusive<f64>| {
        wait_until(PATIENCE, &format!("{query} is there"), || {
            let values = prometheus.query(query);
            assert!(
                values.iter().all(|value| range.contains(value)),
                "{query}: {values:?}, not in {range:?}"
            );
            values.len() == 1
        });
    };
    for (function, ending) in [("histogram_count", "_count"), ("histogram_sum", "_sum")] {
        let sum = page.sum(&format!("podwitness_syscall_duration_seconds{ending}"), &of);
        expect(&format!("sum({function}({of_all}))"), sum * (1.0 - 1e-9)..=sum * (1.0 + 1e-9));
    }
    let duration = "podwitness_syscall_duration_seconds";
    for series in page.series(&format!("{duration}_count"), &of) {
        let class = [of[0], ("class", series.label("class"))];
        let bounds = page.bounds(duration, &class);
        let below = |bound: &f64| page.at_most(duration, &class, *bound) as f64;
        // Prometheus takes a zero bucket that is alone for one around zero, and what is beyond the last bound for what
        // is in the next bucket: there is nothing to compare.
        let at = bounds.iter().position(|bound| 2.0 * below(bound) >= series.value).filter(|at| *at > 0);
        let Some(at) = at else { continue };
        let (at_least, at_most) = (bounds[at - 1], bounds[at]);
        let native = of_all.replace('{', &format!("{{class=\"{}\",", class[1].1));
        expect(&format!("histogram_quantile(0.5, {native})"), at_least..=at_most);
        let share = below(&bounds[at]) / series.value;
        let range = share * (1.0 - 1e-9)..=share * (1.0 + 1e-9);
        expect(&format!("histogram_fraction(0, {at_most}, {native})"), range);
    }
    assert_eq!(prometheus.refused(), 0.0);
}

/// What is shown of something: numbers by name and labels, and histograms.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    numbers: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Spread>,
}

/// How what a histogram has observed is spread.
#[derive(Debug, Default, PartialEq)]
struct Spread {
    count: f64,
    sum: f64,
    /// By upper bound, what isn't above that but above half of it; of the first bound all that isn't above it.
    buckets: BTreeMap<String, f64>,
}

impl Shown {
    /// What a native histogram would show, too.
    fn of_page<'s>(samples: impl Iterator<Item = &'s Sample>) -> Self {
        let mut shown = Self::default();
        // Of the histogram whose buckets come now.
        let (mut below, mut last) = (0.0, 0.0);
        for sample in samples {
            let labels = sample.labels.iter().map(|(name, value)| (&**name, &**value));
            let own = labels.filter(|(name, _)| *name != "le");
            let endings = ["_seconds_bucket", "_seconds_sum", "_seconds_count"];
            let Some(ending) = endings.iter().find(|ending| sample.name.ends_with(**ending)) else {
                shown.numbers.insert(key(&sample.name, own), sample.value);
                continue;
            };
            let name = &sample.name[..sample.name.len() - ending.len() + "_seconds".len()];
            let spread = shown.histograms.entry(key(name, own)).or_default();
            match *ending {
                "_seconds_sum" => spread.sum = sample.value,
                "_seconds_count" => {
                    spread.count = sample.value;
                    (below, last) = (0.0, 0.0);
                }
                _ => {
                    let bound: f64 = sample.label("le").parse().expect("a number");
                    // A native histogram has the next bucket for all the rest.
                    last = if bound.is_finite() { bound } else { 2.0 * last };
                    if sample.value > below {
                        spread.buckets.insert(last.to_string(), sample.value - below);
                    }
                    below = sample.value;
                }
            }
        }
        shown
    }

    fn of_prometheus(series: &[Value]) -> Self {
        let number = |value: &Value| value.as_str().expect("a value").parse::<f64>().expect("a number");
        let mut shown = Self::default();
        for series in series {
            let labels = series["metric"].as_object().expect("labels");
            let texts = labels.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text")));
            let own = texts.filter(|(name, _)| !["__name__", "instance", "job"].contains(name));
            let key = key(labels["__name__"].as_str().expect("a name"), own);
            let histogram = &series["histogram"][1];
            if histogram.is_null() {
                shown.numbers.insert(key, number(&series["value"][1]));
                continue;
            }
            let (count, sum) = (number(&histogram["count"]), number(&histogram["sum"]));
            let buckets = histogram["buckets"].as_array().into_iter().flatten().map(|bucket| {
                let [lower, upper, here] = [1, 2, 3].map(|at| number(&bucket[at]));
                assert!(lower == upper / 2.0 || lower == -upper, "{bucket}");
                (upper.to_string(), here)
            });
            shown.histograms.insert(key, Spread { count, sum, buckets: buckets.collect() });
        }
        shown
    }
}

/// Name and labels that have a value.
fn key<'l>(name: &str, labels: impl Iterator<Item = (&'l str, &'l str)>) -> String {
    let labels: BTreeMap<_, _> = labels.filter(|(_, value)| !value.is_empty()).collect();
    format!("{name}{labels:?}")
}

/// As many scrapes as two hours have at an interval of 15 s.
const SCRAPES: usize = 480;
/// Seconds from one to the next.
const EVERY: f64 = 0.2;
/// What they may take on a machine that has other things to do, too.
const DEADLINE: Duration = Duration::from_secs(900);

/// Comings and goings for two hours of scrapes, which are as close together as a slow machine can bear.
#[test]
fn containers_that_come_and_go_leave_no_gaps_and_no_spikes() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Prometheus");
    }
    const CROWD: u64 = 20;
    let options = Options::default().flag("metrics-grace", "1s").flag("identity-scan-interval", "1s");
    let agent = Agent::start(options.flag("metrics-series-limit", "2500"));
    let prometheus = Prometheus::start_as(agent.metrics, &[], &format!("{}ms", EVERY * 1e3), &[]);
    let steady = Cgroup::new("steady");
    let outside = Cgroup::new("visitor");
    let node = Cgroup::new("node");
    let mut truth: BTreeMap<String, u32> = BTreeMap::new();
    let good = "sum(sum_over_time(up{job=\"podwitness\"}[15m]))";
    let begin = Instant::now();
    let (mut waves, mut folded) = (0_u32, 0.0_f64);
    while prometheus.query(good).first().is_none_or(|scrapes| *scrapes < SCRAPES as f64) {
        assert!(begin.elapsed() < DEADLINE, "{:?} scrapes in {DEADLINE:?}", prometheus.query(good));
        let crowd: Vec<_> = (0..CROWD).map(|number| node.child(&format!("job-{waves}-{number}"))).collect();
        waves += 1;
        let directories: Vec<_> =
            crowd.iter().map(|cgroup| cgroup.directories()[0].display().to_string()).collect();
        let arguments = ["visit", "--cgroups", &directories.join(","), "--getppid", "100", "--more", "1"];
        let (workload, _) = Workload::run(&arguments, &outside);
        Workload::run(&["syscalls", "--getppid", "1000"], &steady).0.finish();
        truth.extend(crowd.iter().map(|cgroup| cgroup.path().to_owned()).zip(100..));
        let had = format!("podwitness_syscalls_total{{workload=\"{}\",syscall=\"getppid\"}}", steady.path());
        // On a machine that is busy with other things most scrapes may take too long for a while.
        wait_until(DEADLINE, "Prometheus has seen this wave", || {
            prometheus.query(&had).first().is_some_and(|calls| *calls >= f64::from(1000 * waves))
        });
        folded = folded.max(prometheus.query("sum(podwitness_series_folded)").into_iter().sum());
        workload.finish();
    }
    let scrapes = good_scrapes(&prometheus, EVERY);
    assert!(scrapes.len() >= SCRAPES, "{} scrapes", scrapes.len());
    let end = scrapes[scrapes.len() - 1];
    // Of each container no more than it did, and no scrape without it while it was there.
    let (mut seen, mut exact, mut told) = (0, 0, 0);
    let is_ours = |workload: &str| {
        truth.contains_key(workload) || [steady.path(), outside.path(), "other"].contains(&workload)
    };
    for (name, (kind, labels)) in reference() {
        if !labels.contains("workload") {
            continue;
        }
        let names = match &*kind {
            "histogram" => ["_bucket", "_sum", "_count"].map(|ending| format!("{name}{ending}")).to_vec(),
            _ => vec![name],
        };
        for name in names {
            for (labels, mut samples) in prometheus.samples(&name) {
                // It goes on scraping.
                samples.retain(|(time, _)| *time <= end);
                if samples.is_empty() {
                    continue;
                }
                seen += 1;
                for pair in samples.windows(2) {
                    let [(before, less), (after, more)] = pair else { continue };
                    assert!(less <= more, "{labels} fell from {less} to {more} at {after}");
                    assert!(before < after, "{labels} has two values at {after}");
                }
                let workload = labels["workload"].as_str().unwrap_or_default();
                let (first, last) = (samples[0].0, samples[samples.len() - 1].0);
                let until = |time: f64| scrapes.partition_point(|scrape| *scrape <= time);
                let all = until(last) - until(first) + 1;
                assert!(!is_ours(workload) || samples.len() == all, "{labels}: {} of {all}", samples.len());
                if labels["__name__"] != "podwitness_syscalls_total" || labels["syscall"] != "getppid" {
                    continue;
                }
                let most = samples[samples.len() - 1].1;
                if let Some(calls) = truth.get(workload) {
                    told += 1;
                    exact += u64::from(most == f64::from(*calls));
                    assert!(most <= f64::from(*calls), "{workload}: {most} of {calls}");
                } else if workload == steady.path() {
                    assert_eq!(most, f64::from(1000 * waves));
                    // Each wave waits for the one before.
                    let spike = samples.windows(2).map(|pair| pair[1].1 - pair[0].1).fold(0.0, f64::max);
                    assert!(spike <= 1000.0, "{spike} calls at once");
                }
            }
            // As Prometheus itself sees it.
            let resets = prometheus.query(&format!("sum(resets({name}[15m]))"));
            assert!(resets.iter().all(|resets| *resets == 0.0), "{name}: {resets:?}");
        }
    }
    assert!(seen > 1000, "{seen} series");
    assert!(exact > 0 && exact == told, "{exact} of {told} containers have all their calls");
    assert!(folded > 0.0, "there was room for everything");
    assert_eq!(prometheus.refused(), 0.0);
    println!(
        "{} scrapes in {:?}: {seen} series, {told} of {} containers by name, up to {folded} series folded",
        scrapes.len(),
        begin.elapsed(),
        truth.len()
    );
    assert_eq!(check(&agent.scrape_text()), "", "promtool has nothing to say");
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
