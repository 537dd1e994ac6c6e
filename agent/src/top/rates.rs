//! Rates: what has been counted between two answers.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use agent_ebpf::contract::stats::SensorId;
use serde_json::Value;

use super::told::{Cgroups, Figures, Look, Memory, Told};
use crate::identity::Labels;

/// A container, with what it does now.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub labels: Labels,
    pub alive: bool,
    pub cgroups: Cgroups,
    pub memory: Option<Memory>,
    pub restart_count: Option<u32>,
    pub figures: Figures,
    /// None until two answers tell.
    pub rates: Option<Rates>,
    /// The busiest now first.
    pub calls: Vec<Call>,
    pub deaths: Vec<Value>,
    /// Sensors that see nothing there.
    pub blind: Arc<HashSet<String>>,
}

/// A system call by its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub name: String,
    pub total: u64,
    /// None where it isn't known how often it was made before.
    pub rate: Option<f64>,
}

/// Each for a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub syscalls: f64,
    pub syscall_errors: f64,
    pub connects: f64,
    pub connect_failures: f64,
    pub accepts: f64,
    pub closes: f64,
    pub starts: f64,
    /// Bytes of connections that were closed meanwhile.
    pub sent: f64,
    pub received: f64,
    pub retransmits: f64,
    /// Their round-trip time on the average, in seconds.
    pub rtt: Option<f64>,
}

impl Row {
    /// Whether what this sensor would see is not known.
    pub(super) fn is_blind(&self, sensor: SensorId) -> bool {
        self.blind.contains(sensor.name())
    }

    /// The call that is made most now.
    pub(super) fn busiest(&self) -> Option<&Call> {
        self.calls.first().filter(|call| call.rate.is_some_and(|rate| rate > 0.0))
    }
}

/// Answers become rows here.
#[derive(Default)]
pub(super) struct Watch {
    last: Option<Look>,
    rows: Vec<Row>,
}

impl Watch {
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn last(&self) -> Option<&Look> {
        self.last.as_ref()
    }

    /// Takes an answer in; whether it tells anything new. For a moment the agent gives the same one again.
    pub(super) fn take(&mut self, look: Look) -> bool {
        let is_the_same = |last: &Look| {
            last.containers.time == look.containers.time && last.status.started == look.status.started
        };
        if self.last.as_ref().is_some_and(is_the_same) {
            return false;
        }
        let base = self.last.as_ref().and_then(|last| Base::of(last, &look));
        let blind = Arc::new(look.status.blind());
        self.rows = look.containers.containers.iter().map(|told| row(told, base.as_ref(), &blind)).collect();
        self.last = Some(look);
        true
    }
}

/// What was known before, and for how long it has been counted on from there.
struct Base<'l> {
    seconds: f64,
    known: HashMap<&'l Labels, &'l Told>,
    /// Whether one that isn't known may have counted before: under other labels, if a container is gone at the
    /// same time.
    may_be_renamed: bool,
}

impl<'l> Base<'l> {
    fn of(last: &'l Look, look: &'l Look) -> Option<Self> {
        let now = look.containers.time;
        let base = if last.status.started == look.status.started {
            let known: HashMap<_, _> =
                last.containers.containers.iter().map(|told| (&told.labels, told)).collect();
            let left = look.containers.containers.iter().filter(|told| known.contains_key(&told.labels));
            let may_be_renamed = left.count() < known.len();
            Self { seconds: seconds(last.containers.time, now), known, may_be_renamed }
        } else {
            // Another agent, or one that has been started anew, which counts from 0.
            let seconds = seconds(look.status.started, now);
            Self { seconds, known: HashMap::new(), may_be_renamed: false }
        };
        // A clock that was set back tells nothing.
        (base.seconds > 0.0).then_some(base)
    }
}

fn seconds(from: jiff::Timestamp, to: jiff::Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn row(told: &Told, base: Option<&Base<'_>>, blind: &Arc<HashSet<String>>) -> Row {
    let Told { labels, alive, cgroups, memory, restart_count, figures, calls, deaths } = told;
    let before = base.and_then(|base| Before::of(told, base));
    Row {
        labels: labels.clone(),
        alive: *alive,
        cgroups: *cgroups,
        memory: *memory,
        restart_count: *restart_count,
        figures: figures.clone(),
        rates: before.as_ref().map(|before| before.rates(figures)),
        calls: self::calls(calls, before.as_ref()),
        deaths: deaths.clone(),
        blind: Arc::clone(blind),
    }
}

/// What a container had counted before.
struct Before<'l> {
    seconds: f64,
    figures: Figures,
    calls: Option<&'l BTreeMap<String, u64>>,
    /// Whether calls that aren't listed were never made.
    has_all_calls: bool,
}

impl<'l> Before<'l> {
    /// `None` if that can't be told.
    fn of(told: &Told, base: &Base<'l>) -> Option<Self> {
        let Base { seconds, known, may_be_renamed } = base;
        let nothing =
            Self { seconds: *seconds, figures: Figures::default(), calls: None, has_all_calls: true };
        match known.get(&told.labels) {
            Some(before) if is_less(&told.figures, &before.figures) => Some(nothing),
            Some(before) => Some(Self {
                seconds: *seconds,
                figures: before.figures.clone(),
                calls: Some(&before.calls),
                has_all_calls: before.calls.values().sum::<u64>() >= before.figures.syscalls,
            }),
            None => (!may_be_renamed).then_some(nothing),
        }
    }

    fn rates(&self, now: &Figures) -> Rates {
        let rate = |figure: fn(&Figures) -> u64| {
            figure(now).saturating_sub(figure(&self.figures)) as f64 / self.seconds
        };
        Rates {
            syscalls: rate(|of| of.syscalls),
            syscall_errors: rate(|of| of.syscall_errors),
            connects: rate(|of| of.tcp_connects),
            connect_failures: rate(|of| of.tcp_connect_failures),
            accepts: rate(|of| of.tcp_accepts),
            closes: rate(|of| of.tcp_closes),
            starts: rate(|of| of.processes_started),
            sent: rate(|of| of.tcp_sent_bytes),
            received: rate(|of| of.tcp_received_bytes),
            retransmits: rate(|of| of.tcp_retransmits),
            rtt: self.round_trip(now),
        }
    }

    fn round_trip(&self, now: &Figures) -> Option<f64> {
        let (now, before) = (now.tcp_rtt, self.figures.tcp_rtt);
        let count = now.count.checked_sub(before.count).filter(|count| *count > 0)?;
        Some((now.seconds - before.seconds).max(0.0) / count as f64)
    }

    fn call(&self, name: &str, total: u64) -> Option<f64> {
        let before = match self.calls.and_then(|calls| calls.get(name)) {
            Some(before) => *before,
            None if self.has_all_calls => 0,
            None => return None,
        };
        Some(total.saturating_sub(before) as f64 / self.seconds)
    }
}

/// Figures that went back belong to a container that began anew.
fn is_less(now: &Figures, before: &Figures) -> bool {
    let figures = |of: &Figures| {
        [of.syscalls, of.syscall_errors, of.tcp_connects, of.tcp_accepts, of.tcp_closes, of.processes_started]
    };
    figures(now).iter().zip(figures(before)).any(|(now, before)| *now < before)
}

fn calls(told: &BTreeMap<String, u64>, before: Option<&Before<'_>>) -> Vec<Call> {
    let mut calls: Vec<_> = told
        .iter()
        .map(|(name, total)| Call {
            name: name.clone(),
            total: *total,
            rate: before.and_then(|before| before.call(name, *total)),
        })
        .collect();
    let key = |call: &Call| (call.rate.unwrap_or(-1.0), call.total as f64);
    calls.sort_by(|one, other| {
        let ((rate, total), (other_rate, other_total)) = (key(one), key(other));
        other_rate.total_cmp(&rate).then(other_total.total_cmp(&total))
    });
    calls
}
