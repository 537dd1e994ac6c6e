//! Processes: what they execute and how they end.

use std::collections::BTreeMap;

pub use agent_ebpf::contract::process::{ExecEvent, ExitEvent};
use agent_ebpf::contract::{process::FILENAME_LEN, stats::SensorId};

use super::{Hook, Sensor, text};
use crate::{
    exemplar::{Counted, Exemplar, Exemplars},
    metrics::{Base, Filling, Page},
    observation,
};

pub const SENSOR: Sensor = Sensor {
    id: SensorId::Process,
    hooks: &[
        Hook::required("sched_process_exec", &[Some("task_struct"), None, Some("linux_binprm")]),
        SCHED_PROCESS_EXIT,
    ],
};

/// The sensor `syscalls` needs it, too.
pub(super) const SCHED_PROCESS_EXIT: Hook = Hook::required("sched_process_exit", &[Some("task_struct")]);

/// Why a process ended.
pub const COMPLETED: &str = "completed";
pub const ERROR: &str = "error";
pub const SIGNAL: &str = "signal";
pub const OOM_KILLED: &str = "oom_killed";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    started: u64,
    exits: BTreeMap<&'static str, u64>,
    /// By the reason of the exit.
    exemplars: Exemplars<&'static str>,
}

impl Counters {
    pub fn record_exec(&mut self) {
        self.started += 1;
    }

    pub fn record_exit(&mut self, reason: &'static str) {
        *self.exits.entry(reason).or_default() += 1;
    }

    /// A span tells of an exit that was counted.
    pub fn exemplify(&mut self, counted: &Counted, exemplar: Exemplar) {
        if let Counted::Exit(reason) = counted {
            self.exemplars.put(*reason, exemplar, 1.0);
        }
    }

    /// Executables started.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Processes that ended, by reason.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.exits.iter().map(|(reason, exits)| (*reason, *exits))
    }

    pub fn is_empty(&self) -> bool {
        self.started == 0 && self.exits.is_empty()
    }

    /// Without the starts.
    pub fn exits(self) -> Self {
        Self { started: 0, ..self }
    }

    pub fn add(&mut self, other: &Self) {
        self.started += other.started;
        for (reason, exits) in &other.exits {
            *self.exits.entry(reason).or_default() += exits;
        }
        self.exemplars.add(&other.exemplars);
    }
}

/// Writes what the sensor measures.
pub fn expose(page: &mut Page, rows: &[(Base, &Counters)]) {
    page.counter(
        "podwitness_processes_started",
        "Executables started: successful calls of execve",
        &[],
        rows.iter()
            .filter(|(_, counters)| counters.started > 0)
            .map(|(l, counters)| (*l, [], counters.started)),
    );
    let mut exits = Filling::counter(
        "podwitness_process_exits",
        "Processes that ended, by reason: exit code 0, another one, a signal, or the OOM killer",
        &["reason"],
    );
    for (base, counters) in rows {
        for (reason, count) in &counters.exits {
            exits.count(*base, [*reason], *count);
            exits.exemplify(0, counters.exemplars.of(reason));
        }
    }
    page.add(exits);
}

/// Signal, core dump and exit code out of a status of wait(2).
fn status(wait_status: u32) -> (u8, bool, u8) {
    ((wait_status & 0x7f) as u8, wait_status & 0x80 != 0, (wait_status >> 8) as u8)
}

/// Why the process ended, as far as its status tells; an OOM kill looks like any other SIGKILL.
pub fn reason(event: &ExitEvent) -> &'static str {
    match status(event.wait_status) {
        (0, _, 0) => COMPLETED,
        (0, _, _) => ERROR,
        _ => SIGNAL,
    }
}

pub(super) fn exec_detail(event: &ExecEvent) -> observation::Exec {
    let len = (event.filename_len as usize).min(FILENAME_LEN);
    observation::Exec { ppid: event.ppid, executable: text(&event.filename[..len]).into_owned() }
}

pub(super) fn exit_detail(event: &ExitEvent, reason: &'static str) -> observation::Exit {
    let (signal, core_dumped, code) = status(event.wait_status);
    observation::Exit {
        ppid: event.ppid,
        reason,
        exit_code: (signal == 0).then_some(code),
        signal: (signal != 0).then_some(signal),
        core_dumped,
        duration: event.duration_ns as f64 / 1e9,
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn a_wait_status_is_told_apart() {
        let exit = |wait_status| ExitEvent { wait_status, ..ExitEvent::new_zeroed() };
        assert_eq!(reason(&exit(0)), COMPLETED);
        assert_eq!(reason(&exit(3 << 8)), ERROR);
        assert_eq!(reason(&exit(9)), SIGNAL);
        let core = exit_detail(&exit(11 | 0x80), SIGNAL);
        assert_eq!((core.signal, core.core_dumped, core.exit_code), (Some(11), true, None));
        assert_eq!(exit_detail(&exit(137 << 8), ERROR).exit_code, Some(137));
    }
}
