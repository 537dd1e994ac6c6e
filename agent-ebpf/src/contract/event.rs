//! What every record in a ring buffer begins with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::COMM_LEN;

/// The first bytes of every event record; `kind` says what follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// Nanoseconds of `CLOCK_BOOTTIME` when the hook ran.
    pub time_ns: u64,
    /// Id of the cgroup (v2 hierarchy) that the event belongs to: the kernfs node id of its directory.
    pub cgroup_id: u64,
    /// Process id (thread group) in the initial pid namespace; 0 where no process can be named.
    pub pid: u32,
    /// Thread id in the initial pid namespace; 0 where no thread can be named.
    pub tid: u32,
    /// An [`EventKind`] as number.
    pub kind: u32,
    /// The CPU that the hook ran on.
    pub cpu: u32,
    /// Name of the task, NUL-padded. Workload-controlled: any byte may appear.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<Header>() == 48);

/// Kinds of event records. A number is never reused; leave a hole when a kind goes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    ProcessExec = 1,
    ProcessExit = 2,
    TcpConnect = 10,
    TcpAccept = 11,
    TcpClose = 12,
    OomKill = 20,
    CgroupMkdir = 30,
    CgroupRmdir = 31,
    SyscallSlow = 40,
    SyscallFailed = 41,
    SyscallCall = 42,
}

impl EventKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::ProcessExec,
        Self::ProcessExit,
        Self::TcpConnect,
        Self::TcpAccept,
        Self::TcpClose,
        Self::OomKill,
        Self::CgroupMkdir,
        Self::CgroupRmdir,
        Self::SyscallSlow,
        Self::SyscallFailed,
        Self::SyscallCall,
    ];

    /// The kind with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// The name users see and filter by, `topic.what`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessExec => "process.exec",
            Self::ProcessExit => "process.exit",
            Self::TcpConnect => "tcp.connect",
            Self::TcpAccept => "tcp.accept",
            Self::TcpClose => "tcp.close",
            Self::OomKill => "oom.kill",
            Self::CgroupMkdir => "cgroup.mkdir",
            Self::CgroupRmdir => "cgroup.rmdir",
            Self::SyscallSlow => "syscall.slow",
            Self::SyscallFailed => "syscall.failed",
            Self::SyscallCall => "syscall.call",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EventKind;

    #[test]
    fn numbers_and_kinds_are_one_to_one() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_number(kind as u32), Some(kind));
        }
        assert_eq!(EventKind::from_number(0), None);
        assert_eq!(EventKind::from_number(u32::MAX), None);
    }
}
