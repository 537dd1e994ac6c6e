//! What became of each event, counted in the kernel where it happens.

/// Sensors by number: the index of their counters and the bit that tells them apart.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SensorId {
    Syscalls = 0,
    Tcp = 1,
    Oom = 2,
    Process = 3,
    Cgroup = 4,
    IoUring = 5,
    Calls = 6,
}

impl SensorId {
    pub const ALL: [Self; 7] =
        [Self::Syscalls, Self::Tcp, Self::Oom, Self::Process, Self::Cgroup, Self::IoUring, Self::Calls];

    /// The sensor's one name: of its files, its metrics label and its configuration section.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syscalls => "syscalls",
            Self::Tcp => "tcp",
            Self::Oom => "oom",
            Self::Process => "process",
            Self::Cgroup => "cgroup",
            Self::IoUring => "io_uring",
            Self::Calls => "calls",
        }
    }
}

/// Cells per CPU in the `STATS` array; a power of two with room for more sensors.
pub const SENSORS_MAX: u32 = 8;

/// One sensor's counters on one CPU, a cache line of its own. `seen = delivered + filtered + throttled + lost`
/// holds at rest, where `delivered` is what user space took out of the rings.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct SensorStats {
    /// Things that happened, before any decision about them.
    pub seen: u64,
    /// Not wanted: the agent's own.
    pub filtered: u64,
    /// Refused by the token bucket of the container.
    pub throttled: u64,
    /// No room in the ring buffer.
    pub lost: u64,
    /// No room in a table of unfinished things, so that a later record lacks its beginning (its duration).
    pub untracked: u64,
    /// Runs refused to the sensor's first program on a hook, and made by the second.
    pub nested: u64,
    pub reserved: [u64; 2],
}

const _: () = assert!(size_of::<SensorStats>() == 64);
