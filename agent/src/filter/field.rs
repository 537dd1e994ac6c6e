//! What can be compared: the fields of an observation, by the names that they have in JSON.

use std::{fmt, net::IpAddr};

use agent_ebpf::contract::event::EventKind;

use crate::{
    identity::peers::Peer,
    observation::{Call, Detail, Exit, Observation, Oom, Process, Tcp},
};

/// A field and its type; two are equal if their names are.
pub struct Field {
    pub name: &'static str,
    pub kind: Type,
    pub doc: &'static str,
    /// Kinds of events that can have it; empty for all.
    pub of: &'static [EventKind],
    read: for<'o> fn(&'o Observation) -> Option<Value<'o>>,
}

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    /// Kinds of events.
    Kind,
    Number,
    /// In seconds, as in JSON.
    Duration,
    Bytes,
    Errno,
    /// Names of system calls.
    Syscall,
    Signal,
    Address,
    Flag,
}

impl Type {
    /// The type with an example, for errors and documentation.
    pub fn article(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Kind => "a kind of event, such as tcp.connect, or a sensor, such as tcp",
            Self::Number => "a whole number",
            Self::Duration => "a duration, such as 100ms",
            Self::Bytes => "a size, such as 64MiB",
            Self::Errno => "an error, such as ECONNREFUSED",
            Self::Syscall => "the name of a system call, such as openat; `syscall` alone means any",
            Self::Signal => "a signal, such as SIGKILL",
            Self::Address => "an address or a network, such as 10.0.0.0/8",
            Self::Flag => "true or false",
        }
    }
}

/// A field's value in one event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'o> {
    Text(&'o str),
    /// Reads as `namespace/name`.
    Named(&'o Peer),
    Kind(EventKind),
    Number(i64),
    Seconds(f64),
    Address(IpAddr),
    Flag(bool),
}

impl Value<'_> {
    /// Text that is empty says that there is nothing.
    pub(super) fn is_something(self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Flag(flag) => flag,
            _ => true,
        }
    }
}

const TCP: &[EventKind] = &[EventKind::TcpConnect, EventKind::TcpAccept, EventKind::TcpClose];
const CLOSE: &[EventKind] = &[EventKind::TcpClose];
const CALL: &[EventKind] = &[EventKind::SyscallSlow, EventKind::SyscallFailed, EventKind::SyscallCall];
const TCP_OR_CALL: &[EventKind] = &[
    EventKind::TcpConnect,
    EventKind::TcpAccept,
    EventKind::TcpClose,
    EventKind::SyscallSlow,
    EventKind::SyscallFailed,
    EventKind::SyscallCall,
];
const TIMED: &[EventKind] = &[
    EventKind::TcpConnect,
    EventKind::TcpAccept,
    EventKind::TcpClose,
    EventKind::ProcessExit,
    EventKind::SyscallSlow,
    EventKind::SyscallFailed,
    EventKind::SyscallCall,
];
const ENDED: &[EventKind] =
    &[EventKind::TcpConnect, EventKind::TcpAccept, EventKind::TcpClose, EventKind::ProcessExit];
const OOM: &[EventKind] = &[EventKind::OomKill];
const EXIT: &[EventKind] = &[EventKind::ProcessExit];
const EXEC: &[EventKind] = &[EventKind::ProcessExec];
const BORN: &[EventKind] = &[EventKind::ProcessExec, EventKind::ProcessExit];
const CGROUP: &[EventKind] = &[EventKind::CgroupMkdir, EventKind::CgroupRmdir];
const ALL: &[EventKind] = &[];

/// Every field, those of all events first.
pub static FIELDS: [Field; 46] = [
    field("kind", Type::Kind, ALL, "what happened", |of| Some(Value::Kind(of.kind))),
    field("namespace", Type::Text, ALL, "Kubernetes namespace", |of| text(&of.labels.namespace)),
    field("workload_kind", Type::Text, ALL, "Deployment, systemd, cgroup, …", |of| {
        text(&of.labels.workload_kind)
    }),
    field("workload", Type::Text, ALL, "name of the workload", |of| text(&of.labels.workload)),
    field("pod", Type::Text, ALL, "name of the pod", |of| text(&of.labels.pod)),
    field("container", Type::Text, ALL, "name of the container", |of| text(&of.labels.container)),
    field("pid", Type::Number, ALL, "process, as the host counts", |of| process(of, |of| of.pid)),
    field("tid", Type::Number, ALL, "thread, as the host counts", |of| process(of, |of| of.tid)),
    field("comm", Type::Text, ALL, "name of the task", |of| text(&of.process.as_ref()?.comm)),
    field("errno", Type::Errno, TCP_OR_CALL, "the kernel's error", |of| match &of.detail {
        Detail::Tcp(tcp) => Some(Value::Text(tcp.errno?)),
        Detail::Call(call) => text(call.errno.as_deref()?),
        _ => None,
    }),
    field(
        "duration",
        Type::Duration,
        TIMED,
        "of the attempt, the connection, the process, the call",
        duration,
    ),
    field("syscall", Type::Syscall, CALL, "name of the system call", |of| text(&call(of)?.syscall)),
    field("result", Type::Number, CALL, "what it returned, if it didn't fail", |of| {
        number(call(of)?.result?)
    }),
    field("file", Type::Text, CALL, "what its file descriptor stood for", |of| {
        text(call(of)?.file.as_deref()?)
    }),
    field("protocol", Type::Text, CALL, "of its socket: tcp, udp, unix, …", |of| text(call(of)?.protocol?)),
    field("reason", Type::Text, ENDED, "why it failed or ended", |of| match &of.detail {
        Detail::Tcp(tcp) => Some(Value::Text(tcp.reason?)),
        Detail::Exit(exit) => Some(Value::Text(exit.reason)),
        Detail::Oom(_) | Detail::Exec(_) | Detail::Cgroup(_) | Detail::Call(_) => None,
    }),
    field("side", Type::Text, TCP, "client or server", |of| Some(Value::Text(tcp(of)?.side?))),
    field("peer", Type::Text, TCP, "the other end: a name, or namespace/name", |of| {
        let peer = tcp(of)?.peer.as_deref()?;
        Some(if peer.namespace.is_empty() { Value::Text(&peer.workload) } else { Value::Named(peer) })
    }),
    field("peer_namespace", Type::Text, TCP, "namespace of the other end", |of| {
        text(&tcp(of)?.peer.as_ref()?.namespace)
    }),
    field("peer_workload", Type::Text, TCP, "name of the other end", |of| {
        text(&tcp(of)?.peer.as_ref()?.workload)
    }),
    field("local_address", Type::Address, TCP, "address of this end", |of| {
        Some(Value::Address(tcp(of)?.local_address))
    }),
    field("local_port", Type::Number, TCP_OR_CALL, "port of this end", |of| match &of.detail {
        Detail::Call(call) => number(call.local_port?),
        _ => number(tcp(of)?.local_port),
    }),
    field("remote_address", Type::Address, TCP_OR_CALL, "address of the other end", |of| match &of.detail {
        Detail::Call(call) => Some(Value::Address(call.remote_address?)),
        _ => Some(Value::Address(tcp(of)?.remote_address)),
    }),
    field("remote_port", Type::Number, TCP_OR_CALL, "port of the other end", |of| match &of.detail {
        Detail::Call(call) => number(call.remote_port?),
        _ => number(tcp(of)?.remote_port),
    }),
    field("netns", Type::Number, TCP, "network namespace", |of| number(tcp(of)?.netns)),
    field("sent_bytes", Type::Bytes, CLOSE, "data sent until the close", |of| {
        bytes(tcp(of)?.traffic?.sent_bytes)
    }),
    field("received_bytes", Type::Bytes, CLOSE, "data received until the close", |of| {
        bytes(tcp(of)?.traffic?.received_bytes)
    }),
    field("retransmits", Type::Number, CLOSE, "segments that were sent once more", |of| {
        number(tcp(of)?.traffic?.retransmits)
    }),
    field("rtt", Type::Duration, CLOSE, "smoothed round-trip time", |of| {
        Some(Value::Seconds(tcp(of)?.traffic?.rtt?))
    }),
    field("executable", Type::Text, EXEC, "path of the program", |of| match &of.detail {
        Detail::Exec(exec) => text(&exec.executable),
        _ => None,
    }),
    field("ppid", Type::Number, BORN, "the parent process", |of| match &of.detail {
        Detail::Exec(exec) => number(exec.ppid),
        Detail::Exit(exit) => number(exit.ppid),
        _ => None,
    }),
    field("exit_code", Type::Number, EXIT, "what the process returned", |of| number(exit(of)?.exit_code?)),
    field("signal", Type::Signal, EXIT, "what killed the process", |of| number(exit(of)?.signal?)),
    field("core_dumped", Type::Flag, EXIT, "whether it left a core", |of| {
        Some(Value::Flag(exit(of)?.core_dumped))
    }),
    field("scope", Type::Text, OOM, "whose memory was short", |of| Some(Value::Text(oom(of)?.scope))),
    field("trigger_pid", Type::Number, OOM, "who asked for memory", |of| number(oom(of)?.trigger_pid)),
    field("trigger_tid", Type::Number, OOM, "its thread", |of| number(oom(of)?.trigger_tid)),
    field("trigger_comm", Type::Text, OOM, "its name", |of| text(&oom(of)?.trigger_comm)),
    field("anon_rss_bytes", Type::Bytes, OOM, "memory of the victim", |of| bytes(oom(of)?.anon_rss_bytes)),
    field("file_rss_bytes", Type::Bytes, OOM, "its files in memory", |of| bytes(oom(of)?.file_rss_bytes)),
    field("shmem_rss_bytes", Type::Bytes, OOM, "its shared memory", |of| bytes(oom(of)?.shmem_rss_bytes)),
    field("total_vm_bytes", Type::Bytes, OOM, "its address space", |of| bytes(oom(of)?.total_vm_bytes)),
    field("pgtables_bytes", Type::Bytes, OOM, "its page tables", |of| bytes(oom(of)?.pgtables_bytes)),
    field("uid", Type::Number, OOM, "its user", |of| number(oom(of)?.uid)),
    field("oom_score_adj", Type::Number, OOM, "its adjustment", |of| number(oom(of)?.oom_score_adj)),
    field("cgroup", Type::Text, CGROUP, "path of the control group", |of| match &of.detail {
        Detail::Cgroup(cgroup) => text(&cgroup.cgroup),
        _ => None,
    }),
];

const fn field(
    name: &'static str,
    kind: Type,
    of: &'static [EventKind],
    doc: &'static str,
    read: for<'o> fn(&'o Observation) -> Option<Value<'o>>,
) -> Field {
    Field { name, kind, doc, of, read }
}

impl Field {
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// Whether events of this kind can have the field.
    pub fn is_of(&self, kind: EventKind) -> bool {
        self.of.is_empty() || self.of.contains(&kind)
    }

    pub(super) fn read<'o>(&self, observation: &'o Observation) -> Option<Value<'o>> {
        (self.read)(observation)
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What `kind` can be compared with: each kind, and each sensor for all its kinds.
pub fn kind_names() -> impl Iterator<Item = &'static str> {
    let sensors = EventKind::ALL.into_iter().enumerate().filter_map(|(at, kind)| {
        let is_first = EventKind::ALL[..at].iter().all(|other| sensor(*other) != sensor(kind));
        is_first.then(|| sensor(kind))
    });
    sensors.chain(EventKind::ALL.into_iter().map(EventKind::name))
}

/// `tcp` of `tcp.connect`.
pub(super) fn sensor(kind: EventKind) -> &'static str {
    let name = kind.name();
    name.split_once('.').map_or(name, |(sensor, _)| sensor)
}

fn text(text: &str) -> Option<Value<'_>> {
    Some(Value::Text(text))
}

fn number<'o>(number: impl Into<i64>) -> Option<Value<'o>> {
    Some(Value::Number(number.into()))
}

fn bytes<'o>(bytes: u64) -> Option<Value<'o>> {
    Some(Value::Number(i64::try_from(bytes).unwrap_or(i64::MAX)))
}

fn process(of: &Observation, read: fn(&Process) -> u32) -> Option<Value<'_>> {
    number(read(of.process.as_ref()?))
}

fn duration(of: &Observation) -> Option<Value<'_>> {
    match &of.detail {
        Detail::Tcp(tcp) => Some(Value::Seconds(tcp.duration?)),
        Detail::Exit(exit) => Some(Value::Seconds(exit.duration)),
        Detail::Call(call) => Some(Value::Seconds(call.duration?)),
        Detail::Oom(_) | Detail::Exec(_) | Detail::Cgroup(_) => None,
    }
}

fn tcp(of: &Observation) -> Option<&Tcp> {
    match &of.detail {
        Detail::Tcp(tcp) => Some(tcp),
        _ => None,
    }
}

fn call(of: &Observation) -> Option<&Call> {
    match &of.detail {
        Detail::Call(call) => Some(call),
        _ => None,
    }
}

fn oom(of: &Observation) -> Option<&Oom> {
    match &of.detail {
        Detail::Oom(oom) => Some(oom),
        _ => None,
    }
}

fn exit(of: &Observation) -> Option<&Exit> {
    match &of.detail {
        Detail::Exit(exit) => Some(exit),
        _ => None,
    }
}
