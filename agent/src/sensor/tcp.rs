//! TCP connections: every attempt with its outcome, every accept, every close.

mod by_peer;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

pub use agent_ebpf::contract::tcp::TcpEvent;
use agent_ebpf::contract::{
    event::EventKind,
    stats::SensorId,
    tcp::{ABORTED, ACTIVE, DURATION_KNOWN, SIDE_UNKNOWN, Traffic, UNEXPLAINED},
};

use self::by_peer::ByPeer;
use super::{
    Hook, Place, Sensor,
    syscalls::{self, errno_name},
};
use crate::{
    exemplar::{Counted, Exemplar, Exemplars},
    identity::peers::{Peer, Peers},
    kernel::prefetch,
    metrics::{Base, Bounds, Filling, Page},
    observation,
};

pub const SENSOR: Sensor = Sensor {
    id: SensorId::Tcp,
    hooks: &[
        Hook::required("inet_sock_set_state", &[Some("sock")]),
        Hook {
            name: "inet_sock_set_state",
            program: "inet_sock_set_state_nested",
            place: Place::Tracepoint,
            arguments: &[Some("sock")],
            required: false,
            lacking: "connections are missed while the program on this hook is interrupted",
            is_needed: |_| true,
            classic: None,
            raw: None,
            on_demand: false,
        },
        Hook {
            required: false,
            lacking: "connects that are refused before a SYN is sent (no route) are not seen",
            ..syscalls::SYS_EXIT
        },
    ],
};

/// From 61 µs, in which a handshake on the loopback device is done, to 128 s, when the kernel has nearly given up to
/// send a SYN by default.
pub const BOUNDS: Bounds = Bounds::powers(-14, 7);

const PEER: [&str; 2] = ["peer_namespace", "peer_workload"];
/// How many accounts before its turn one's peers are fetched from memory; the account itself is twice as early.
const AHEAD: usize = 4;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    by_peer: ByPeer,
    /// Durations of connects.
    connecting: Spread,
    /// Round-trip times of connections that were closed.
    rtt: Spread,
}

/// How durations spread over [`BOUNDS`].
#[derive(Clone, Debug, Default, PartialEq)]
struct Spread {
    buckets: [u64; BOUNDS.count() + 1],
    sum_ns: u64,
    /// By bucket.
    exemplars: Exemplars<usize>,
}

impl Spread {
    fn take(&mut self, ns: u64) {
        self.buckets[BOUNDS.bucket(seconds(ns))] += 1;
        self.sum_ns += ns;
    }

    fn exemplify(&mut self, seconds: f64, exemplar: Exemplar) {
        self.exemplars.put(BOUNDS.bucket(seconds), exemplar, seconds);
    }

    fn show(&self, base: Base, family: &mut Filling<'_>) {
        family.observe(base, [], self.sum_ns, &self.buckets);
        for (bucket, exemplar) in self.exemplars.iter() {
            family.exemplify(bucket, Some(exemplar));
        }
    }

    fn add(&mut self, other: &Self) {
        self.sum_ns += other.sum_ns;
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
        self.exemplars.add(&other.exemplars);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What one container did, whoever was at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub connects: u64,
    pub failures: u64,
    pub accepts: u64,
    pub closes: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u64,
    /// Sum of the round-trip times, in seconds, and of how many connections.
    pub rtt: (f64, u64),
}

impl Counters {
    pub fn record(&mut self, kind: EventKind, event: &TcpEvent, peer: &Arc<Peer>, peers: &Peers) {
        let tally = self.by_peer.tally(peer, peers);
        match kind {
            EventKind::TcpConnect => {
                tally.connects += 1;
                if let Some(reason) = failure(event) {
                    *tally.failures.entry(reason).or_default() += 1;
                }
                if let Some(ns) = duration_ns(event) {
                    self.connecting.take(ns);
                }
            }
            EventKind::TcpAccept => tally.accepts += 1,
            EventKind::TcpClose => {
                let Traffic { sent_bytes, received_bytes, retransmits, .. } = event.traffic;
                tally.closes += 1;
                tally.sent_bytes += sent_bytes;
                tally.received_bytes += received_bytes;
                tally.retransmits += u64::from(retransmits);
                if let Some(ns) = rtt_ns(event) {
                    self.rtt.take(ns);
                }
            }
            _ => {}
        }
    }

    /// A span tells of something that was counted.
    pub fn exemplify(&mut self, counted: &Counted, exemplar: Exemplar, peers: &Peers) {
        match counted {
            Counted::Connect(seconds) => self.connecting.exemplify(*seconds, exemplar),
            Counted::Rtt(seconds) => self.rtt.exemplify(*seconds, exemplar),
            Counted::ConnectFailure(Some(peer), reason) => {
                if let Some(tally) = self.by_peer.counted(peer, peers) {
                    tally.exemplars.put(*reason, exemplar, 1.0);
                }
            }
            Counted::ConnectFailure(None, _) | Counted::Exit(_) => {}
        }
    }

    pub fn add(&mut self, other: &Self) {
        let Self { by_peer, connecting, rtt } = other;
        self.by_peer.add(by_peer);
        self.connecting.add(connecting);
        self.rtt.add(rtt);
    }

    /// Brings a sum back to as many peers as one container may have.
    pub fn fold(&mut self, peers: &Peers) {
        self.by_peer.fold(peers);
    }

    /// Over all peers.
    pub fn totals(&self) -> Totals {
        let mut totals =
            Totals { rtt: (self.rtt.sum_ns as f64 / 1e9, self.rtt.count()), ..Totals::default() };
        for (_, tally) in self.by_peer.iter() {
            totals.connects += tally.connects;
            totals.failures += tally.failures.values().sum::<u64>();
            totals.accepts += tally.accepts;
            totals.closes += tally.closes;
            totals.sent_bytes += tally.sent_bytes;
            totals.received_bytes += tally.received_bytes;
            totals.retransmits += tally.retransmits;
        }
        totals
    }

    pub fn is_empty(&self) -> bool {
        self.by_peer.iter().next().is_none()
    }

    fn connects(&self) -> u64 {
        self.by_peer.iter().map(|(_, tally)| tally.connects).sum()
    }
}

/// Shows what the sensor measures.
pub fn expose(page: &mut Page, rows: &[(Base, &Counters)]) {
    let mut connects = Filling::counter(
        "podwitness_tcp_connects",
        "Attempts to connect that ended, the failed ones too",
        &PEER,
    );
    let mut failures = Filling::counter(
        "podwitness_tcp_connect_failures",
        "Attempts to connect that failed, by reason",
        &["peer_namespace", "peer_workload", "reason"],
    );
    let mut durations = Filling::histogram(
        "podwitness_tcp_connect_duration",
        "Time from the call of connect to the attempt's outcome, good or bad",
        &[],
        BOUNDS,
    );
    let mut accepts = Filling::counter(
        "podwitness_tcp_accepts",
        "Connections whose handshake was completed on a listening socket",
        &PEER,
    );
    let mut closes = Filling::counter(
        "podwitness_tcp_closes",
        "Established connections that were closed, on either side",
        &PEER,
    );
    let mut sent = Filling::counter(
        "podwitness_tcp_sent_bytes",
        "Bytes of data sent over connections, counted when they are closed; what is sent again is left out",
        &PEER,
    );
    let mut received = Filling::counter(
        "podwitness_tcp_received_bytes",
        "Bytes of data received over connections, counted when they are closed",
        &PEER,
    );
    let mut retransmits = Filling::counter(
        "podwitness_tcp_retransmits",
        "Segments sent once more, counted when their connection is closed",
        &PEER,
    );
    let mut rtts = Filling::histogram(
        "podwitness_tcp_rtt",
        "Smoothed round-trip time of a connection when it is closed",
        &[],
        BOUNDS,
    );
    for (at, (base, counters)) in rows.iter().enumerate() {
        // Of thousands of accounts none is in a cache, and each lies in another place.
        if let Some((_, later)) = rows.get(at + 2 * AHEAD) {
            prefetch(*later);
        }
        if let Some((_, soon)) = rows.get(at + AHEAD) {
            soon.by_peer.prefetch();
        }
        for (peer, tally) in counters.by_peer.iter() {
            let peer = [&*peer.namespace, &*peer.workload];
            for (family, count) in [
                (&mut connects, tally.connects),
                (&mut accepts, tally.accepts),
                (&mut closes, tally.closes),
                (&mut sent, tally.sent_bytes),
                (&mut received, tally.received_bytes),
                (&mut retransmits, tally.retransmits),
            ] {
                if count > 0 {
                    family.count(*base, peer, count);
                }
            }
            for (reason, count) in &tally.failures {
                failures.count(*base, [peer[0], peer[1], reason], *count);
                failures.exemplify(0, tally.exemplars.of(reason));
            }
        }
        if counters.connects() > 0 {
            counters.connecting.show(*base, &mut durations);
        }
        if counters.rtt.count() > 0 {
            counters.rtt.show(*base, &mut rtts);
        }
    }
    let families = [connects, failures, durations, accepts, closes, sent, received, retransmits, rtts];
    families.into_iter().for_each(|family| page.add(family));
}

/// The address of the other end.
pub fn remote(event: &TcpEvent) -> IpAddr {
    address(event.family, event.remote)
}

pub(super) fn detail(kind: EventKind, event: &TcpEvent, peer: Option<Arc<Peer>>) -> observation::Tcp {
    observation::Tcp {
        local_address: address(event.family, event.local),
        local_port: event.local_port,
        remote_address: remote(event),
        remote_port: event.remote_port,
        peer,
        duration: duration_ns(event).map(seconds),
        reason: if kind == EventKind::TcpConnect { failure(event) } else { None },
        errno: if event.errno == 0 { None } else { errno_name(event.errno.into()) },
        side: side(event.flags),
        netns: event.netns,
        traffic: (kind == EventKind::TcpClose).then(|| observation::Traffic {
            sent_bytes: event.traffic.sent_bytes,
            received_bytes: event.traffic.received_bytes,
            retransmits: event.traffic.retransmits,
            rtt: rtt_ns(event).map(seconds),
        }),
    }
}

fn side(flags: u32) -> Option<&'static str> {
    match flags {
        _ if flags & SIDE_UNKNOWN != 0 => None,
        _ if flags & ACTIVE != 0 => Some("client"),
        _ => Some("server"),
    }
}

/// If the beginning was seen.
fn duration_ns(event: &TcpEvent) -> Option<u64> {
    (event.flags & DURATION_KNOWN != 0).then_some(event.duration_ns)
}

/// If it was measured.
fn rtt_ns(event: &TcpEvent) -> Option<u64> {
    let Traffic { rtt_us, .. } = event.traffic;
    (rtt_us != 0).then(|| u64::from(rtt_us) * 1000)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Why the attempt failed, if it did.
fn failure(event: &TcpEvent) -> Option<&'static str> {
    if event.flags & ABORTED != 0 {
        return Some("aborted");
    }
    if event.flags & UNEXPLAINED != 0 {
        return Some("other");
    }
    Some(match event.errno as i32 {
        0 => return None,
        libc::ECONNREFUSED => "refused",
        libc::ECONNRESET => "reset",
        libc::ETIMEDOUT => "timed_out",
        libc::EHOSTUNREACH => "host_unreachable",
        libc::ENETUNREACH => "net_unreachable",
        libc::ECONNABORTED => "aborted",
        _ => "other",
    })
}

/// An IPv4 address that an IPv6 socket talks to is shown as what it is.
fn address(family: u16, bytes: [u8; 16]) -> IpAddr {
    if i32::from(family) == libc::AF_INET6 {
        Ipv6Addr::from(bytes).to_canonical()
    } else {
        let [a, b, c, d, ..] = bytes;
        Ipv4Addr::new(a, b, c, d).into()
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::identity::peers::PeerBounds;

    fn event(errno: i32, flags: u32) -> TcpEvent {
        TcpEvent { errno: errno as u16, flags, duration_ns: 1_500_000_000, ..TcpEvent::new_zeroed() }
    }

    #[test]
    fn every_outcome_has_its_reason() {
        assert_eq!(failure(&event(0, ACTIVE)), None);
        assert_eq!(failure(&event(0, ACTIVE | ABORTED)), Some("aborted"));
        assert_eq!(failure(&event(0, ACTIVE | UNEXPLAINED)), Some("other"));
        assert_eq!(failure(&event(libc::ECONNREFUSED, ACTIVE)), Some("refused"));
        assert_eq!(failure(&event(libc::ETIMEDOUT, ACTIVE)), Some("timed_out"));
        assert_eq!(failure(&event(libc::EADDRNOTAVAIL, ACTIVE)), Some("other"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
        assert_eq!(address(libc::AF_INET6 as u16, mapped), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(
            address(libc::AF_INET6 as u16, Ipv6Addr::LOCALHOST.octets()),
            IpAddr::from(Ipv6Addr::LOCALHOST)
        );
    }

    #[test]
    fn an_attempt_without_a_beginning_has_no_duration() {
        let peers = Peers::new(PeerBounds { addresses: 0, per_container: 0 }, &[]);
        let mut counters = Counters::default();
        for flags in [ACTIVE, ACTIVE | DURATION_KNOWN] {
            let event = event(0, flags);
            counters.record(EventKind::TcpConnect, &event, &peers.of(remote(&event)), &peers);
        }
        assert_eq!((counters.connects(), counters.connecting.count()), (2, 1));
        // 1.5 s lies beyond the bound of 1 s and not beyond that of 2 s.
        assert_eq!(counters.connecting.buckets[BOUNDS.iter().position(|bound| bound == 2.0).unwrap()], 1);
    }

    #[test]
    fn a_span_is_an_example_of_what_was_counted() {
        let peers = Peers::new(PeerBounds { addresses: 0, per_container: 0 }, &[]);
        let mut counters = Counters::default();
        let event = event(libc::ECONNREFUSED, ACTIVE | DURATION_KNOWN);
        let peer = peers.of(remote(&event));
        counters.record(EventKind::TcpConnect, &event, &peer, &peers);
        for counted in [Counted::Connect(1.5), Counted::ConnectFailure(Some(Arc::clone(&peer)), "refused")] {
            counters.exemplify(&counted, Exemplar::at(7), &peers);
        }
        let mut sum = Counters::default();
        sum.add(&counters);
        let buckets: Vec<_> =
            sum.connecting.exemplars.iter().map(|(bucket, of)| (bucket, of.value)).collect();
        assert_eq!(buckets, [(BOUNDS.bucket(1.5), 1.5)]);
        let (_, tally) = sum.by_peer.iter().next().unwrap();
        assert_eq!(tally.exemplars.of(&"refused"), Some(&Exemplar::at(7)));
    }
}
