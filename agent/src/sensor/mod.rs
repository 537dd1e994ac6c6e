//! The sensors, user-space side: which hooks each needs, how its records read, what it measures.

pub mod calls;
pub mod cgroup;
pub mod io_uring;
pub mod oom;
pub mod process;
pub mod syscalls;
pub mod tcp;

use std::{borrow::Cow, sync::Arc};

use agent_ebpf::contract::{
    event::{EventKind, Header},
    stats::SensorId,
};
use zerocopy::{FromBytes, Immutable, IntoBytes as _, KnownLayout, error::CastError};

use crate::{
    identity::peers::Peer,
    observation::{Detail, Process},
};

/// Every sensor there is, in the order in which they are started: identity before what needs it.
pub const SENSORS: &[Sensor] = &[
    cgroup::SENSOR,
    syscalls::SENSOR,
    io_uring::SENSOR,
    tcp::SENSOR,
    oom::SENSOR,
    process::SENSOR,
    calls::SENSOR,
];

/// A sensor and the hooks that it needs.
#[derive(Debug)]
pub struct Sensor {
    pub id: SensorId,
    /// In the order in which they are attached.
    pub hooks: &'static [Hook],
}

/// What a hook hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Tracepoint,
    /// The entry of a kernel function.
    Function,
}

/// A place in the kernel and the program on it.
#[derive(Debug)]
pub struct Hook {
    pub name: &'static str,
    /// Called like the hook, unless it is a second one there.
    pub program: &'static str,
    pub place: Place,
    /// What each argument must point to; `None` where the program takes a plain value, or nothing.
    pub arguments: &'static [Option<&'static str>],
    /// Without it, the sensor can't work at all.
    pub required: bool,
    /// What is missing without it; empty if that is not worth a word.
    pub lacking: &'static str,
    /// Whether it serves anything here.
    pub is_needed: fn(Circumstances) -> bool,
    /// What is attached instead where tasks can preempt this hook.
    pub classic: Option<Classic>,
    /// What is attached instead where the kernel shows no types.
    pub raw: Option<Raw>,
    /// Loaded at start, and attached only while somebody wants what it tells.
    pub on_demand: bool,
}

/// On what it depends whether a hook is needed: of the kernel, and of what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Some system calls are timed.
    pub timed: bool,
    /// The kernel hands out the registers of the current task.
    pub regs_tell: bool,
    /// The kernel shows its types.
    pub is_typed: bool,
    /// The kernel notes which memory cgroup is short (`mem_cgroup.oom_lock`).
    pub oom_lock_tells: bool,
    /// The kernel has `io_uring_submit_req`.
    pub has_submit_req: bool,
    /// The kernel has its forerunner `io_uring_submit_sqe`, which passes the request.
    pub submit_sqe_passes: bool,
}

/// A classic tracepoint and the program for it.
#[derive(Debug)]
pub struct Classic {
    pub category: &'static str,
    /// As users know it: category and name.
    pub name: &'static str,
    pub program: &'static str,
}

/// A raw tracepoint and the program for it.
#[derive(Debug)]
pub struct Raw {
    /// As users know it: what such programs are called in objects, and the tracepoint's name.
    pub name: &'static str,
    pub program: &'static str,
}

impl Hook {
    const fn required(name: &'static str, arguments: &'static [Option<&'static str>]) -> Self {
        Self {
            name,
            program: name,
            place: Place::Tracepoint,
            arguments,
            required: true,
            lacking: "",
            is_needed: |_| true,
            classic: None,
            raw: None,
            on_demand: false,
        }
    }

    /// Whether it stands in for another program on the hook, which the kernel doesn't run while it is interrupted.
    pub fn is_second(&self) -> bool {
        self.program != self.name && !self.on_demand
    }
}

/// How a sensor does on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Active {
        hooks: Vec<&'static str>,
    },
    /// It works, but something is missing.
    Degraded {
        hooks: Vec<&'static str>,
        reason: String,
    },
    /// This kernel lacks what it needs.
    Unsupported {
        reason: String,
    },
    /// Switched off by configuration.
    Disabled,
}

impl State {
    pub const NAMES: [&'static str; 4] = ["active", "degraded", "unsupported", "disabled"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Active { .. } => "active",
            Self::Degraded { .. } => "degraded",
            Self::Unsupported { .. } => "unsupported",
            Self::Disabled => "disabled",
        }
    }

    pub fn hooks(&self) -> &[&'static str] {
        match self {
            Self::Active { hooks } | Self::Degraded { hooks, .. } => hooks,
            Self::Unsupported { .. } | Self::Disabled => &[],
        }
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Degraded { reason, .. } | Self::Unsupported { reason } => reason,
            Self::Active { .. } | Self::Disabled => "",
        }
    }

    /// The same without something that it should have; a sensor that doesn't run lacks more than that.
    pub fn lacking(self, what: String) -> Self {
        match self {
            Self::Active { hooks } => Self::Degraded { hooks, reason: what },
            Self::Degraded { hooks, reason } => Self::Degraded { hooks, reason: format!("{reason}; {what}") },
            Self::Unsupported { .. } | Self::Disabled => self,
        }
    }
}

/// A record out of a ring buffer, where it lies there: read but not yet attributed.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    Tcp(EventKind, &'a tcp::TcpEvent),
    Oom(&'a oom::OomEvent),
    Exec(&'a process::ExecEvent),
    Exit(&'a process::ExitEvent),
    Cgroup(EventKind, &'a cgroup::CgroupEvent),
    Call(EventKind, &'a calls::CallEvent),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a record of {0} bytes is too short")]
    Truncated(usize),
    #[error("a record begins within a word")]
    Misaligned,
    #[error("a record of the unknown kind {0}")]
    UnknownKind(u32),
}

impl<'a> Record<'a> {
    /// Reads a record, which begins at a multiple of 8 bytes, as all do in a ring. Total: any bytes give a record or an
    /// error.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let kind = read::<Header>(bytes)?.kind;
        let kind = EventKind::from_number(kind).ok_or(DecodeError::UnknownKind(kind))?;
        Ok(match kind {
            EventKind::TcpConnect | EventKind::TcpAccept | EventKind::TcpClose => {
                Self::Tcp(kind, read(bytes)?)
            }
            EventKind::OomKill => Self::Oom(read(bytes)?),
            EventKind::ProcessExec => Self::Exec(read(bytes)?),
            EventKind::ProcessExit => Self::Exit(read(bytes)?),
            EventKind::CgroupMkdir | EventKind::CgroupRmdir => Self::Cgroup(kind, read(bytes)?),
            EventKind::SyscallSlow | EventKind::SyscallFailed | EventKind::SyscallCall => {
                Self::Call(kind, read(bytes)?)
            }
        })
    }

    pub fn header(self) -> &'a Header {
        match self {
            Self::Tcp(_, event) => &event.header,
            Self::Oom(event) => &event.header,
            Self::Exec(event) => &event.header,
            Self::Exit(event) => &event.header,
            Self::Cgroup(_, event) => &event.header,
            Self::Call(_, event) => &event.header,
        }
    }

    pub fn sensor(self) -> SensorId {
        match self {
            Self::Tcp(..) => SensorId::Tcp,
            Self::Oom(_) => SensorId::Oom,
            Self::Exec(_) | Self::Exit(_) => SensorId::Process,
            Self::Cgroup(..) => SensorId::Cgroup,
            Self::Call(..) => SensorId::Calls,
        }
    }

    pub fn kind(self) -> EventKind {
        match self {
            Self::Tcp(kind, _) | Self::Cgroup(kind, _) | Self::Call(kind, _) => kind,
            Self::Oom(_) => EventKind::OomKill,
            Self::Exec(_) => EventKind::ProcessExec,
            Self::Exit(_) => EventKind::ProcessExit,
        }
    }

    /// The task the record names, if it names one.
    pub fn process(self) -> Option<Process> {
        let Header { pid, tid, comm, .. } = *self.header();
        (pid != 0).then(|| Process { pid, tid, comm: text(&comm).into() })
    }

    /// What users see of it. What is told besides comes from those who know more than the record.
    pub fn detail(self, scope: &'static str, exit_reason: &'static str, peer: Option<Arc<Peer>>) -> Detail {
        match self {
            Self::Tcp(kind, event) => Detail::Tcp(tcp::detail(kind, event, peer)),
            Self::Oom(event) => Detail::Oom(oom::detail(event, scope)),
            Self::Exec(event) => Detail::Exec(process::exec_detail(event)),
            Self::Exit(event) => Detail::Exit(process::exit_detail(event, exit_reason)),
            Self::Cgroup(_, event) => Detail::Cgroup(cgroup::detail(event)),
            Self::Call(_, event) => Detail::Call(Box::new(calls::detail(event))),
        }
    }
}

fn read<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8]) -> Result<&T, DecodeError> {
    match T::ref_from_prefix(bytes) {
        Ok((value, _)) => Ok(value),
        Err(CastError::Alignment(_)) => Err(DecodeError::Misaligned),
        Err(CastError::Size(_)) => Err(DecodeError::Truncated(bytes.len())),
    }
}

/// The bytes of a record, kept for when its place in the ring is given back.
#[derive(Clone, Debug)]
pub struct Kept {
    words: Box<[u64]>,
    length: usize,
}

impl Kept {
    pub fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0; bytes.len().div_ceil(size_of::<u64>())];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self { words: words.into(), length: bytes.len() }
    }

    /// # Errors
    ///
    /// Those of [`Record::decode`].
    pub fn record(&self) -> Result<Record<'_>, DecodeError> {
        Record::decode(&self.words.as_bytes()[..self.length])
    }
}

/// Text up to the first NUL; bytes that are not UTF-8 are replaced.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len])
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes as _;

    use super::*;

    #[test]
    fn records_of_any_bytes_are_read_or_refused() {
        let mut seed = 7u64;
        let mut bytes = [0u8; 800];
        for round in 0..20_000usize {
            for byte in &mut bytes {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (seed >> 33) as u8;
            }
            // Half of them with a kind that exists.
            if round % 2 == 0 {
                let kind = EventKind::ALL[round / 2 % EventKind::ALL.len()] as u32;
                bytes[32..36].copy_from_slice(&kind.to_ne_bytes());
            }
            if let Ok(record) = Kept::new(&bytes[..round % bytes.len()]).record() {
                let _ = (record.process(), record.detail("unknown", "error", None), record.sensor());
            }
        }
    }

    #[test]
    fn a_truncated_record_is_refused() {
        let mut event = oom::tests::event();
        event.header.kind = EventKind::OomKill as u32;
        let bytes = event.as_bytes();
        assert!(Record::decode(bytes).is_ok());
        assert!(matches!(Record::decode(&bytes[..bytes.len() - 1]), Err(DecodeError::Truncated(135))));
        assert!(matches!(Record::decode(&bytes[..10]), Err(DecodeError::Truncated(10))));
        let moved = [&[0], bytes].concat();
        let at_word = moved.as_ptr().align_offset(align_of::<u64>());
        assert!(matches!(Record::decode(&moved[usize::from(at_word == 0)..]), Err(DecodeError::Misaligned)));
    }

    #[test]
    fn every_sensor_stands_in_the_table_once() {
        for id in SensorId::ALL {
            assert_eq!(SENSORS.iter().filter(|sensor| sensor.id == id).count(), 1, "{id:?}");
        }
    }
}
