//! A real Prometheus that scrapes an agent.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    http,
    wait::{PATIENCE, unique, wait_until},
};

/// A Prometheus has to be up after this long.
const START: Duration = Duration::from_secs(60);
/// What its clean end may take before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// A running server; it is stopped and its data removed when this goes.
pub struct Prometheus {
    child: Child,
    directory: PathBuf,
    address: SocketAddr,
}

/// A program of Prometheus: from the environment, else from `PATH`.
fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(name));
    candidates.find(|file| file.exists()).unwrap_or_else(|| {
        panic!("`{name}` is missing: set {variable}, or install Debian's package prometheus")
    })
}

/// The checker of Prometheus' files.
pub fn promtool() -> PathBuf {
    program("PODWITNESS_PROMTOOL", "promtool")
}

/// What `promtool check metrics` has to say about an exposition: nothing, if all is well.
pub fn check(exposition: &str) -> String {
    let mut command = Command::new(promtool());
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool");
    let mut stdin = child.stdin.take().expect("piped");
    let text = exposition.to_owned();
    let writer = thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("promtool");
    writer.join().expect("the writer").expect("promtool reads all");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if output.status.success() { said.into() } else { format!("{}: {said}", output.status) }
}

impl Prometheus {
    /// Starts a server that scrapes `target` every second, and waits until it answers.
    #[track_caller]
    pub fn start(target: SocketAddr) -> Self {
        Self::start_with(target, &[])
    }

    /// The same with rules.
    #[track_caller]
    pub fn start_with(target: SocketAddr, rules: &[&Path]) -> Self {
        Self::start_as(target, rules, "1s", &[])
    }

    /// The same that scrapes so often, with some of its experimental features.
    #[track_caller]
    pub fn start_as(target: SocketAddr, rules: &[&Path], every: &str, features: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("podwitness-test-{}", unique()));
        fs::create_dir_all(&directory).expect("a directory for Prometheus");
        let configuration = directory.join("prometheus.yml");
        // Prometheus can't tell the port it was given by the kernel, so a free one is looked for.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        // It scrapes itself, too: what it had to refuse of the agent's page, it counts among its own.
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: {rules:?}\n\
             scrape_configs:\n- job_name: podwitness\n  honor_labels: true\n  scrape_interval: {every}\n  \
             scrape_timeout: {every}\n  static_configs: [{{targets: ['{target}']}}]\n- job_name: prometheus\n  \
             static_configs: [{{targets: ['{address}']}}]\n"
        );
        fs::write(&configuration, text).expect("the configuration of Prometheus");
        let log = fs::File::create(directory.join("log")).expect("the log of Prometheus");
        let child = Command::new(program("PODWITNESS_PROMETHEUS", "prometheus"))
            .arg(flag("config.file", &configuration))
            .arg(flag("storage.tsdb.path", &directory.join("data")))
            .arg(format!("--web.listen-address={address}"))
            .args(features.iter().map(|feature| format!("--enable-feature={feature}")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log of Prometheus"))
            .stderr(log)
            .spawn()
            .expect("prometheus");
        let mut prometheus = Self { child, directory, address };
        wait_until(START, "Prometheus is ready", || {
            if let Some(status) = prometheus.child.try_wait().expect("wait for Prometheus") {
                panic!("Prometheus ended: {status}");
            }
            http::get(address, "/-/ready").is_ok_and(|response| response.status == 200)
        });
        prometheus
    }

    /// What an instant query finds: one object per series, with `metric` and `value`.
    #[track_caller]
    pub fn series(&self, expression: &str) -> Vec<Value> {
        let mut data = self.data(&format!("query?query={}", http::encode(expression)));
        serde_json::from_value(data["result"].take()).expect("a vector")
    }

    /// The data of an answer of the API.
    #[track_caller]
    pub fn data(&self, path: &str) -> Value {
        let answer = http::get(self.address, &format!("/api/v1/{path}")).expect("the API of Prometheus").body;
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON from Prometheus");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }

    /// Samples that it had to refuse: doubles, and values out of order or out of bounds.
    #[track_caller]
    pub fn refused(&self) -> f64 {
        let of = "{__name__=~\"prometheus_target_scrapes_sample_(duplicate_timestamp|out_of_.*)_total\"}";
        let mut sums = Vec::new();
        wait_until(PATIENCE, "Prometheus tells of itself", || {
            sums = self.query(&format!("sum({of})"));
            !sums.is_empty()
        });
        sums[0]
    }

    /// All samples of each series that a selector finds, with the times at which they were scraped.
    #[track_caller]
    pub fn samples(&self, selector: &str) -> Vec<(Value, Vec<(f64, f64)>)> {
        let series = self.series(&format!("{selector}[15m]"));
        let sample = |pair: &Value| {
            let value = pair[1].as_str().and_then(|value| value.parse().ok());
            (pair[0].as_f64().expect("a time"), value.expect("a value"))
        };
        let samples =
            |series: &Value| series["values"].as_array().expect("values").iter().map(sample).collect();
        series.iter().map(|series| (series["metric"].clone(), samples(series))).collect()
    }

    /// The values of an instant query, one per series.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<f64> {
        let series = self.series(expression);
        let value = |series: &Value| series["value"][1].as_str().and_then(|value| value.parse().ok());
        series.iter().map(|series| value(series).expect("a value")).collect()
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = crate::kernel::kill(self.child.id(), libc::SIGTERM);
        let begin = Instant::now();
        while begin.elapsed() < STOP && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("--- log of Prometheus\n{log}---");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
