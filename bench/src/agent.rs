//! The agent as its users start it, in a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Until an agent must have ended after it was asked to.
const STOP: Duration = Duration::from_secs(10);

pub(crate) struct Agent {
    child: Child,
    /// From its start until all hooks were live.
    pub(crate) took: Duration,
    metrics: String,
}

impl Agent {
    /// Starts the agent and waits until it says where it listens, which it does once all hooks are live.
    pub(crate) fn start(binary: &Path, flags: &[String]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["agent", "--metrics-listen", "127.0.0.1:0", "--debug-listen", "127.0.0.1:0"]);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        let mut agent = Self { child, took: Duration::ZERO, metrics: String::new() };
        let mut lines = BufReader::new(agent.child.stdout.take().context("no standard output")?).lines();
        while let Some(line) = lines.next().transpose()? {
            if let Some(url) = line.strip_prefix("metrics: http://") {
                agent.took = begun.elapsed();
                agent.metrics = url.trim_end_matches("/metrics").to_owned();
                // A pipe that nobody empties would stop it.
                thread::spawn(move || lines.for_each(drop));
                return Ok(agent);
            }
        }
        bail!("the agent ended before its hooks were live; start it by hand to see why")
    }

    /// Bytes of resident memory.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kib.and_then(|kib| kib.trim().parse::<u64>().ok()).context("no VmRSS")? * 1024)
    }

    /// Events of TCP connections that were taken out of the rings so far.
    pub(crate) fn events(&self) -> Result<u64> {
        let mut stream = TcpStream::connect(&self.metrics).context("ask the agent for its metrics")?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let ours = |line: &&str| {
            line.starts_with("podwitness_sensor_events_total")
                && line.contains("sensor=\"tcp\"")
                && line.contains("outcome=\"delivered\"")
        };
        let line = page.lines().find(ours).context("no podwitness_sensor_events_total")?;
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        count.with_context(|| format!("no count in {line:?}"))
    }

    /// Times that the thread of this name went to sleep so far.
    pub(crate) fn sleeps(&self, thread: &str) -> Result<u64> {
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key).map(str::trim));
            if field("Name:") == Some(thread) {
                let count = field("voluntary_ctxt_switches:").and_then(|count| count.parse().ok());
                return count.context("no voluntary_ctxt_switches");
            }
        }
        bail!("the agent has no thread {thread}")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // SAFETY: kill(2) takes two numbers; the process is our child, which was not waited for yet.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > STOP {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
