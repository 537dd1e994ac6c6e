//! The agent as a user runs it.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Api, Cgroup, Metrics, Tail, http,
    kernel::kill,
    refused,
    wait::{PATIENCE, scaled, wait_for, wait_until},
};

/// Loading all programs takes the verifier about a second; a loaded machine may need many times that.
const START: Duration = Duration::from_secs(60);
/// What SIGTERM may take by specification.
pub const STOP: Duration = Duration::from_secs(5);
pub const SENSORS: [&str; 7] = ["cgroup", "syscalls", "io_uring", "tcp", "oom", "process", "calls"];
/// Lines of output that are kept for the message of a failure.
const KEPT_LINES: usize = 300;
/// A counter that hasn't moved for so long is at rest.
const REST: Duration = Duration::from_secs(2);

/// How to start an agent. Both listeners get free ports of loopback unless flags say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Options {
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    sees_no_btf: bool,
    recording: Option<String>,
    binary: Option<PathBuf>,
}

impl Options {
    /// Adds `--name value`.
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push(format!("--{name}"));
        self.flags.push(value.to_owned());
        self
    }

    /// It is the node `here` of the cluster with this API server, and nobody else knows names.
    pub fn in_cluster(self, api: &Api) -> Self {
        self.flag("identity-kubeconfig", api.kubeconfig())
            .flag("identity-kubernetes", "on")
            .flag("identity-node-name", "here")
            .flag("identity-cri-socket", "off")
    }

    /// Sets a variable of its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// It records what it sees in this file.
    pub fn recording(mut self, path: &Path) -> Self {
        self.recording = Some(path.to_str().expect("utf-8").to_owned());
        self
    }

    /// It is another binary than the one under test.
    pub fn binary(mut self, path: PathBuf) -> Self {
        self.binary = Some(path);
        self
    }

    /// Hides the kernel's types from it.
    pub fn without_btf(mut self) -> Self {
        self.sees_no_btf = true;
        self
    }
}

/// A running agent; it is stopped, and at the worst killed, when this goes.
pub struct Agent {
    child: Child,
    output: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<thread::JoinHandle<()>>,
    pub metrics: SocketAddr,
    pub debug: SocketAddr,
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PODWITNESS_BIN") {
        return path.into();
    }
    let path = built("release");
    assert!(path.exists(), "{} is missing: run `cargo xtask build --release`", path.display());
    path
}

/// Where cargo leaves an agent of this profile: it has put the test into `deps` of one beside it.
pub(crate) fn built(profile: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let target = test.ancestors().nth(3).expect("target/debug/deps/TEST");
    target.join(profile).join("podwitness")
}

/// The command of the agent, free of variables that it would take for configuration: this harness' own, and those of a
/// developer whose shell has a collector of OpenTelemetry.
pub fn command(arguments: &[&str]) -> Command {
    clean(Command::new(binary()), arguments)
}

/// The same in a mount namespace of its own, in which the kernel shows no types.
pub fn command_without_btf(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs none /sys/kernel/btf && exec "$0" "$@""#;
    command.args(["--mount", "sh", "-c", script]).arg(binary());
    clean(command, arguments)
}

fn clean(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments).stdin(Stdio::null());
    clear_configuration(&mut command);
    command
}

/// What the names of variables begin with that the agent reads.
const CONFIGURATION: [&str; 2] = ["PODWITNESS_", "OTEL_"];

/// Takes out of a command's environment what the agent would take for configuration.
pub fn clear_configuration(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if CONFIGURATION.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// Runs the agent to its end, which has to come by itself; its flags are such that it can't start, or print only.
#[track_caller]
pub fn run(arguments: &[&str]) -> Output {
    let child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the agent");
    output(child)
}

/// Waits for the end of a command, and reads its pipes meanwhile: it may print more than they hold.
#[track_caller]
pub fn output(mut child: Child) -> Output {
    let stdout = child.stdout.take().map(all_of);
    let stderr = child.stderr.take().map(all_of);
    let begin = Instant::now();
    let mut is_over = false;
    while !is_over && begin.elapsed() <= scaled(PATIENCE) {
        thread::sleep(Duration::from_millis(20));
        is_over = child.try_wait().expect("wait for the agent").is_some();
    }
    let _ = child.kill();
    let status = child.wait().expect("wait for the agent");
    let read = |reader: thread::JoinHandle<_>| reader.join().expect("a reader of its output");
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.map(read).unwrap_or_default());
    let output = Output { status, stdout, stderr };
    assert!(is_over, "podwitness did not end: {output:?}");
    output
}

/// Everything that comes out of `stream`.
fn all_of(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("the output");
        bytes
    })
}

impl Agent {
    /// Starts an agent and waits until it is ready.
    #[track_caller]
    pub fn start(options: Options) -> Self {
        let mut arguments = match &options.recording {
            Some(path) => vec!["record", path],
            None => vec!["agent"],
        };
        for (name, address) in [("--metrics-listen", "127.0.0.1:0"), ("--debug-listen", "127.0.0.1:0")] {
            if !options.flags.iter().any(|flag| flag == name) {
                arguments.extend([name, address]);
            }
        }
        arguments.extend(options.flags.iter().map(String::as_str));
        let command = match options.binary {
            Some(binary) => clean(Command::new(binary), &arguments),
            None if options.sees_no_btf => command_without_btf(&arguments),
            None => command(&arguments),
        };
        let mut child = { command }
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary().display()));

        let output = Arc::default();
        let readers = vec![
            collect(child.stdout.take().expect("piped"), &output),
            collect(child.stderr.take().expect("piped"), &output),
        ];
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut agent = Self { child, output, readers, metrics: nowhere, debug: nowhere };
        let begin = Instant::now();
        agent.metrics = agent.address("metrics: ", begin);
        agent.debug = agent.address("debug: ", begin);
        wait_until(START, "the agent is ready", || {
            agent.check_alive();
            http::get(agent.metrics, "/readyz").is_ok_and(|response| response.status == 200)
        });
        agent
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything the agent printed, its last lines if it was much.
    pub fn output(&self) -> String {
        let lines = self.output.lock().expect("no reader panics");
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// What /metrics says now.
    #[track_caller]
    pub fn scrape(&self) -> Metrics {
        Metrics::parse(&self.scrape_text())
    }

    /// The same as text.
    #[track_caller]
    pub fn scrape_text(&self) -> String {
        let response = http::get(self.metrics, "/metrics").expect("/metrics");
        assert_eq!(response.status, 200, "/metrics: {}", response.body);
        response.body
    }

    /// Waits until a counter has reached `expected`, and requires that it is no more. Where runs were missed it may never
    /// get there: then it only has to come to rest.
    #[track_caller]
    pub fn wait_count(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        let begin = Instant::now();
        let mut last = (u64::MAX, begin);
        loop {
            let metrics = self.scrape();
            let count = metrics.count(name, labels);
            if count != last.0 {
                last = (count, Instant::now());
            }
            let is_at_rest = last.1.elapsed() > scaled(REST) && metrics.sum(refused::COUNT, &[]) > 0.0;
            if count >= expected || is_at_rest || begin.elapsed() > scaled(PATIENCE) {
                let series = metrics.series(name, labels);
                let events = metrics.series("podwitness_sensor_events_total", &[]);
                let events: Vec<_> = events.iter().map(|of| (of.labels.values(), of.value)).collect();
                assert_eq!(count, expected, "{name}{labels:?}: {series:#?}, of all events {events:?}");
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Begins to read the live events; `query` is empty or begins with `?`.
    #[track_caller]
    pub fn tail(&self, query: &str) -> Tail {
        Tail::open(self.debug, &format!("/v1/events{query}")).expect("/v1/events")
    }

    /// The live events of one cgroup: however much others do, this reader is not too slow for them.
    #[track_caller]
    pub fn tail_of(&self, cgroup: &Cgroup) -> Tail {
        self.tail(&format!("?workload={}", http::encode(cgroup.path())))
    }

    /// Sends SIGTERM and waits for the end, which has to come in time.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        kill(self.pid(), libc::SIGTERM).expect("SIGTERM");
        let begin = Instant::now();
        let status = self.wait();
        assert!(begin.elapsed() < scaled(STOP), "SIGTERM took {:?}", begin.elapsed());
        status
    }

    /// Kills the agent as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.wait();
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = wait_for(STOP * 2, "the agent ends", || child.try_wait().expect("wait for the agent"));
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of the agent's output");
        }
        status
    }

    /// The address in the line of the output that begins with `prefix`.
    fn address(&mut self, prefix: &str, begin: Instant) -> SocketAddr {
        loop {
            let url = self.output().lines().find_map(|line| {
                let (_, rest) = line.split_once(prefix)?;
                let rest = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://"))?;
                Some(rest.split(['/', ' ']).next()?.to_owned())
            });
            if let Some(url) = url {
                return url.replace("0.0.0.0", "127.0.0.1").parse().expect("an address in the output");
            }
            self.check_alive();
            assert!(begin.elapsed() < scaled(START), "no line `{prefix}http://…` in the output");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn check_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("wait for the agent") {
            panic!("the agent ended ({status})");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            refused::note(self.metrics);
        }
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // A test may have stopped it with SIGSTOP and failed before it let it go on.
            let _ = kill(self.pid(), libc::SIGCONT);
            let _ = kill(self.pid(), libc::SIGTERM);
            let begin = Instant::now();
            while begin.elapsed() < scaled(STOP) && self.child.try_wait().is_ok_and(|status| status.is_none())
            {
                thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("--- output of the agent\n{}\n---", self.output());
        }
    }
}

/// Keeps the last lines that come out of `stream`.
fn collect(
    stream: impl Read + Send + 'static,
    into: &Arc<Mutex<VecDeque<String>>>,
) -> thread::JoinHandle<()> {
    let kept = Arc::clone(into);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut kept = kept.lock().expect("no reader panics");
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    })
}
