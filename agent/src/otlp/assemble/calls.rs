//! Slow and failed system calls.

use agent_ebpf::contract::event::EventKind;
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;

use super::{Assembler, Attributes, Seen, Telemetry};
use crate::observation::{Argument, Call, Process};

impl Assembler {
    /// A log linked to the process' span. What somebody watches is that reader's, and no telemetry.
    pub(super) fn take_call(&mut self, seen: &Seen, call: &Call, out: &mut Telemetry) {
        let name = match seen.observation.kind {
            EventKind::SyscallSlow => "podwitness.slow_syscall",
            EventKind::SyscallFailed => "podwitness.failed_syscall",
            _ => return,
        };
        let Some(Process { pid, tid, ref comm }) = seen.observation.process else { return };
        let context = self.process_context(seen.cgroup_id, pid, seen.boot_ns);
        let mut attributes = Attributes::default()
            .number("process.pid", pid)
            .number("thread.id", tid)
            .text("podwitness.comm", comm.as_str())
            .text("podwitness.syscall.name", call.syscall.as_str())
            .some(call.result, |all, result| all.number("podwitness.syscall.result", result))
            .some(call.errno.as_deref(), |all, errno| all.text("error.type", errno))
            .some(call.duration, |all, seconds| {
                all.seconds("podwitness.syscall.duration", (seconds.max(0.0) * 1e9) as u64)
            })
            .some(call.file.as_deref(), |all, file| all.text("podwitness.syscall.file", file))
            .some(call.protocol, |all, protocol| all.text("network.transport", protocol))
            .some(call.remote_address, |all, address| all.text("network.peer.address", address.to_string()))
            .some(call.remote_port, |all, port| all.number("network.peer.port", port));
        for (name, value) in &call.arguments {
            let key = format!("podwitness.syscall.argument.{name}");
            attributes = match value {
                Argument::Number(number) => attributes.number(&key, *number),
                Argument::Text(text) => attributes.text(&key, text.as_str()),
            };
        }
        let body = match (call.errno.as_deref(), call.duration) {
            (Some(errno), _) => format!("{} of {comm} failed: {errno}", call.syscall),
            (None, Some(seconds)) => format!("{} of {comm} took {seconds:.3} s", call.syscall),
            (None, None) => format!("{} of {comm}", call.syscall),
        };
        self.log(seen, (name, SeverityNumber::Warn), &body, Some(context), &attributes, out);
    }
}
