//! Processes, from exec to exit, and those that the kernel kills.

use opentelemetry_proto::tonic::{logs::v1::SeverityNumber, trace::v1::span::SpanKind};

use super::{Assembler, Attributes, Context, Decision, Draft, Telemetry, containers::kill_attributes};
use crate::{
    exemplar::Counted,
    observation::{Exec, Exit, Oom, Process},
    otlp::Seen,
    sensor::process::OOM_KILLED,
};

/// A process that is alive.
#[derive(Debug)]
pub(super) struct ProcessState {
    pub context: Context,
    cgroup_id: u64,
    /// When it was first seen: its id follows from that.
    since_ns: u64,
    /// When it first executed something, if that was seen.
    started_ns: Option<u64>,
    executable: String,
    executions: u32,
}

impl Assembler {
    /// The process' place in the tree of spans.
    pub(super) fn process_context(&mut self, cgroup_id: u64, pid: u32, now_ns: u64) -> Context {
        match self.processes.get_mut(&pid) {
            Some(state) if state.cgroup_id == cgroup_id => state.context,
            _ => self.process(cgroup_id, pid, now_ns).context,
        }
    }

    /// The process, which is remembered from now on.
    #[expect(clippy::expect_used, reason = "looked up right after it was put there")]
    pub(super) fn process(&mut self, cgroup_id: u64, pid: u32, now_ns: u64) -> &mut ProcessState {
        // In another cgroup its number is used again, or it has moved: with exec it goes on elsewhere.
        if self.processes.get_mut(&pid).is_none_or(|state| state.cgroup_id != cgroup_id) {
            let span = self.seed.process(pid, now_ns);
            let container = self.container_context(cgroup_id);
            let trace = container.map_or(self.seed.process_trace(pid, now_ns), |container| container.trace);
            let state = ProcessState {
                context: Context { trace, span, parent: container.map(|container| container.span) },
                cgroup_id,
                since_ns: now_ns,
                started_ns: None,
                executable: String::new(),
                executions: 0,
            };
            self.processes.insert(pid, state);
        }
        self.processes.get_mut(&pid).expect("a process")
    }

    pub(super) fn take_exec(&mut self, seen: &Seen, exec: &Exec) {
        let Some(Process { pid, .. }) = seen.observation.process else { return };
        let state = self.process(seen.cgroup_id, pid, seen.boot_ns);
        state.started_ns.get_or_insert(seen.boot_ns);
        state.executable.clone_from(&exec.executable);
        state.executions = state.executions.saturating_add(1);
        self.note_main(seen.cgroup_id, pid);
    }

    pub(super) fn take_exit(&mut self, seen: &Seen, exit: &Exit, out: &mut Telemetry) {
        let Some(Process { pid, ref comm, .. }) = seen.observation.process else { return };
        let lived_ns = (exit.duration.max(0.0) * 1e9) as u64;
        let forked_ns = seen.boot_ns.saturating_sub(lived_ns);
        let is_stale = |state: &mut ProcessState| state.since_ns < forked_ns.saturating_sub(1_000_000);
        if self.processes.get_mut(&pid).is_some_and(is_stale) {
            // One of the same number, whose end was missed.
            self.processes.remove(&pid);
        }
        self.process(seen.cgroup_id, pid, forked_ns);
        let Some(state) = self.processes.remove(&pid) else { return };
        if let Some(container) = self.containers.get_mut(&seen.cgroup_id) {
            container.exited(pid, exit);
        }

        // What was asked to be executed may be relative, and to what isn't known.
        let path = Some(state.executable.as_str()).filter(|path| path.starts_with('/'));
        let name = state.executable.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(comm);
        let attributes = self
            .attributes()
            .number("process.pid", pid)
            .number("process.parent_pid", exit.ppid)
            .text("process.executable.name", name)
            .some(path, |all, path| all.text("process.executable.path", path))
            .text("podwitness.comm", comm.as_str());
        let attributes = exit_attributes(attributes, exit);
        let error = failure(exit);
        if let Some((kind, message)) = &error {
            let severity = match exit.reason {
                OOM_KILLED => SeverityNumber::Error,
                _ => SeverityNumber::Warn,
            };
            let body = format!("{name} ended: {message}");
            let own = attributes.clone().text("error.type", kind);
            let event = ("podwitness.process_exit", severity);
            self.log(seen, event, &body, Some(state.context), &own, out);
        }
        let attributes = match state.executions {
            0 | 1 => attributes,
            executions => attributes.number("podwitness.executions", executions),
        };
        let draft = Draft {
            context: state.context,
            name,
            kind: SpanKind::Internal,
            start_ns: state.started_ns.unwrap_or(forked_ns),
            end_ns: seen.boot_ns,
            attributes,
            error,
            counted: [Some(Counted::Exit(exit.reason)), None, None],
        };
        let is_death = exit.signal.is_some();
        let forced = match draft.error {
            Some(_) if is_death => Some(Decision::Death),
            Some(_) => Some(Decision::Failure),
            None => None,
        };
        if is_death {
            self.send_held(|_, process| process == Some(state.context.span), out);
        }
        self.emit(seen, draft, forced, Some(state.context.span), out);
    }

    pub(super) fn take_kill(&mut self, seen: &Seen, oom: &Oom, out: &mut Telemetry) {
        let Some(Process { pid, ref comm, .. }) = seen.observation.process else { return };
        let context = self.process_context(seen.cgroup_id, pid, seen.boot_ns);
        let attributes = kill_attributes(oom)
            .number("process.pid", pid)
            .text("podwitness.comm", comm.as_str())
            .number("process.user.id", oom.uid);
        self.note_kill(seen, &attributes);
        let body = format!("the kernel killed {comm} (pid {pid}) for want of memory: {}", oom.scope);
        let event = ("podwitness.oom_kill", SeverityNumber::Error);
        self.log(seen, event, &body, Some(context), &attributes, out);
        self.send_held(|cgroup_id, _| cgroup_id == seen.cgroup_id, out);
    }
}

pub(super) fn exit_attributes(attributes: Attributes, exit: &Exit) -> Attributes {
    attributes
        .text("podwitness.exit.reason", exit.reason)
        .some(exit.exit_code, |all, code| all.number("process.exit.code", code))
        .some(exit.signal, |all, signal| all.text("podwitness.exit.signal", signal_name(signal)))
}

/// What kind of failure it was and in words; none for exit code 0.
pub(super) fn failure(exit: &Exit) -> Option<(String, String)> {
    match (exit.exit_code, exit.signal) {
        (_, Some(signal)) if exit.reason == OOM_KILLED => {
            Some((OOM_KILLED.to_owned(), format!("killed for want of memory ({})", signal_name(signal))))
        }
        (_, Some(signal)) => Some((signal_name(signal), format!("killed by {}", signal_name(signal)))),
        (Some(0) | None, None) => None,
        (Some(code), None) => Some((code.to_string(), format!("exit code {code}"))),
    }
}

/// Of the standard signals, in the order of their numbers (signal(7), x86 and ARM).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

fn signal_name(signal: u8) -> String {
    let name = usize::from(signal).checked_sub(1).and_then(|at| SIGNALS.get(at));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}
