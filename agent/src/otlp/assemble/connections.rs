//! TCP connections, from connect(2) to their end.

use std::net::IpAddr;

use agent_ebpf::contract::event::EventKind;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Assembler, Context, Decision, Draft, SpanId, Telemetry, TraceId};
use crate::{
    exemplar::Counted,
    observation::{Process, Tcp},
    otlp::{Seen, attributes::AddressText},
};

/// A connection as long as it lives: network namespace, and both ends. As few numbers, which are quick to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionKey {
    netns_and_ports: u64,
    local: u128,
    remote: u128,
}

impl ConnectionKey {
    fn of(tcp: &Tcp) -> Self {
        let bits = |address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let ports = u64::from(tcp.local_port) << 16 | u64::from(tcp.remote_port);
        Self {
            netns_and_ports: u64::from(tcp.netns) << 32 | ports,
            local: bits(tcp.local_address),
            remote: bits(tcp.remote_address),
        }
    }
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
        let key = ConnectionKey::of(tcp);
        let took_ns = (tcp.duration.unwrap_or(0.0).max(0.0) * 1e9) as u64;
        let began_ns = seen.boot_ns.saturating_sub(took_ns);
        let who = || seen.observation.process.clone();
        match seen.observation.kind {
            EventKind::TcpConnect => {
                let owner = self.owner(seen);
                let connection = Connection { began_ns, attempt: tcp.duration, owner, who: who() };
                match tcp.reason {
                    None => self.connections.insert(key, connection),
                    Some(_) => self.end_connection(seen, tcp, &connection, out),
                }
            }
            EventKind::TcpClose if tcp.side == Some("client") => {
                let known = self.connections.remove(&key);
                let connection = known.unwrap_or_else(|| {
                    let owner = self.owner(seen);
                    Connection { began_ns, attempt: None, owner, who: who() }
                });
                self.end_connection(seen, tcp, &connection, out);
            }
            _ => {}
        }
    }

    /// The process, else the container, else nobody.
    fn owner(&mut self, seen: &Seen) -> Owner {
        let context = match &seen.observation.process {
            Some(who) => Some(self.process_context(seen.cgroup_id, who.pid, seen.boot_ns)),
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
        let [local, remote] = [tcp.local_address, tcp.remote_address].map(AddressText::of);
        let mut attributes = self
            .attributes()
            .text("network.transport", "tcp")
            .text("network.type", if tcp.remote_address.is_ipv4() { "ipv4" } else { "ipv6" })
            .address("network.peer.address", &remote)
            .number("network.peer.port", tcp.remote_port)
            .address("network.local.address", &local)
            .address("server.address", &remote)
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
        let draft = Draft {
            context: Context { trace: owner.trace, span, parent: owner.parent },
            name: "TCP connection",
            kind: SpanKind::Client,
            start_ns: *began_ns,
            end_ns: seen.boot_ns,
            attributes,
            error,
            counted: [attempt.map(Counted::Connect), failure, rtt],
        };
        self.emit(seen, draft, forced, owner.parent, out);
    }
}
