//! One container, and what is heard of it while somebody looks.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use crate::{
    harmless::Harmless,
    identity::Labels,
    tail::{detail, is_bad, padded, process, time},
};

/// Lines of events that are kept.
const LINES: usize = 500;
/// Connections, and files, that are told apart; what is beyond isn't counted.
const OPEN: usize = 4096;

/// Columns of a line.
const KIND: usize = 12;
const PROCESS: usize = 22;

pub(super) struct Detail {
    pub labels: Labels,
    pub lines: VecDeque<Line>,
    pub is_paused: bool,
    /// Why nothing comes.
    pub silence: Option<String>,
    /// With what is said of them.
    connections: BTreeMap<Ends, String>,
    files: BTreeMap<String, u64>,
    /// Connections or files for which there was no room.
    pub untold: u64,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub is_bad: bool,
}

/// Network namespace, local end, remote end.
type Ends = (u64, String, String);

impl Detail {
    pub(super) fn new(labels: Labels) -> Self {
        Self {
            labels,
            lines: VecDeque::new(),
            is_paused: false,
            silence: Some("asking for live events…".into()),
            connections: BTreeMap::new(),
            files: BTreeMap::new(),
            untold: 0,
        }
    }

    pub(super) fn hear(&mut self, events: Vec<Value>) {
        self.silence = None;
        for event in events {
            self.remember(&event);
            let kind = event["kind"].as_str().unwrap_or_default();
            if kind == "notice.heartbeat" || self.is_paused {
                continue;
            }
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line(&event));
        }
    }

    /// Without its stream nobody knows what is still open.
    pub(super) fn fall_silent(&mut self, why: String) {
        self.silence = Some(why);
        self.connections.clear();
    }

    fn remember(&mut self, event: &Value) {
        match event["kind"].as_str().unwrap_or_default() {
            "tcp.connect" | "tcp.accept" if !event["errno"].is_string() && !event["reason"].is_string() => {
                self.open(event);
            }
            "tcp.close" => drop(self.connections.remove(&ends(event))),
            // Whether those that were open still are was not heard.
            "notice.lost" | "notice.lagged" | "notice.gap" | "notice.throttled" => self.connections.clear(),
            _ => {}
        }
        if let Some(file) = event["file"].as_str() {
            if self.files.contains_key(file) || self.files.len() < OPEN {
                *self.files.entry(file.to_owned()).or_default() += 1;
            } else {
                self.untold += 1;
            }
        }
    }

    fn open(&mut self, event: &Value) {
        if self.connections.len() >= OPEN {
            self.untold += 1;
            return;
        }
        // `detail` writes the remote end and whose it is; what comes after is about how it began.
        let mut ends_only = event.clone();
        ends_only["duration"] = Value::Null;
        self.connections.insert(ends(event), detail(&ends_only, false));
    }

    /// Connections that were opened and not closed since somebody looks, by their other end: the most first.
    pub(super) fn open_connections(&self) -> Vec<(String, u64)> {
        let mut by_end: BTreeMap<&str, u64> = BTreeMap::new();
        for end in self.connections.values() {
            *by_end.entry(end).or_default() += 1;
        }
        most(by_end.into_iter().map(|(end, count)| (end.to_owned(), count)))
    }

    /// Files that slow and failed calls were about: the most first.
    pub(super) fn troubled_files(&self) -> Vec<(String, u64)> {
        most(self.files.iter().map(|(file, count)| (Harmless(file).to_string(), *count)))
    }
}

fn most(counted: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut counted: Vec<_> = counted.collect();
    counted.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    counted
}

fn ends(event: &Value) -> Ends {
    let end = |address: &str, port: &str| {
        format!("{} {}", event[address].as_str().unwrap_or_default(), event[port].as_u64().unwrap_or(0))
    };
    (
        event["netns"].as_u64().unwrap_or(0),
        end("local_address", "local_port"),
        end("remote_address", "remote_port"),
    )
}

/// As in `tail`, without the container.
pub(super) fn line(event: &Value) -> Line {
    let kind = event["kind"].as_str().unwrap_or_default();
    if kind.starts_with("notice.") {
        let message = event["message"].as_str().unwrap_or(kind);
        return Line { text: format!("-- {}", Harmless(message)), is_bad: false };
    }
    let text = format!(
        "{} {} {} {}",
        time(event["time"].as_str().unwrap_or_default(), false),
        padded(&Harmless(kind).to_string(), KIND),
        padded(&process(event), PROCESS),
        detail(event, false)
    );
    Line { text, is_bad: is_bad(event) }
}
