//! Deaths in plain lines.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};

use super::BEFORE;
use crate::{
    filter::signal_name,
    harmless::Harmless,
    sensor::process::{COMPLETED, OOM_KILLED},
    tail::{bytes, detail, duration},
};

/// What is told of the time before a death; of the deaths themselves, when there are many.
const EVIDENCE: usize = 5;
const DEATHS: usize = 10;
/// Of these at least so many of each cause: codes, signals, want of memory.
const OF_CAUSE: usize = 3;
/// A victim of the OOM killer ends soon after it was chosen, unless it hangs in the kernel.
const DYING: Unit = Unit::Minute;
/// A shell and its kin say by this much more that a signal has ended what they ran.
const BY_SIGNAL: u64 = 128;

/// One process that ended badly.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub(super) time: Timestamp,
    container: String,
    /// The end of the process; missing while a victim of the OOM killer has not ended yet.
    exit: Option<Value>,
    kill: Option<Value>,
    before: Vec<Value>,
}

/// What is known of somebody's deaths.
pub(super) struct Answer {
    /// The pod or workload.
    pub whose: String,
    /// Those that are remembered.
    pub deaths: Vec<Death>,
    /// As many as there were.
    pub counted: u64,
    /// When the agent began to look.
    pub since: Option<Timestamp>,
    /// What isn't seen of deaths there, and why.
    pub unwatched: Vec<String>,
}

/// Of the sensors that see deaths those that see nothing.
pub(super) fn unwatched(sensors: &Value) -> Vec<String> {
    let missed = [("process", "how processes end"), ("oom", "kills for want of memory")]
        .into_iter()
        .filter_map(|(sensor, what)| {
            let state = sensors[sensor]["state"].as_str()?;
            let reason = sensors[sensor]["reason"].as_str().filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            matches!(state, "disabled" | "unsupported")
                .then(|| format!("{what} can't be seen there: the sensor {sensor} is {state}{reason}"))
        });
    missed.collect()
}

pub(super) fn time_of(event: &Value) -> Option<Timestamp> {
    event["time"].as_str()?.parse().ok()
}

/// The deaths in these containers, the oldest first. A kill and the end that comes of it are one.
pub(super) fn deaths(containers: &[&Value]) -> Vec<Death> {
    let mut found: Vec<Death> = Vec::new();
    for container in containers {
        let name = container["container"].as_str().unwrap_or_default();
        for event in container["deaths"].as_array().into_iter().flatten() {
            let Some(time) = time_of(event) else { continue };
            let is_kill = event["kind"] == "oom.kill";
            let of_it = |death: &&mut Death| {
                let kill = death.kill.as_ref().filter(|_| death.exit.is_none() && death.container == name);
                let is_soon =
                    (time - death.time).total(DYING).is_ok_and(|minutes| (0.0..1.0).contains(&minutes));
                is_soon && kill.is_some_and(|kill| kill["pid"] == event["pid"])
            };
            match found.iter_mut().rev().find(of_it) {
                Some(death) if !is_kill => death.exit = Some(event.clone()),
                _ => {
                    let (kill, exit) =
                        if is_kill { (Some(event.clone()), None) } else { (None, Some(event.clone())) };
                    found.push(Death { time, container: name.to_owned(), exit, kill, before: Vec::new() });
                }
            }
        }
    }
    found.sort_by_key(|death| death.time);
    found
}

/// Deaths that were counted in these containers; they are not all remembered.
pub(super) fn counted(containers: &[&Value]) -> u64 {
    let of_container = |container: &&Value| {
        let figures = &container["figures"];
        let exits = figures["process_exits"].as_object().into_iter().flatten();
        let bad = exits.filter(|(reason, _)| *reason != COMPLETED).filter_map(|(_, count)| count.as_u64());
        bad.sum::<u64>().max(figures["oom_kills"].as_u64().unwrap_or(0))
    };
    containers.iter().map(of_container).sum()
}

impl Death {
    fn event(&self) -> &Value {
        static NOTHING: Value = Value::Null;
        self.kill.as_ref().or(self.exit.as_ref()).unwrap_or(&NOTHING)
    }

    /// What failed in its container shortly before: the last of it.
    pub(super) fn take_evidence(&mut self, events: &[Value]) {
        let is_before = |event: &&Value| {
            let is_here = event["container"].as_str().unwrap_or_default() == self.container;
            let from = self.time.checked_sub(BEFORE).unwrap_or(self.time);
            is_here && time_of(event).is_some_and(|time| from <= time && time <= self.time)
        };
        let mut last: Vec<_> = events.iter().rev().filter(is_before).take(EVIDENCE).cloned().collect();
        last.reverse();
        self.before = last;
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "time": self.time, "container": self.container, "what": self.what(), "exit": self.exit,
            "oom": self.kill, "before": self.before,
        })
    }

    /// Whether it was for want of memory, and whether by a signal.
    fn cause(&self) -> (bool, bool) {
        let exit = self.event();
        let is_oom = self.kill.is_some() || exit["reason"] == OOM_KILLED;
        (is_oom, !is_oom && exit["signal"].is_u64())
    }

    /// How it went, in words.
    fn what(&self) -> String {
        if let Some(kill) = &self.kill {
            return format!(
                "killed for want of memory: {}",
                shortage(kill["scope"].as_str().unwrap_or_default())
            );
        }
        let exit = self.event();
        let lived = exit["duration"].as_f64().map(|seconds| format!(" after {}", duration(seconds)));
        let lived = lived.unwrap_or_default();
        if exit["reason"] == OOM_KILLED {
            return format!("killed for want of memory{lived}");
        }
        let named = |number: u64| i32::try_from(number).ok().and_then(signal_name);
        match (exit["signal"].as_u64(), exit["exit_code"].as_u64()) {
            (Some(signal), _) => {
                let name = named(signal).map(|name| format!("{name}, ")).unwrap_or_default();
                let core = if exit["core_dumped"] == true { ", core dumped" } else { "" };
                format!("ended by a signal ({name}number {signal}){core}{lived}")
            }
            (None, Some(code)) => {
                let signal = code.checked_sub(BY_SIGNAL).and_then(named);
                let hint = signal.map(|name| format!(" (as of {name})")).unwrap_or_default();
                format!("ended with exit code {code}{hint}{lived}")
            }
            (None, None) => format!("ended{lived}"),
        }
    }

    /// The figures of a kill.
    fn figures(&self) -> Option<String> {
        let kill = self.kill.as_ref()?;
        let size = |name: &str| bytes(kill[name].as_u64().unwrap_or(0));
        let mut parts = vec![
            format!(
                "it held {} of its own, {} of files and {} of shared memory",
                size("anon_rss_bytes"),
                size("file_rss_bytes"),
                size("shmem_rss_bytes")
            ),
            match kill["trigger_pid"] == kill["pid"] {
                true => "it asked for more by itself".to_owned(),
                false => format!("more was asked for by {}", task(kill, "trigger_comm", "trigger_pid")),
            },
        ];
        let lived = self.exit.as_ref().and_then(|exit| exit["duration"].as_f64());
        parts.extend(lived.map(|seconds| format!("it had lived for {}", duration(seconds))));
        Some(parts.join("; "))
    }
}

fn shortage(scope: &str) -> &'static str {
    match scope {
        "container" => "the container's limit was reached",
        "pod" => "the pod's limit was reached",
        "ancestor" => "a limit above the pod was reached",
        "node" => "the whole node was short of it",
        _ => "whose limit was reached is not known",
    }
}

fn task(event: &Value, comm: &str, pid: &str) -> String {
    format!("{}[{}]", Harmless(event[comm].as_str().unwrap_or("?")), event[pid].as_u64().unwrap_or(0))
}

/// The last of each cause, and the last of all, as many as are told: a kill for want of memory is told even if processes
/// have ended with a code since.
fn told(deaths: &[Death]) -> Vec<&Death> {
    let mut of_cause: HashMap<_, usize> = HashMap::new();
    let (first, others): (Vec<_>, Vec<_>) = deaths.iter().enumerate().rev().partition(|(_, death)| {
        let alike = of_cause.entry(death.cause()).or_default();
        *alike += 1;
        *alike <= OF_CAUSE
    });
    let mut told: Vec<_> = first.into_iter().chain(others).take(DEATHS).collect();
    told.sort_by_key(|(index, _)| *index);
    told.into_iter().map(|(_, death)| death).collect()
}

pub(super) fn write(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let Answer { whose, deaths, counted, since, unwatched } = answer;
    let whose = Harmless(whose);
    for missed in unwatched {
        writeln!(out, "{}", Harmless(missed))?;
    }
    let since = since.map(|time| format!(" since {time:.0}, when the agent started")).unwrap_or_default();
    match (deaths.len(), *counted) {
        (0, 0) if !unwatched.is_empty() => return writeln!(out, "{whose}: no death that was seen{since}"),
        (0, 0) => return writeln!(out, "{whose}: no death{since}"),
        (0, _) => {
            let forgotten = "none of them is remembered: others came after them, or debug.deaths is 0";
            return writeln!(out, "{whose}: deaths{since}: {counted}; {forgotten}");
        }
        (1, 0..=1) => writeln!(out, "{whose}: one death{since}")?,
        (kept, _) if kept as u64 >= *counted => {
            writeln!(out, "{whose}: {kept} deaths that are remembered{since}")?;
        }
        (kept, _) => writeln!(out, "{whose}: of {counted} deaths{since}, {kept} are remembered")?,
    }
    let left_out = deaths.len().saturating_sub(DEATHS);
    if left_out > 0 {
        writeln!(out, "({left_out} others left out; -o json has all)")?;
    }
    for death in told(deaths) {
        let container = if death.container.is_empty() { "-" } else { &death.container };
        writeln!(
            out,
            "\n{:.3}  {}  {}  {}",
            death.time,
            Harmless(container),
            task(death.event(), "comm", "pid"),
            death.what()
        )?;
        if let Some(figures) = death.figures() {
            writeln!(out, "    {figures}")?;
        }
        for event in &death.before {
            let time = time_of(event).unwrap_or_default();
            let ago = death.time.duration_since(time).as_secs_f64();
            let kind = Harmless(event["kind"].as_str().unwrap_or_default()).to_string();
            let who = task(event, "comm", "pid");
            writeln!(out, "    {} before: {who} {kind} {}", duration(ago), detail(event, false))?;
        }
    }
    Ok(())
}
