//! An OTLP receiver in another language (`tests/otlp/receiver.py`), which checks each message by itself and can fail in
//! many ways.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::{
    kernel,
    wait::{PATIENCE, wait_for, wait_until},
};

/// How it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Grpc,
    /// gRPC without the receiver's library for that, which knows no zstd. It takes everything that it hears.
    Frames,
}

/// A running receiver; it is killed when this goes.
pub struct Receiver {
    child: Child,
    stdin: ChildStdin,
    lines: Arc<Mutex<Vec<Value>>>,
    port: u16,
    scheme: &'static str,
    protocol: Protocol,
}

/// Why there is no receiver: its Python libraries are missing, which `cargo xtask test` fetches.
pub fn missing() -> Option<String> {
    if kernel::is_vm() {
        return Some("the emulated machines have no Python".into());
    }
    libraries()
        .is_none()
        .then(|| "PODWITNESS_OTLP_PYTHON names no directory with grpcio, h2 and zstandard in it".into())
}

/// Leaves the test with a sentence when there is no receiver. Where `CI` is set that is a failure.
#[macro_export]
macro_rules! require_receiver {
    () => {
        if let Some(reason) = $crate::otlp::missing() {
            return $crate::kernel::not_run(reason);
        }
    };
}

fn libraries() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("PODWITNESS_OTLP_PYTHON")?);
    let has_all = ["grpc", "h2", "zstandard"].iter().all(|library| directory.join(library).exists());
    has_all.then_some(directory)
}

impl Receiver {
    #[track_caller]
    pub fn start(protocol: Protocol) -> Self {
        Self::start_with(protocol, 0, &[])
    }

    /// At this port, if it isn't 0; with more arguments.
    #[track_caller]
    pub fn start_with(protocol: Protocol, port: u16, more: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("otlp/receiver.py");
        let name = match protocol {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
            Protocol::Frames => "frames",
        };
        let mut child = Command::new("python3")
            .arg("-B")
            .arg(script)
            .args(["--protocol", name, "--port", &port.to_string()])
            .args(more)
            .env("PYTHONPATH", libraries().expect("the receiver's libraries"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value =
                    serde_json::from_str(&line).unwrap_or_else(|_| panic!("the receiver said {line}"));
                into.lock().expect("no reader panics").push(value);
            }
        });
        let scheme = if more.contains(&"--certificate") { "https" } else { "http" };
        let mut receiver = Self { child, stdin, lines, port, scheme, protocol };
        let port = wait_for(PATIENCE, "the receiver listens", || {
            receiver.lines().iter().find_map(|line| line["port"].as_u64())
        });
        receiver.port = u16::try_from(port).expect("a port");
        receiver
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// The value of `otlp.protocol` that it takes.
    pub fn protocol(&self) -> &'static str {
        if self.protocol == Protocol::Http { "http/protobuf" } else { "grpc" }
    }

    /// From now on it answers otherwise; see `MODES` there.
    #[track_caller]
    pub fn answer(&mut self, mode: &str) {
        let before = self.count_of("mode");
        writeln!(self.stdin, "{mode}").expect("the receiver listens");
        wait_until(PATIENCE, "the receiver has heard", || self.count_of("mode") > before);
    }

    /// Everything it has said. What it found wrong fails the test.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().expect("no reader panics").clone();
        let wrong: Vec<_> = lines.iter().filter(|line| !line["wrong"].is_null()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        lines
    }

    /// All spans, logs or points of metrics that came, in their order.
    #[track_caller]
    pub fn items(&self, signal: &str) -> Vec<Value> {
        let lines = self.lines();
        let of_signal = lines.into_iter().filter(|line| line["signal"] == signal);
        of_signal.flat_map(|line| line["items"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Those of them that are meant, once there are `count` of them or more.
    #[track_caller]
    pub fn wait(&self, signal: &str, count: usize, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
        wait_for(PATIENCE, &format!("{count} {signal} have come"), || {
            let meant: Vec<_> = self.items(signal).into_iter().filter(&is_meant).collect();
            (meant.len() >= count).then_some(meant)
        })
    }

    /// How many requests it has failed as it was told.
    #[track_caller]
    pub fn faults(&self) -> usize {
        self.count_of("fault")
    }

    #[track_caller]
    fn count_of(&self, key: &str) -> usize {
        self.lines().iter().filter(|line| !line[key].is_null()).count()
    }

    /// What it took of its processor and its memory is not looked at, but its end is: at once, as if it had crashed.
    pub fn stop(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for certificates, which goes with this.
pub struct Directory(pub PathBuf);

impl Directory {
    #[track_caller]
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("podwitness-test-{}", crate::wait::unique()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
