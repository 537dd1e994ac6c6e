//! Other people's tools, each started for a leg of its own.

use std::{
    env,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{bpf, child, worker::Worker};

/// Until a peer's hooks must be live: some compile first.
const START: Duration = Duration::from_secs(30);
/// Legs while nothing but the peer's start is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// How much slower the work must get to show that a tool without programs is live, and how often in a row.
const SLOWER: f64 = 1.25;
const TIMES: u32 = 3;

/// A tool to compare with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    program: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    /// Whether the worker's process id is to follow.
    of_process: bool,
    /// Whether it works by BPF programs, whose runs the kernel counts.
    has_programs: bool,
}

const LATENCY: &str = "tracepoint:raw_syscalls:sys_enter { @begin[tid] = nsecs; } \
     tracepoint:raw_syscalls:sys_exit /@begin[tid]/ { \
     @took[cgroup, args->id] = hist(nsecs - @begin[tid]); delete(@begin[tid]); }";

pub(crate) const BPFTRACE: Peer = Peer {
    name: "bpftrace, latency by cgroup and id",
    program: "bpftrace",
    package: "bpftrace",
    arguments: &["-e", LATENCY],
    of_process: false,
    has_programs: true,
};

pub(crate) const SYSCOUNT: Peer = Peer {
    name: "libbpf-tools syscount -L",
    program: "syscount",
    package: "libbpf-tools",
    arguments: &["-L"],
    of_process: false,
    has_programs: true,
};

pub(crate) const PERF: Peer = Peer {
    name: "perf trace -s -a",
    program: "perf",
    package: "linux-perf",
    arguments: &["trace", "-s", "-a"],
    of_process: false,
    has_programs: false,
};

pub(crate) const STRACE: Peer = Peer {
    name: "strace -c -f",
    program: "strace",
    package: "strace",
    arguments: &["-c", "-f", "-p"],
    of_process: true,
    has_programs: false,
};

pub(crate) const TCPLIFE: Peer = Peer {
    name: "libbpf-tools tcplife",
    program: "tcplife",
    package: "libbpf-tools",
    arguments: &[],
    of_process: false,
    has_programs: true,
};

pub(crate) const TCPSTATES: Peer = Peer {
    name: "libbpf-tools tcpstates",
    program: "tcpstates",
    package: "libbpf-tools",
    arguments: &[],
    of_process: false,
    has_programs: true,
};

impl Peer {
    pub(crate) fn is_installed(&self) -> bool {
        find(self.program).is_some()
    }

    /// What to do to have it.
    pub(crate) fn missing(&self) -> String {
        format!(
            "{}: not measured, `{}` is not installed (`cargo xtask bench --peers` or `apt-get install {}`).",
            self.name, self.program, self.package
        )
    }

    /// Runs it until its hooks are live, lets the worker work with it, and stops it.
    pub(crate) fn leg(&self, worker: &mut Worker, bare: f64, length: Duration) -> Result<f64> {
        let mut running = Running::start(self, worker.pid())?;
        if self.has_programs {
            running.wait_until_programs_run(worker)?;
        } else {
            running.wait_until_work_is_slower(worker, bare)?;
        }
        worker.leg(length)
    }
}

/// The peers that there are, and a line for each that there isn't.
pub(crate) fn present(peers: impl Iterator<Item = Peer>) -> (Vec<Peer>, Vec<String>) {
    let (there, missing): (Vec<_>, Vec<_>) = peers.partition(Peer::is_installed);
    (there, missing.iter().map(Peer::missing).collect())
}

struct Running {
    child: Child,
    name: &'static str,
    errors: Option<JoinHandle<String>>,
}

impl Running {
    fn start(peer: &Peer, pid: u32) -> Result<Self> {
        let path = find(peer.program).with_context(|| format!("there is no {}", peer.program))?;
        let mut command = Command::new(path);
        command.args(peer.arguments);
        if peer.of_process {
            command.arg(pid.to_string());
        }
        // Its output is as much as there are events, and nobody reads it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", peer.program))?;
        let mut errors = child.stderr.take().context("no standard error")?;
        // A pipe that nobody empties would stop it.
        let errors = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ok(Self { child, name: peer.name, errors: Some(errors) })
    }

    /// Waits until every program that the peer holds has run for the worker.
    fn wait_until_programs_run(&mut self, worker: &mut Worker) -> Result<()> {
        let counting = bpf::count_runs()?;
        let begun = Instant::now();
        loop {
            self.check_alive(begun)?;
            worker.leg(LOOK)?;
            let runs = bpf::runs_of(self.child.id()).unwrap_or_default();
            if !runs.is_empty() && runs.iter().all(|runs| *runs > 0) {
                drop(counting);
                return Ok(());
            }
        }
    }

    /// Not every tool says when it is ready; the work says when it gets slower.
    fn wait_until_work_is_slower(&mut self, worker: &mut Worker, bare: f64) -> Result<()> {
        let begun = Instant::now();
        let mut slower = 0;
        while slower < TIMES {
            self.check_alive(begun)?;
            slower = if worker.leg(LOOK)? > bare * SLOWER { slower + 1 } else { 0 };
        }
        Ok(())
    }

    fn check_alive(&mut self, begun: Instant) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
            bail!("{} ended by itself ({status}): {}", self.name, said.trim());
        }
        if begun.elapsed() > START {
            bail!("{} was not at work within {START:?}: is it attached?", self.name);
        }
        Ok(())
    }
}

impl Drop for Running {
    /// As from the keyboard: all of them detach on that.
    fn drop(&mut self) {
        child::end(&mut self.child, libc::SIGINT);
    }
}

/// The full path of a program; Debian has some of them where only root looks.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|directory| directory.join(program)).find(|file| file.is_file())
}
