//! Every query of every dashboard, and every rule, at a real Prometheus that scrapes a real agent under work.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use integration_tests::{
    Agent, Cgroup, NetNs, Options, Prometheus, Workload, kernel,
    netns::CLOSED_V4,
    prometheus, require_kernel,
    wait::{PATIENCE, unique, wait_until},
};
use serde_json::Value;

/// Where nothing is wrong these find nothing.
const MAY_BE_EMPTY: [&str; 2] = ["podwitness_events_throttled_total", "ENOMEM"];
const TARGET_LABELS: [&str; 3] = ["instance", "job", "le"];
const BASE_LABELS: [&str; 5] = ["namespace", "workload_kind", "workload", "pod", "container"];
/// Words of PromQL that stand where a metric's name could.
const KEYWORDS: [&str; 10] =
    ["by", "without", "on", "ignoring", "or", "and", "unless", "offset", "bool", "group_left"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The queries of a dashboard, by where they stand.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let expression = |at: &Value| at["expr"].as_str().expect("an expression").to_owned();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((panel["title"].as_str().expect("a title").to_owned(), expression(target)));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        // Older Grafanas read the one, newer ones the other.
        assert_eq!(annotation["expr"], annotation["target"]["expr"]);
        found.push((annotation["name"].as_str().expect("a name").to_owned(), expression(annotation)));
    }
    found
}

/// `label_values(METRIC, LABEL)` as a query for the same.
fn of_variable(text: &str) -> Option<String> {
    let inner = text.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (metric, label) = inner.rsplit_once(", ")?;
    Some(format!("count by ({label}) ({metric})"))
}

/// As Grafana fills it in when all is chosen.
fn filled(expression: &str) -> String {
    let mut text = expression.to_owned();
    for (variable, value) in [("$__rate_interval", "1m"), ("$__interval", "1m"), ("$__range", "1h")] {
        text = text.replace(variable, value);
    }
    for variable in ["$namespace", "$workload", "$pod", "$instance"] {
        text = text.replace(variable, ".*");
    }
    assert!(!text.contains("\"$"), "a variable that isn't known: {text}");
    text
}

/// Names of metrics and labels that the reference has, with the names that a histogram has in Prometheus.
fn reference() -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::new();
    for line in include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        if !(name.starts_with("podwitness_") || name.starts_with("process_")) || cells.len() < 5 {
            continue;
        }
        let own = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels: BTreeSet<_> = own.chain(BASE_LABELS.map(str::to_owned)).collect();
        let ends: &[&str] = if cells[2] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        metrics.extend(ends.iter().map(|end| (format!("{name}{end}"), labels.clone())));
    }
    // What Prometheus itself says of a target.
    for name in ["up", "scrape_duration_seconds", "scrape_samples_scraped"] {
        metrics.insert(name.to_owned(), BTreeSet::new());
    }
    metrics
}

/// Metrics of an expression, each with the labels that it is matched by.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut rest) = (Vec::new(), expression);
    while let Some(at) = rest.find(|c: char| is_word(c) || c == '"') {
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = &quoted[quoted.find('"').expect("a closing quote") + 1..];
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic());
        if let Some(list) = after.strip_prefix('{') {
            let end = list.find('}').expect("a closing brace");
            let labels = list[..end].split("\",").filter(|part| !part.is_empty());
            let labels =
                labels.map(|part| part.split(['=', '!']).next().unwrap_or_default().trim().to_owned());
            found.push((word.to_owned(), labels.collect()));
            rest = &list[end + 1..];
        } else if KEYWORDS.contains(&word) && after.trim_start().starts_with('(') {
            // A list of labels.
            rest = &after[after.find(')').expect("a closing parenthesis") + 1..];
        } else if is_name && !KEYWORDS.contains(&word) {
            // Functions are followed by an argument, and aggregations by that or by their labels.
            let next = after.trim_start();
            if ["(", "by ", "without "].iter().any(|start| next.starts_with(start)) {
                continue;
            }
            found.push((word.to_owned(), Vec::new()));
        }
    }
    found
}

fn check_names(at: &str, expression: &str, metrics: &BTreeMap<String, BTreeSet<String>>) {
    let selectors = selectors(expression);
    assert!(!selectors.is_empty(), "{at}: no metric in {expression}");
    for (metric, labels) in selectors {
        if metric.contains(':') {
            // A recorded one: the rules are loaded, so that it is in Prometheus.
            continue;
        }
        let known =
            metrics.get(&metric).unwrap_or_else(|| panic!("{at}: no metric `{metric}`: {expression}"));
        for label in labels {
            let is_there = known.contains(&label) || TARGET_LABELS.contains(&label.as_str());
            assert!(is_there, "{at}: `{metric}` has no label `{label}`");
        }
    }
}

#[test]
fn selectors_are_found() {
    let text = "sum by (a, b) (rate(m_total{x=~\"a,b\",y!=\"}\"}[5m])) / on (c) up > 0 or vector(0)";
    let found = selectors(&text.replace("\"}\"", "\"-\""));
    assert_eq!(found, [("m_total".into(), vec!["x".into(), "y".into()]), ("up".into(), vec![])]);
    assert_eq!(selectors("podwitness_a unless podwitness_b offset 10m").len(), 2);
    assert!(reference()["podwitness_oom_kills_total"].contains("scope"));
}

/// Something of everything that is counted.
fn work(cgroup: &Cgroup, namespace: &str) {
    let runs: [&[&str]; 4] = [
        &["syscalls", "--getppid", "2000", "--openat-enoent", "50", "--nanosleep-1ms", "10"],
        &["loopback", "--count", "20", "--netns", namespace],
        &["connect", "--addr", CLOSED_V4, "--count", "20", "--netns", namespace],
        &["spawn", "--count", "5", "--signal", "9"],
    ];
    for arguments in runs {
        Workload::run(arguments, cgroup).0.finish();
    }
    let mut rings = Workload::prepare(&["io_uring", "--rings", "1", "--nops", "10"], cgroup);
    rings.go();
    rings.report();
    rings.finish();
}

#[test]
fn every_query_finds_what_it_should() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Prometheus");
    }
    let agent = Agent::start(Options::default());
    let rules = deploy().join("prometheus/rules.yaml");
    let prometheus = Prometheus::start_with(agent.metrics, &[&rules]);
    let (cgroup, netns) = (Cgroup::new("shown"), NetNs::new());
    let namespace = netns.path().display().to_string();
    work(&cgroup, &namespace);
    let oom = Cgroup::new("killed");
    oom.limit_memory(32);
    let mut victim = Workload::prepare(&["hog", "--mib", "64"], &oom);
    victim.go();
    victim.wait();
    let of = |metric: &str| format!("{metric}{{workload=\"{}\"}}", cgroup.path());
    let seen = |query: &str| !prometheus.query(query).is_empty();
    // A rate takes two scrapes, and a rate above 0 work between them.
    wait_until(PATIENCE, "Prometheus has the first work", || seen(&of("podwitness_io_uring_rings_total")));
    work(&cgroup, &namespace);
    wait_until(PATIENCE, "Prometheus has the second work", || {
        seen(&format!("increase({}[1m]) > 0", of("podwitness_tcp_connect_failures_total")))
    });
    wait_until(PATIENCE, "Prometheus has the kill", || seen("podwitness_oom_kills_total"));

    let metrics = reference();
    let mut empty = Vec::new();
    for entry in fs::read_dir(deploy().join("grafana/dashboards")).expect("dashboards") {
        let path = entry.expect("a dashboard").path();
        let dashboard: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        let name = dashboard["title"].as_str().expect("a title");
        let mut all = queries(&dashboard);
        for variable in dashboard["templating"]["list"].as_array().expect("variables") {
            if variable["type"] == "query" {
                let query =
                    of_variable(variable["definition"].as_str().expect("text")).expect("label_values");
                all.push((format!("${}", variable["name"]), query));
            }
        }
        assert!(all.len() > 3, "{name}: {all:?}");
        for (at, query) in all {
            let (at, query) = (format!("{name}, {at}"), filled(&query));
            check_names(&at, &query, &metrics);
            if prometheus.series(&query).is_empty() && !MAY_BE_EMPTY.iter().any(|text| query.contains(text)) {
                empty.push(format!("{at}: {query}"));
            }
        }
    }
    assert!(empty.is_empty(), "these find nothing:\n{}", empty.join("\n"));
    check_rules(&prometheus, &metrics);
    check_map(&prometheus, cgroup.path());
}

/// All are evaluated without an error, those that record have recorded, and the kill has raised its alert.
fn check_rules(prometheus: &Prometheus, metrics: &BTreeMap<String, BTreeSet<String>>) {
    let mut recorded = Vec::new();
    let is_evaluated = || !prometheus.data("rules").to_string().contains("\"unknown\"");
    wait_until(PATIENCE, "all rules were evaluated", is_evaluated);
    for group in prometheus.data("rules")["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            let (name, query) =
                (rule["name"].as_str().expect("a name"), rule["query"].as_str().expect("a query"));
            assert_eq!(rule["health"], "ok", "{name}: {rule}");
            check_names(name, query, metrics);
            if rule["type"] == "recording" {
                recorded.push(name.to_owned());
            } else {
                let page = rule["annotations"]["runbook_url"].as_str().expect("a runbook");
                assert_eq!(page, format!("deploy/runbooks/{name}.md"));
                let page = fs::read_to_string(deploy().join("..").join(page)).expect("a page");
                assert!(page.starts_with(&format!("# {name}\n")), "{name}");
            }
        }
    }
    assert!(recorded.len() >= 6, "{recorded:?}");
    for name in recorded {
        wait_until(PATIENCE, &format!("{name} has recorded"), || !prometheus.series(&name).is_empty());
    }
    let firing = "ALERTS{alertname=\"ContainerOutOfMemory\",alertstate=\"firing\"}";
    wait_until(PATIENCE, "the kill raises its alert", || !prometheus.series(firing).is_empty());
}

/// Each end of an edge is a node.
fn check_map(prometheus: &Prometheus, workload: &str) {
    let map = dashboard("service-map.json");
    let targets = map["panels"][0]["targets"].as_array().expect("targets");
    let of = |id: &str| {
        let target = targets.iter().find(|target| target["refId"] == id).expect("a target");
        prometheus.series(&filled(target["expr"].as_str().expect("text")))
    };
    let label = |series: &Value, name: &str| series["metric"][name].as_str().unwrap_or_default().to_owned();
    let nodes: BTreeSet<_> = of("nodes").iter().map(|node| label(node, "id")).collect();
    let edges = of("edges");
    let ids: BTreeSet<_> = edges.iter().map(|edge| label(edge, "id")).collect();
    assert_eq!(ids.len(), edges.len(), "ids are unique: {edges:?}");
    for edge in &edges {
        for end in ["source", "target"] {
            assert!(nodes.contains(&label(edge, end)), "{edge} among {nodes:?}");
        }
    }
    let expected = format!("/{workload} → /loopback");
    assert!(ids.contains(&expected), "no {expected} among {ids:?}");
}

fn dashboard(name: &str) -> Value {
    let text = fs::read(deploy().join("grafana/dashboards").join(name)).expect("a dashboard");
    serde_json::from_slice(&text).expect("JSON")
}

/// Lets promtool evaluate expressions over series of its own.
#[track_caller]
fn evaluate(tests: &str) {
    let file = env::temp_dir().join(format!("podwitness-dashboards-{}.yaml", unique()));
    fs::write(&file, format!("rule_files: []\ntests:\n{tests}")).expect("a test for promtool");
    let output = Command::new(prometheus::promtool()).args(["test", "rules"]).arg(&file).output();
    fs::remove_file(&file).expect("removed");
    let output = output.expect("promtool");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Kills are marked at the step they fall into, each once, whenever Prometheus scrapes within it, however long it is, and
/// also if the agent has begun to count anew.
#[test]
fn every_kill_is_marked_once() {
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Prometheus");
    }
    // Scrapes are 15 s apart, one of them fails, and Grafana looks 7 s after a scrape.
    const SCRAPES: usize = 60;
    const KILLS: [usize; 9] = [6, 6, 9, 13, 16, 17, 19, 26, 46];
    const FAILED: usize = 36;
    const RESTART: usize = 41;
    let dashboard = dashboard("oom.json");
    let marks = dashboard["annotations"]["list"][0]["expr"].as_str().expect("an expression");
    let count =
        |scrapes: std::ops::RangeInclusive<usize>| KILLS.iter().filter(|at| scrapes.contains(at)).count();
    let values: Vec<_> = (0..SCRAPES)
        .map(|scrape| match count(if scrape < RESTART { 0..=scrape } else { RESTART..=scrape }) {
            _ if [FAILED, RESTART].contains(&scrape) => "stale".to_owned(),
            0 => "_".to_owned(),
            kills => kills.to_string(),
        })
        .collect();
    let mut test = format!(
        "- interval: 15s\n  input_series:\n  - series: podwitness_oom_kills_total{{workload=\"w\"}}\n    \
         values: {}\n  promql_expr_test:\n",
        values.join(" ")
    );
    for step in [1, 5] {
        let marks = filled(&marks.replace("$__interval", &format!("{step}m")));
        for minute in (step..SCRAPES / 4).step_by(step) {
            let samples = match count(4 * (minute - step) + 1..=4 * minute) {
                0 => "[]".to_owned(),
                kills => format!("[{{labels: '{{workload=\"w\"}}', value: {kills}}}]"),
            };
            let at = 60 * minute + 7;
            test += &format!("  - expr: '{marks}'\n    eval_time: {at}s\n    exp_samples: {samples}\n");
        }
    }
    evaluate(&test);
}

/// The kills within the hour that is shown, by each panel that has them as one number.
#[test]
fn the_kills_of_a_range_are_all_its_kills() {
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Prometheus");
    }
    let panels = ["oom.json", "overview.json"].map(|name| queries(&dashboard(name))).concat();
    let totals: Vec<_> = panels
        .into_iter()
        .map(|(_, query)| query)
        .filter(|query| query.contains("oom_kills_total") && query.ends_with("or vector(0)"))
        .collect();
    assert_eq!(totals.len(), 3, "{totals:?}");
    // How far scrapes are apart, the series, when Grafana looks, and what it is to find.
    let cases = [
        ("1m", "_x10 3x40", "40m", 3),
        ("1m", "1x30 2x60", "80m", 1),
        // The agent starts anew between the third kill and the fourth.
        ("1m", "_x10 1x5 2x5 3x5 stale _x3 1x5 2x20", "55m", 5),
        // All were killed long before; a scrape failed when the hour began.
        ("15s", "40x19 stale 40x300", "65m5s", 0),
    ];
    let mut tests = String::new();
    for (interval, values, at, kills) in cases {
        tests += &format!(
            "- interval: {interval}\n  input_series:\n  - series: podwitness_oom_kills_total{{scope=\"node\"}}\n    \
             values: {values}\n  promql_expr_test:\n"
        );
        for query in &totals {
            tests += &format!(
                "  - expr: '{}'\n    eval_time: {at}\n    exp_samples: [{{labels: '{{}}', value: {kills}}}]\n",
                filled(query)
            );
        }
    }
    evaluate(&tests);
}

/// Each alert fires where it should and is quiet where it must be, by `promtool test rules`.
#[test]
fn the_rules_pass_their_own_tests() {
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Prometheus");
    }
    let directory = deploy().join("prometheus");
    let promtool = prometheus::promtool();
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]] {
        let output =
            Command::new(&promtool).args(arguments).current_dir(&directory).output().expect("promtool");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
    let rules = fs::read_to_string(directory.join("rules.yaml")).expect("rules");
    let tests = fs::read_to_string(directory.join("rules.test.yaml")).expect("tests");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect::<Vec<_>>();
    assert_eq!(alerts.len(), 17);
    for alert in alerts {
        for what in ["fires", "stays quiet"] {
            assert!(tests.contains(&format!("name: {alert} {what}\n")), "no test that {alert} {what}");
        }
    }
}
