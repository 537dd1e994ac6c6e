//! Numbered steps with their outcome on one line each: `[2/3] bpf-linker 0.13.0 … done (93.1 s)`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a log without a terminal hears that a long step is still alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// As much of the last line of output as fits beside the step's name.
const LIVE_WIDTH: usize = 60;

pub(crate) enum Outcome {
    Done,
    AlreadyThere,
    /// Done, and what came of it.
    Ended(String),
    /// Not done, and why that is all right.
    Skipped(String),
}

/// What went wrong and what the reader can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: String,
    pub(crate) advice: String,
}

impl Failure {
    pub(crate) fn error(why: impl Into<String>, advice: impl Into<String>) -> anyhow::Error {
        Self { why: why.into(), advice: advice.into() }.into()
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  do this: {}", self.why, self.advice)
    }
}

pub(crate) struct Steps {
    total: usize,
    begun: usize,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, begun: 0 }
    }

    /// Runs one step and prints how it ended.
    pub(crate) fn run(&mut self, what: &str, step: impl FnOnce(&Live) -> Result<Outcome>) -> Result<()> {
        self.begun += 1;
        let live = Live::new(format!("[{}/{}] {what} …", self.begun, self.total));
        match step(&live) {
            Ok(Outcome::Done) => live.note(&format!("done ({:.1} s)", live.begun.elapsed().as_secs_f32())),
            Ok(Outcome::Ended(how)) => {
                live.note(&format!("{how} ({:.1} s)", live.begun.elapsed().as_secs_f32()));
            }
            Ok(Outcome::AlreadyThere) => live.note("already there"),
            Ok(Outcome::Skipped(why)) => live.note(&format!("skipped: {why}")),
            Err(error) => {
                live.note(&format!("failed: {error:#}"));
                return Err(anyhow!("setup stopped at step {} of {}", self.begun, self.total));
            }
        }
        Ok(())
    }
}

/// The line of the step that is under way: rewritten in place on a terminal, a heartbeat elsewhere.
pub(crate) struct Live {
    head: String,
    begun: Instant,
    shown: Cell<Instant>,
    last_line: RefCell<String>,
    terminal: bool,
}

impl Live {
    fn new(head: String) -> Self {
        let now = Instant::now();
        let terminal = stderr().is_terminal();
        let live = Self { head, begun: now, shown: Cell::new(now), last_line: RefCell::default(), terminal };
        if terminal {
            live.write(&live.head);
        }
        live
    }

    /// A line of output of what is running.
    pub(crate) fn line(&self, line: &str) {
        let line = line.trim();
        if !line.is_empty() {
            *self.last_line.borrow_mut() = line.chars().take(LIVE_WIDTH).collect();
        }
    }

    /// To be called now and then while something is running.
    pub(crate) fn tick(&self) {
        let seconds = self.begun.elapsed().as_secs();
        let line = self.last_line.borrow();
        if self.terminal {
            self.write(&format!("\r\x1b[K{} {seconds} s  {line}", self.head));
        } else if self.shown.get().elapsed() >= HEARTBEAT {
            self.shown.set(Instant::now());
            self.write(&format!("{} still running after {seconds} s: {line}\n", self.head));
        }
    }

    /// What the reader should know, on a line of its own: how the step ended, or something before.
    pub(crate) fn note(&self, what: &str) {
        let rewind = if self.terminal { "\r\x1b[K" } else { "" };
        self.write(&format!("{rewind}{} {what}\n", self.head));
    }

    /// A closed standard error must not stop the work.
    fn write(&self, text: &str) {
        let mut out = stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
