//! What the agent tells: `/v1/containers` and `/v1/status`, as far as `top` shows it. What an older agent doesn't
//! tell is absent or 0.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::identity::Labels;

/// Both answers, asked for at the same time.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub containers: Containers,
    pub status: Status,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Containers {
    pub time: Timestamp,
    pub containers: Vec<Told>,
}

/// A container.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    #[serde(flatten)]
    pub labels: Labels,
    #[serde(default)]
    pub alive: bool,
    #[serde(default)]
    pub cgroups: Cgroups,
    pub memory: Option<Memory>,
    pub restart_count: Option<u32>,
    pub figures: Figures,
    /// Counts by name.
    #[serde(default)]
    pub calls: BTreeMap<String, u64>,
    /// In the form of events, the newest last.
    #[serde(default)]
    pub deaths: Vec<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Cgroups {
    pub alive: u64,
    pub dead: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub usage_bytes: u64,
    pub working_set_bytes: u64,
    pub limit_bytes: Option<u64>,
    pub headroom_bytes: Option<u64>,
}

/// These only grow while the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub syscalls: u64,
    pub syscall_errors: u64,
    pub tcp_connects: u64,
    pub tcp_connect_failures: u64,
    pub tcp_accepts: u64,
    pub tcp_closes: u64,
    pub processes_started: u64,
    pub process_exits: BTreeMap<String, u64>,
    pub oom_kills: u64,
    /// Of connections that were closed, as what follows.
    pub tcp_sent_bytes: u64,
    pub tcp_received_bytes: u64,
    pub tcp_retransmits: u64,
    /// Round-trip times.
    pub tcp_rtt: Times,
}

/// Durations that were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Times {
    /// All together.
    pub seconds: f64,
    pub count: u64,
}

impl Figures {
    /// Processes that ended with another code than 0, or by a signal.
    pub(super) fn deaths(&self) -> u64 {
        let bad = self.process_exits.iter().filter(|(reason, _)| *reason != "completed");
        bad.map(|(_, count)| count).sum()
    }
}

/// The agent itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    pub started: Timestamp,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub sensors: BTreeMap<String, Sensor>,
}

impl Status {
    /// Sensors that see nothing: their figures are no figures.
    pub(super) fn blind(&self) -> HashSet<String> {
        let is_blind = |sensor: &Sensor| ["disabled", "unsupported"].contains(&&*sensor.state);
        self.sensors.iter().filter(|(_, sensor)| is_blind(sensor)).map(|(name, _)| name.clone()).collect()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sensor {
    pub state: String,
    pub reason: Option<String>,
    pub lost: u64,
}
