//! TCP connections, from connect(2) to their end.

use std::net::IpAddr;

use agent_ebpf::contract::event::EventKind;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Assembler, Attributes, Context, Decision, Draft, SpanId, Telemetry, TraceId};
use crate::{
    exemplar::Counted,
    observation::{Process, Tcp},
    otlp::Seen,
};

/// A connection as long as it lives: network namespace, and both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionKey {
    netns: u32,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

/// A connection that was established.
#[derive(Debug)]
pub(super) struct Connection {
    began_ns: u64,
    /// Seconds that the attempt took, if its beginning was seen.
    attempt: Option<f64>,
    owner: Owner,
    who: Option<Process>,
}

/// Whose child the span is.
#[derive(Clone, Copy, Debug)]
struct Owner {
    trace: TraceId,
    parent: Option<SpanId>,
}

impl Assembler {
    /// A client's connection becomes a span when its attempt has failed, or when it is closed.
    pub(super) fn take_tcp(&mut self, seen: &Seen, tcp: &Tcp, out: &mut Telemetry) {
        let key = ConnectionKey {
            netns: tcp.netns,
            local: (tcp.local_address, tcp.local_port),
            remote: (tcp.remote_address, tcp.remote_port),
        };
        let took_ns = (tcp.duration.unwrap_or(0.0).max(0.0) * 1e9) as u64;
        let began_ns = seen.boot_ns.saturating_sub(took_ns);
        let (who, attempt) = (seen.observation.process.clone(), tcp.duration);
        match seen.observation.kind {
            EventKind::TcpConnect if tcp.reason.is_none() => {
                let owner = self.owner(seen);
                self.connections.insert(key, Connection { began_ns, attempt, owner, who });
            }
            EventKind::TcpConnect => {
                let owner = self.owner(seen);
                let connection = Connection { began_ns, attempt, owner, who };
                self.end_connection(seen, tcp, &connection, out);
            }
            EventKind::TcpClose if tcp.side == Some("client") => {
                let known = self.connections.remove(&key);
                let connection = known.unwrap_or_else(|| {
                    let owner = self.owner(seen);
                    Connection { began_ns, attempt: None, owner, who }
                });
                self.end_connection(seen, tcp, &connection, out);
            }
            _ => {}
        }
    }

    /// The process, else the container, else nobody.
    fn owner(&mut self, seen: &Seen) -> Owner {
        let context = match &seen.observation.process {
            Some(who) => Some(self.process(seen.cgroup_id, who.pid, seen.boot_ns).context),
            None => self.container_context(seen.cgroup_id),
        };
        let alone = || self.seed.process_trace(0, seen.boot_ns);
        Owner {
            trace: context.map_or_else(alone, |context| context.trace),
            parent: context.map(|context| context.span),
        }
    }

    fn end_connection(&mut self, seen: &Seen, tcp: &Tcp, connection: &Connection, out: &mut Telemetry) {
        let Connection { began_ns, attempt, owner, who } = connection;
        let attempt_ns = (attempt.unwrap_or(0.0).max(0.0) * 1e9) as u64;
        let span = self.seed.connection(tcp.netns, [tcp.local_port, tcp.remote_port], seen.boot_ns);
        let peer = tcp.peer.as_deref();
        let remote = address(tcp.remote_address);
        let mut attributes = Attributes::of_span()
            .text("network.transport", "tcp")
            .text("network.type", if tcp.remote_address.is_ipv4() { "ipv4" } else { "ipv6" })
            .text("network.peer.address", &remote)
            .number("network.peer.port", tcp.remote_port)
            .text("network.local.address", address(tcp.local_address))
            .text("server.address", &remote)
            .number("server.port", tcp.remote_port)
            .some(peer, |all, peer| {
                all.text("podwitness.peer.namespace", &*peer.namespace)
                    .text("podwitness.peer.workload", &*peer.workload)
            })
            .some(who.as_ref(), |all, who| {
                all.number("process.pid", who.pid)
                    .number("thread.id", who.tid)
                    .text("podwitness.comm", who.comm.as_str())
            });
        if tcp.local_port != 0 {
            attributes = attributes.number("network.local.port", tcp.local_port);
        }
        if attempt_ns > 0 {
            attributes = attributes.seconds("podwitness.connect.duration", attempt_ns);
        }
        attributes = attributes.some(tcp.traffic, |all, traffic| {
            all.number("podwitness.connection.sent_bytes", traffic.sent_bytes)
                .number("podwitness.connection.received_bytes", traffic.received_bytes)
                .number("podwitness.connection.retransmits", traffic.retransmits)
                .some(traffic.rtt, |all, rtt| all.seconds("podwitness.connection.rtt", (rtt * 1e9) as u64))
        });
        let error = tcp.reason.map(|reason| {
            let kind = tcp.errno.unwrap_or(reason);
            (kind.to_owned(), format!("connect failed: {}", reason.replace('_', " ")))
        });
        let forced = match error {
            Some(_) => Some(Decision::Failure),
            None if attempt_ns >= self.slow_ns => Some(Decision::Slow),
            None => None,
        };
        let failure = tcp.reason.map(|reason| Counted::ConnectFailure(tcp.peer.clone(), reason));
        let rtt = tcp.traffic.and_then(|traffic| traffic.rtt).map(Counted::Rtt);
        let counted = attempt.map(Counted::Connect).into_iter().chain(failure).chain(rtt).collect();
        let draft = Draft {
            context: Context { trace: owner.trace, span, parent: owner.parent },
            name: "TCP connection",
            kind: SpanKind::Client,
            start_ns: *began_ns,
            end_ns: seen.boot_ns,
            attributes,
            error,
            counted,
        };
        self.emit(seen, draft, forced, owner.parent, out);
    }
}

/// As its `Display` writes it; the usual kind without the machinery of formats, because each span has three.
fn address(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity(15);
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for text in ["0.0.0.0", "255.255.255.255", "10.0.200.7", "::1", "2001:db8::10:0:7", "::ffff:1.2.3.4"]
        {
            assert_eq!(address(text.parse().unwrap()), text);
        }
    }
}
