//! Starts the helper program and talks with it: it says `ready`, is put into its cgroup, gets `go`, does its
//! work, reports what it did as a line of JSON, and lives on until its standard input closes.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    Cgroup,
    wait::{PATIENCE, scaled, wait_for},
};

/// What the longest piece of work may take.
const WORK: Duration = Duration::from_secs(120);

/// A helper; it is killed when this goes.
pub struct Workload {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    arguments: String,
}

/// The helper program: beside the test or, as cargo has it, one directory above.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PODWITNESS_WORKLOAD") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the path of the test");
    let mut candidates = test.ancestors().skip(1).take(2).map(|directory| directory.join("workload"));
    candidates.find(|path| path.exists()).expect("the program `workload` beside the tests")
}

impl Workload {
    /// Starts a helper outside, waits until it is ready, and moves it into `cgroup`. What a program does in order
    /// to start, such as looking for libraries, thus stays out of the cgroup's counts.
    #[track_caller]
    pub fn prepare(arguments: &[&str], cgroup: &Cgroup) -> Self {
        let mut workload = Self::start(arguments, Vec::new());
        workload.expect_ready();
        cgroup.add(workload.pid());
        workload
    }

    /// Starts a helper that is in `cgroup` before its program begins.
    #[track_caller]
    pub fn born_in(arguments: &[&str], cgroup: &Cgroup) -> Self {
        let open = |directory: PathBuf| {
            let file = OpenOptions::new().write(true).open(directory.join("cgroup.procs"));
            OwnedFd::from(file.expect("cgroup.procs"))
        };
        let mut workload = Self::start(arguments, cgroup.directories().into_iter().map(open).collect());
        workload.expect_ready();
        workload
    }

    /// Prepares, lets it work and returns it with what it did.
    #[track_caller]
    pub fn run(arguments: &[&str], cgroup: &Cgroup) -> (Self, Value) {
        let mut workload = Self::prepare(arguments, cgroup);
        workload.go();
        let truth = workload.report();
        (workload, truth)
    }

    #[track_caller]
    fn start(arguments: &[&str], enter: Vec<OwnedFd>) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let enter_cgroups = move || {
            for procs in &enter {
                // SAFETY: the descriptor is open as long as the closure lives, and the buffer is one static byte.
                // "0" means the writer itself.
                let written = unsafe { libc::write(procs.as_raw_fd(), b"0".as_ptr().cast(), 1) };
                if written != 1 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure only calls write(2), which is async-signal-safe.
        unsafe { command.pre_exec(enter_cgroups) };
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = sync_channel(1024);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, arguments: arguments.join(" ") }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin, or go on.
    #[track_caller]
    pub fn go(&mut self) {
        self.stdin.as_mut().expect("an open pipe").write_all(b"go\n").expect("the helper listens");
    }

    /// The next line it reports.
    #[track_caller]
    pub fn report(&mut self) -> Value {
        self.report_or_end().unwrap_or_else(|| {
            panic!("workload {} ended early: {:?}", self.arguments, self.child.wait());
        })
    }

    /// The next line it reports, or nothing if it ends before.
    #[track_caller]
    pub fn report_or_end(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(scaled(WORK)) {
            Ok(line) => {
                let report = serde_json::from_str(&line);
                Some(report.unwrap_or_else(|_| panic!("workload {}: {line}", self.arguments)))
            }
            Err(RecvTimeoutError::Timeout) => panic!("workload {}: no report in {WORK:?}", self.arguments),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// It has to be at its work still: nothing is reported yet.
    #[track_caller]
    pub fn expect_at_work(&self) {
        let reported = self.lines.try_recv();
        assert_eq!(reported, Err(TryRecvError::Empty), "workload {} has ended too early", self.arguments);
    }

    /// Lets it end, which has to be a success.
    #[track_caller]
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let status = self.wait();
        assert!(status.success(), "workload {}: {status}", self.arguments);
    }

    /// Kills it with SIGKILL.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.wait();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for(PATIENCE, "the helper ends", || child.try_wait().expect("wait for the helper"))
    }

    #[track_caller]
    fn expect_ready(&mut self) {
        assert_eq!(self.report(), Value::from("ready"), "workload {}", self.arguments);
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
