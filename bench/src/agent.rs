//! The agent as its users start it, in a process of its own.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::child;

pub(crate) struct Agent {
    child: Child,
    /// From its start until all hooks were live.
    pub(crate) took: Duration,
    metrics: String,
    debug: String,
}

impl Agent {
    /// Starts the agent and waits until it says where it listens, which it does once all hooks are live.
    pub(crate) fn start(binary: &Path, flags: &[String]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["agent", "--metrics-listen", "127.0.0.1:0", "--debug-listen", "127.0.0.1:0"]);
        // It refuses variables that it doesn't know, and those that it knows would change what is measured.
        let ours = env::vars_os().map(|(name, _)| name);
        let is_read = |name: &str| name.starts_with("PODWITNESS_") || name.starts_with("OTEL_");
        for name in ours.filter(|name| is_read(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        let mut agent = Self { child, took: Duration::ZERO, metrics: String::new(), debug: String::new() };
        let mut lines = BufReader::new(agent.child.stdout.take().context("no standard output")?).lines();
        while let Some(line) = lines.next().transpose()? {
            if let Some(url) = line.strip_prefix("metrics: http://") {
                agent.took = begun.elapsed();
                agent.metrics = url.trim_end_matches("/metrics").to_owned();
                let debug = lines.next().transpose()?.unwrap_or_default();
                agent.debug = debug.trim_start_matches("debug: http://").trim_end_matches('/').to_owned();
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

    /// Of this, kernel memory behind tables and rings that are mapped; it is counted by the kernel once more.
    pub(crate) fn mapped(&self) -> Result<u64> {
        let maps = fs::read_to_string(format!("/proc/{}/smaps", self.child.id()))?;
        let (mut is_map, mut kib) = (false, 0);
        for line in maps.lines() {
            if let Some(resident) = line.strip_prefix("Rss:").filter(|_| is_map) {
                kib += resident.trim().trim_end_matches(" kB").parse::<u64>().context("no Rss")?;
            } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
                is_map = line.ends_with("anon_inode:bpf-map");
            }
        }
        Ok(kib * 1024)
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut ns = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            ns += on_cpu_ns(&task?.path());
        }
        Ok(Duration::from_nanos(ns))
    }

    /// CPU time of its thread of this name so far.
    pub(crate) fn cpu_of(&self, thread: &str) -> Result<Duration> {
        self.task(thread).map(|task| Duration::from_nanos(on_cpu_ns(&task)))
    }

    /// Holds the whole process while `work` is done.
    pub(crate) fn held<T>(&self, work: impl FnOnce() -> T) -> T {
        child::signal(&self.child, libc::SIGSTOP);
        let done = work();
        child::signal(&self.child, libc::SIGCONT);
        done
    }

    /// Events of TCP connections that were taken out of the rings so far.
    pub(crate) fn events(&self) -> Result<u64> {
        let labels = ["sensor=\"tcp\"", "outcome=\"delivered\""];
        self.figure("podwitness_sensor_events_total", &labels).map(|count| count as u64)
    }

    /// Bytes of kernel memory in all maps.
    pub(crate) fn kernel_memory(&self) -> Result<f64> {
        self.figure("podwitness_kernel_memory_bytes", &[])
    }

    /// Where its metrics are.
    pub(crate) fn metrics(&self) -> &str {
        &self.metrics
    }

    /// Where its debug listener is.
    pub(crate) fn debug(&self) -> &str {
        &self.debug
    }

    /// The page of metrics.
    pub(crate) fn page(&self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.metrics).context("ask the agent for its metrics")?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: bench\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        if !page.starts_with("HTTP/1.0 200 ") {
            bail!("the agent has no metrics: {}", page.lines().next().unwrap_or_default());
        }
        Ok(page)
    }

    /// The first figure of this name with these labels on the page of metrics.
    fn figure(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let page = self.page()?;
        let ours = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        let line = page.lines().find(ours).with_context(|| format!("no {name}"))?;
        let figure = line.rsplit(' ').next().and_then(|figure| figure.parse().ok());
        figure.with_context(|| format!("no figure in {line:?}"))
    }

    /// Times that the thread of this name went to sleep so far.
    pub(crate) fn sleeps(&self, thread: &str) -> Result<u64> {
        let status = fs::read_to_string(self.task(thread)?.join("status"))?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse().ok()).context("no voluntary_ctxt_switches")
    }

    /// Where the kernel tells of the thread of this name.
    fn task(&self, thread: &str) -> Result<PathBuf> {
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let path = task?.path();
            if fs::read_to_string(path.join("comm")).unwrap_or_default().trim_end() == thread {
                return Ok(path);
            }
        }
        bail!("the agent has no thread {thread}")
    }
}

/// Nanoseconds that a thread was on a CPU, which come first in `schedstat`; 0 if it has ended meanwhile.
fn on_cpu_ns(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

impl Drop for Agent {
    fn drop(&mut self) {
        child::end(&mut self.child, libc::SIGTERM);
    }
}
