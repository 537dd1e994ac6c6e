//! A network namespace with a loopback of its own, a black hole and unreachable networks.

use std::{num::NonZero, path::PathBuf, process::Command, thread::available_parallelism};

use crate::wait::unique;

/// In front of these lies a neighbour with a fixed hardware address that nobody has: SYNs vanish. (The networks
/// are those set aside for documentation.)
pub const BLACK_HOLE_V4: &str = "198.51.100.2:80";
pub const BLACK_HOLE_V6: &str = "[2001:db8::2]:80";
/// No route leads here.
pub const NO_ROUTE_V4: &str = "192.0.2.1:80";
pub const NO_ROUTE_V6: &str = "[2001:db8:2::1]:80";
/// The route here says that the host can't be reached.
pub const UNREACHABLE_V4: &str = "203.0.113.1:80";
pub const UNREACHABLE_V6: &str = "[2001:db8:1::1]:80";
/// In the network next door, but nobody answers for the address: the kernel gives up on it after a second.
pub const SILENT_V4: &str = "198.51.100.3:80";
pub const SILENT_V6: &str = "[2001:db8::3]:80";
/// Nobody listens on these: the namespace has no other inhabitants.
pub const CLOSED_V4: &str = "127.0.0.1:9";
pub const CLOSED_V6: &str = "[::1]:9";
pub const CLOSED_MAPPED: &str = "[::ffff:127.0.0.1]:9";

/// A namespace that is deleted when this goes.
#[derive(Debug)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes the namespace. An attempt to connect into the black hole gives up after one repetition, 3 seconds.
    #[track_caller]
    pub fn new() -> Self {
        let name = format!("podwitness-test-{}", unique());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        for line in [
            "link set lo up",
            // Both ends lie in the namespace: what is sent to a stranger's hardware address arrives nowhere.
            "link add hole0 type veth peer name hole1",
            "link set hole0 up",
            "link set hole1 up",
            "address add 198.51.100.1/24 dev hole0",
            "address add 2001:db8::1/64 dev hole0 nodad",
            "neighbour add 198.51.100.2 lladdr 02:00:00:00:00:02 nud permanent dev hole0",
            "neighbour add 2001:db8::2 lladdr 02:00:00:00:00:02 nud permanent dev hole0",
            "route add unreachable 203.0.113.0/24",
            "-6 route add unreachable 2001:db8:1::/64",
        ] {
            let arguments = ["-n", &namespace.name].into_iter().chain(line.split(' '));
            ip(&arguments.collect::<Vec<_>>());
        }
        for (sysctl, value) in [
            ("net/ipv4/tcp_syn_retries", "1"),
            ("net/ipv4/neigh/hole0/mcast_solicit", "1"),
            ("net/ipv6/neigh/hole0/mcast_solicit", "1"),
        ] {
            let set = format!("echo {value} > /proc/sys/{sysctl}");
            ip(&["netns", "exec", &namespace.name, "sh", "-c", &set]);
        }
        namespace
    }

    /// Lets the packets of the loopback be handled on whatever CPU their connection falls to (receive packet
    /// steering), and not only where they were sent: softirqs then interrupt system calls all the time.
    #[track_caller]
    pub fn steer_loopback(&self) {
        let cpus = available_parallelism().map_or(1, NonZero::get).min(32);
        let steer = format!("echo {:x} > /sys/class/net/lo/queues/rx-0/rps_cpus", (1u64 << cpus) - 1);
        ip(&["netns", "exec", &self.name, "sh", "-c", &steer]);
    }

    /// Leaves a single port for those who connect without having chosen one.
    #[track_caller]
    pub fn leave_one_port(&self, port: u16) {
        let leave = format!("echo {port} {port} > /proc/sys/net/ipv4/ip_local_port_range");
        ip(&["netns", "exec", &self.name, "sh", "-c", &leave]);
    }

    /// Lets data come with the first packet, at both ends, without a cookie
    /// (Documentation/networking/ip-sysctl.rst, `tcp_fastopen`).
    pub fn open_fast(&self) {
        ip(&["netns", "exec", &self.name, "sh", "-c", "echo 1543 > /proc/sys/net/ipv4/tcp_fastopen"]);
    }

    /// The file that setns(2) takes.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Default for NetNs {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("`ip` of the package iproute2");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {message}", arguments.join(" "));
}
