//! What was observed: the one form in which an event leaves its sensor and reaches metrics, live streams and
//! whatever else wants it. Nothing above this line sees bytes.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use agent_ebpf::contract::event::EventKind;
use compact_str::CompactString;
use serde::Serialize;

use crate::identity::{Labels, peers::Peer};

/// Something that happened once, with the container it belongs to.
#[derive(Clone, Debug, Serialize)]
pub struct Observation {
    /// Wall-clock time of the hook.
    pub time: jiff::Timestamp,
    /// `sensor.what`.
    #[serde(serialize_with = "kind_name")]
    pub kind: EventKind,
    #[serde(flatten)]
    pub labels: Arc<Labels>,
    #[serde(flatten)]
    pub process: Option<Process>,
    #[serde(flatten)]
    pub detail: Detail,
}

impl Observation {
    /// The same of a container that goes by these labels.
    #[must_use]
    pub fn labelled(&self, labels: &Arc<Labels>) -> Self {
        Self { labels: Arc::clone(labels), ..self.clone() }
    }
}

/// The task an event belongs to; for an OOM kill, the victim.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Name of the task; bytes that are not UTF-8 are replaced. The kernel's 15 bytes need no memory of their own.
    pub comm: CompactString,
}

/// What is particular to a kind of event. Durations are in seconds, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Detail {
    Tcp(Tcp),
    Oom(Oom),
    Exec(Exec),
    Exit(Exit),
    Cgroup(Cgroup),
    Call(Box<Call>),
}

impl Detail {
    /// Why a process ended; empty for what is no exit.
    pub fn exit_reason(&self) -> &'static str {
        match self {
            Self::Exit(exit) => exit.reason,
            Self::Tcp(_) | Self::Oom(_) | Self::Exec(_) | Self::Cgroup(_) | Self::Call(_) => "",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Tcp {
    pub local_address: IpAddr,
    pub local_port: u16,
    pub remote_address: IpAddr,
    pub remote_port: u16,
    /// Who has the remote address.
    #[serde(flatten)]
    pub peer: Option<Arc<Peer>>,
    /// Of the attempt (connect) or of the connection's life (close); absent where the beginning was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// Why a connect failed, as in `podwitness_tcp_connect_failures_total{reason}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The same as the kernel's errno, such as `ECONNREFUSED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<&'static str>,
    /// `client` where this end called connect(2), else `server`; absent where the beginning was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<&'static str>,
    /// Inode number of the network namespace, as in `/proc/PID/ns/net`.
    pub netns: u32,
    /// Of a close.
    #[serde(flatten)]
    pub traffic: Option<Traffic>,
}

/// What went over a connection until it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// What was sent again counts once.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Segments that were sent once more.
    pub retransmits: u32,
    /// Smoothed round-trip time; absent if it was never measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Oom {
    /// Whose memory was short: `container`, `pod`, `ancestor`, `node` or `unknown`.
    pub scope: &'static str,
    pub trigger_pid: u32,
    pub trigger_tid: u32,
    pub trigger_comm: CompactString,
    pub anon_rss_bytes: u64,
    pub file_rss_bytes: u64,
    pub shmem_rss_bytes: u64,
    pub total_vm_bytes: u64,
    pub pgtables_bytes: u64,
    pub uid: u32,
    pub oom_score_adj: i32,
}

#[derive(Clone, Debug, Serialize)]
pub struct Exec {
    pub ppid: u32,
    /// The path given to execve(2); bytes that are not UTF-8 are replaced.
    pub executable: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Exit {
    pub ppid: u32,
    /// As in `podwitness_process_exits_total{reason}`.
    pub reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Number of the signal that ended the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub core_dumped: bool,
    /// From fork to exit.
    pub duration: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Cgroup {
    pub cgroup: String,
}

/// One system call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    pub syscall: String,
    /// As `contract::syscalls` counts it.
    #[serde(skip)]
    pub number: u32,
    /// By the names that their manual page gives them; absent for calls of other ABIs.
    #[serde(serialize_with = "as_map", skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<(&'static str, Argument)>,
    /// What it returned, if it didn't fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<i64>,
    /// Why it failed, such as `ENOSPC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<Cow<'static, str>>,
    /// From entry to return; absent where it was not timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// What the file descriptor in the arguments stood for when the call returned, as `/proc/PID/fd` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Of a socket: `tcp`, `udp`, `unix`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
}

/// Descriptors and counts are numbers; flags, permissions, addresses and paths are text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    Number(i64),
    Text(String),
}

fn as_map<S: serde::Serializer>(
    arguments: &[(&'static str, Argument)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(arguments.iter().map(|(name, value)| (name, value)))
}

fn kind_name<S: serde::Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}
