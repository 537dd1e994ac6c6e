//! Connects of the helper, and everything that the agent has to say about each of them.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::{Agent, Cgroup, Metrics, NetNs, Options, Workload};

pub const CONNECTS: &str = "podwitness_tcp_connects_total";
pub const FAILURES: &str = "podwitness_tcp_connect_failures_total";
pub const DURATION: &str = "podwitness_tcp_connect_duration_seconds";
pub const ACCEPTS: &str = "podwitness_tcp_accepts_total";
pub const CLOSES: &str = "podwitness_tcp_closes_total";
pub const SENT: &str = "podwitness_tcp_sent_bytes_total";
pub const RECEIVED: &str = "podwitness_tcp_received_bytes_total";
pub const RTT: &str = "podwitness_tcp_rtt_seconds_count";

/// An agent, and a network of its own for what it watches.
pub struct Scene {
    pub agent: Agent,
    pub netns: NetNs,
}

impl Scene {
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it starts an agent, which no default should")]
    pub fn new() -> Self {
        Self { agent: Agent::start(Options::default()), netns: NetNs::new() }
    }

    /// The namespace as the helper takes it.
    pub fn netns(&self) -> String {
        self.netns.path().display().to_string()
    }

    /// Connects from a fresh cgroup and checks everything that is said about it.
    #[track_caller]
    pub fn connect(&self, address: &str, count: u64, threads: u64, expected: Expected) {
        self.connect_with(&[], address, count, threads, expected);
    }

    /// The same with more arguments for the helper.
    #[track_caller]
    pub fn connect_with(&self, more: &[&str], address: &str, count: u64, threads: u64, expected: Expected) {
        self.connect_to_either(more, address, count, threads, &[expected]);
    }

    /// The same where kernels differ in what they tell the caller.
    #[track_caller]
    pub fn connect_to_either(
        &self,
        more: &[&str],
        address: &str,
        count: u64,
        threads: u64,
        expected: &[Expected],
    ) {
        let cgroup = Cgroup::new("client");
        let tail = self.agent.tail_of(&cgroup);
        let (netns, count_text, threads) = (self.netns(), count.to_string(), threads.to_string());
        let arguments =
            ["connect", "--addr", address, "--count", &count_text, "--threads", &threads, "--netns", &netns];
        let (workload, truth) = Workload::run(&[&arguments, more].concat(), &cgroup);
        let mut expected = expected.iter();
        let expected = expected.find(|one| truth["results"][one.errno.to_string()] == count);
        let expected = expected.unwrap_or_else(|| panic!("{address}: {truth}"));

        let of = [("workload", cgroup.path())];
        self.agent.wait_count(CONNECTS, &of, count);
        let events = tail.wait_of("tcp.connect", cgroup.path(), count as usize);
        let metrics = self.agent.scrape();
        let failed = if expected.reason.is_empty() { 0 } else { count };
        assert_eq!(metrics.count(FAILURES, &of), failed, "{address}");
        let by_reason = [of[0], ("reason", expected.reason)];
        let reason = expected.reason;
        assert_eq!(metrics.count(FAILURES, &by_reason), failed, "{address}: {reason}: {truth} {events:?}");
        assert_eq!(metrics.count(ACCEPTS, &of), 0, "a client accepts nothing");

        self.check_latencies(&metrics, &cgroup, address, &truth, count, expected);
        assert_eq!(events.len() as u64, count, "{address}: events");
        for event in &events {
            check_event(event, address, &workload, &truth, expected);
        }
        workload.finish();
    }

    /// The kernel's attempt lies inside the helper's call, so it can't be longer.
    #[track_caller]
    fn check_latencies(
        &self,
        metrics: &Metrics,
        cgroup: &Cgroup,
        address: &str,
        truth: &Value,
        count: u64,
        expected: &Expected,
    ) {
        let of = [("workload", cgroup.path())];
        assert_eq!(metrics.count(&format!("{DURATION}_count"), &of), count, "{address}");
        let sum = metrics.sum(&format!("{DURATION}_sum"), &of);
        let (max, measured) = (truth["max"].as_f64().unwrap(), truth["sum"].as_f64().unwrap());
        let least = expected.at_least * count as f64;
        assert!((least..=measured).contains(&sum), "{address}: {sum} s, outside of {least}..={measured} s");
        let bounds = metrics.bounds(DURATION, &of);
        if let Some(bound) = bounds.iter().find(|bound| **bound >= max) {
            assert_eq!(
                metrics.at_most(DURATION, &of, *bound),
                count,
                "{address}: none took more than {max} s"
            );
        }
        if let Some(bound) = bounds.iter().rfind(|bound| **bound < expected.at_least) {
            assert_eq!(
                metrics.at_most(DURATION, &of, *bound),
                0,
                "{address}: all took {}",
                expected.at_least
            );
        }
    }
}

/// What becomes of a connect.
pub struct Expected {
    pub errno: i32,
    pub name: &'static str,
    pub reason: &'static str,
    /// Seconds that the kernel lets every attempt take.
    pub at_least: f64,
}

pub const ESTABLISHED: Expected = Expected { errno: 0, name: "", reason: "", at_least: 0.0 };
pub const REFUSED: Expected =
    Expected { errno: libc::ECONNREFUSED, name: "ECONNREFUSED", reason: "refused", at_least: 0.0 };
/// One SYN, one repetition after a second, and no answer to it either.
pub const TIMED_OUT: Expected =
    Expected { errno: libc::ETIMEDOUT, name: "ETIMEDOUT", reason: "timed_out", at_least: 1.0 };
pub const NET_UNREACHABLE: Expected =
    Expected { errno: libc::ENETUNREACH, name: "ENETUNREACH", reason: "net_unreachable", at_least: 0.0 };
pub const HOST_UNREACHABLE: Expected =
    Expected { errno: libc::EHOSTUNREACH, name: "EHOSTUNREACH", reason: "host_unreachable", at_least: 0.0 };
/// No local port is left.
pub const NO_PORT: Expected =
    Expected { errno: libc::EADDRNOTAVAIL, name: "EADDRNOTAVAIL", reason: "other", at_least: 0.0 };

#[track_caller]
fn check_event(event: &Value, address: &str, workload: &Workload, truth: &Value, expected: &Expected) {
    assert_eq!(event["pid"], workload.pid(), "{event}");
    assert!(truth["tids"].as_array().unwrap().contains(&event["tid"]), "{event}: {}", truth["tids"]);
    assert_eq!(event["comm"], "pw-connect", "{event}");
    assert_eq!(event["side"], "client", "{event}");
    assert_eq!(event["reason"].as_str().unwrap_or(""), expected.reason, "{event}");
    assert_eq!(event["errno"].as_str().unwrap_or(""), expected.name, "{event}");
    let duration = event["duration"].as_f64().unwrap_or_else(|| panic!("no duration: {event}"));
    assert!((expected.at_least..=truth["max"].as_f64().unwrap()).contains(&duration), "{event}");

    let peer: SocketAddr = address.parse().unwrap();
    assert_eq!(event["remote_port"], peer.port(), "{event}");
    let seen: IpAddr = event["remote_address"].as_str().unwrap().parse().unwrap();
    // A v4-mapped peer may be told as what it is or as what the socket calls it.
    assert_eq!(seen.to_canonical(), peer.ip().to_canonical(), "{event}");
}
