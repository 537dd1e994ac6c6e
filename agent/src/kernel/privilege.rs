//! Capabilities: what the agent may do, and what it keeps of that once its programs are attached.
//!
//! The kernel asks for capabilities when programs and maps are made (`bpf_prog_load`, `map_create`,
//! kernel/bpf/syscall.c) and when a classic tracepoint is opened (`perf_event_open`). Later the agent has file
//! descriptors, and those suffice, but for one thing: before 6.0, and where unprivileged users may not use bpf(2) at
//! all, each call of bpf(2) needs `CAP_BPF`, also one that only reads a map by its descriptor. Whether this kernel
//! is such a one is tried out, for distributions carry the change back.

use std::{
    fmt, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

/// A set of capabilities, one bit for each by its number (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

const NAMES: [(u32, &str); 5] = [
    (1, "CAP_DAC_OVERRIDE"),
    (21, "CAP_SYS_ADMIN"),
    (24, "CAP_SYS_RESOURCE"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

impl Capabilities {
    pub const NONE: Self = Self(0);
    pub const DAC_OVERRIDE: Self = Self(1 << 1);
    pub const SYS_ADMIN: Self = Self(1 << 21);
    pub const SYS_RESOURCE: Self = Self(1 << 24);
    pub const PERFMON: Self = Self(1 << 38);
    pub const BPF: Self = Self(1 << 39);

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are in both.
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Of the calling thread, those that count now. None where they can't be read.
    pub fn effective() -> Self {
        capabilities().map_or(Self::NONE, |sets| sets.effective)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let numbers = (0..u64::BITS).filter(|number| self.0 >> number & 1 == 1);
        for (i, number) in numbers.enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match NAMES.iter().find(|(known, _)| *known == number) {
                Some((_, name)) => write!(f, "{comma}{name}")?,
                None => write!(f, "{comma}{number}")?,
            }
        }
        Ok(())
    }
}

/// What the agent needs for as long as it runs, beyond what the kernel demands of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Sockets below `/run/user` are asked, which lie in directories that nobody else may enter.
    pub user_engines: bool,
    /// Classic tracepoints are in use, and may be hung back after a while without them.
    pub classic: bool,
}

/// What each thread keeps when it settles down.
#[derive(Clone, Copy, Debug)]
pub struct Privilege {
    kept: Capabilities,
    /// Not in force, but for [`with_reserve`].
    reserve: Capabilities,
}

impl Privilege {
    /// Decides what is kept, and makes sure that nothing can be gained any more. Call it before there are threads.
    pub fn foresee(needs: Needs) -> Self {
        // SAFETY: takes plain numbers. A kernel that refuses leaves everything as it is.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let had = Capabilities::effective();
        let mut kept = Capabilities::NONE;
        if needs.user_engines {
            kept = kept.with(had.common(Capabilities::DAC_OVERRIDE));
        }
        if !maps_are_read_without_capabilities(had) {
            let bpf = had.common(Capabilities::BPF);
            kept =
                kept.with(if bpf == Capabilities::NONE { had.common(Capabilities::SYS_ADMIN) } else { bpf });
        }
        let reserve = if needs.classic { opens_tracepoints(had) } else { Capabilities::NONE };
        Self { kept, reserve }
    }

    /// What is in force after [`Self::settle`].
    pub fn kept(self) -> Capabilities {
        self.kept
    }

    /// What can be brought into force for a moment.
    pub fn reserve(self) -> Capabilities {
        self.reserve
    }

    /// Gives up everything else, for the calling thread and those that it starts from now on.
    ///
    /// # Errors
    ///
    /// That of capset(2), which a seccomp profile may forbid.
    pub fn settle(self) -> io::Result<()> {
        // SAFETY: takes plain numbers. Without ambient capabilities, or on a refusal, there is nothing to clear.
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
        let permitted = self.kept.with(self.reserve);
        set_capabilities(Sets { effective: self.kept, permitted, inheritable: Capabilities::NONE })
    }
}

/// Does something with all that this thread may have. Where it can't be told what that is, the kernel will say what
/// lacks.
pub(super) fn with_reserve<T>(action: impl FnOnce() -> T) -> T {
    let Ok(sets) = capabilities() else { return action() };
    let _ = set_capabilities(Sets { effective: sets.permitted, ..sets });
    let result = action();
    let _ = set_capabilities(sets);
    result
}

/// What of these it takes to open a classic tracepoint. Some distributions' kernels keep all perf events to
/// `CAP_SYS_ADMIN` where `kernel.perf_event_paranoid` is above 2, which is tried out with an event that needs nothing else.
fn opens_tracepoints(had: Capabilities) -> Capabilities {
    let (perfmon, admin) = (had.common(Capabilities::PERFMON), had.common(Capabilities::SYS_ADMIN));
    if perfmon == Capabilities::NONE {
        return admin;
    }
    let Ok(sets) = capabilities() else { return perfmon };
    if set_capabilities(Sets { effective: perfmon, ..sets }).is_err() {
        return perfmon;
    }
    let opened = perf::open();
    let _ = set_capabilities(sets);
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => perfmon.with(admin),
        _ => perfmon,
    }
}

/// Makes a map of one entry and reads it as the agent will: by its descriptor, without a capability. Where that can't be
/// tried, the answer is no.
fn maps_are_read_without_capabilities(had: Capabilities) -> bool {
    let Ok(sets) = capabilities() else { return false };
    let Ok(map) = bpf::tiny_map() else { return false };
    let without = had.without(Capabilities::BPF.with(Capabilities::SYS_ADMIN));
    if set_capabilities(Sets { effective: without, ..sets }).is_err() {
        return false;
    }
    let read = bpf::read(map.as_raw_fd());
    set_capabilities(sets).is_ok() && read.is_ok()
}

/// Why this process can't make a map, if it can't.
///
/// # Errors
///
/// That of bpf(2).
pub fn can_make_maps() -> io::Result<()> {
    bpf::tiny_map().map(drop)
}

/// Whether a filter of system calls is in force for this thread.
pub fn is_filtered() -> bool {
    // SAFETY: takes plain numbers. 2 is SECCOMP_MODE_FILTER; where asking is forbidden, something filters.
    !matches!(unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) }, 0)
}

#[derive(Clone, Copy, Debug)]
struct Sets {
    effective: Capabilities,
    permitted: Capabilities,
    inheritable: Capabilities,
}

#[repr(C)]
struct UserHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct UserData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`; its sets come in two halves.
const THIS_THREAD: UserHeader = UserHeader { version: 0x2008_0522, pid: 0 };

fn capabilities() -> io::Result<Sets> {
    let (mut header, mut data) = (THIS_THREAD, [UserData::default(); 2]);
    // SAFETY: the version says that two halves are written, for which there is room.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let join = |half: fn(&UserData) -> u32| {
        Capabilities(u64::from(half(&data[0])) | u64::from(half(&data[1])) << 32)
    };
    Ok(Sets {
        effective: join(|half| half.effective),
        permitted: join(|half| half.permitted),
        inheritable: join(|half| half.inheritable),
    })
}

fn set_capabilities(sets: Sets) -> io::Result<()> {
    let mut header = THIS_THREAD;
    let half = |shift: u32| UserData {
        effective: (sets.effective.0 >> shift) as u32,
        permitted: (sets.permitted.0 >> shift) as u32,
        inheritable: (sets.inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: the version says that two halves are read, and they are there.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A plain call of perf_event_open(2).
mod perf {
    use std::os::fd::FromRawFd as _;

    use super::{OwnedFd, io};

    const SOFTWARE: u32 = 1;
    const DUMMY: u64 = 9;
    const EXCLUDE_KERNEL: u64 = 1 << 5;

    /// `struct perf_event_attr` as it was at first (`PERF_ATTR_SIZE_VER0`).
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup_events: u32,
        breakpoint_type: u32,
        config1: u64,
    }

    /// An event of this thread that counts nothing.
    pub(super) fn open() -> io::Result<OwnedFd> {
        let attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: DUMMY,
            flags: EXCLUDE_KERNEL,
            ..Attributes::default()
        };
        let (this_thread, any_cpu, no_group, no_flags) = (0, -1, -1, 0);
        // SAFETY: the attributes are as large as they say.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_cpu,
                no_group,
                no_flags,
            )
        };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just made it, for nobody else.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Two plain calls of bpf(2): nothing of what aya would do around them is wanted here.
mod bpf {
    use std::os::fd::FromRawFd as _;

    use super::{OwnedFd, io};

    const MAP_CREATE: libc::c_int = 0;
    const MAP_LOOKUP_ELEM: libc::c_int = 1;
    const HASH: u32 = 1;

    /// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`.
    #[repr(C)]
    struct Create {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
    }

    /// The same for `BPF_MAP_LOOKUP_ELEM`.
    #[repr(C)]
    struct Lookup {
        map: u32,
        key: u64,
        value: u64,
    }

    pub(super) fn tiny_map() -> io::Result<OwnedFd> {
        let create = Create { kind: HASH, key_size: 8, value_size: 8, max_entries: 1, flags: 0 };
        // SAFETY: the structure is as large as is said; the kernel takes the rest for zero.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, &raw const create, size_of::<Create>()) };
        match i32::try_from(fd) {
            // SAFETY: a descriptor that was just made for us.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The map is empty: that a key isn't there is an answer, too.
    pub(super) fn read(map: i32) -> io::Result<()> {
        let (key, mut value) = (0u64, 0u64);
        let lookup =
            Lookup { map: map.cast_unsigned(), key: (&raw const key) as u64, value: (&raw mut value) as u64 };
        // SAFETY: key and value are as large as the map says, and live until the call returns.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_ELEM, &raw const lookup, size_of::<Lookup>()) };
        let error = io::Error::last_os_error();
        if result == 0 || error.raw_os_error() == Some(libc::ENOENT) { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named() {
        assert_eq!(Capabilities::NONE.to_string(), "none");
        let both = Capabilities::BPF.with(Capabilities::PERFMON);
        assert_eq!(both.to_string(), "CAP_PERFMON, CAP_BPF");
        assert_eq!(both.with(Capabilities(1 << 12)).to_string(), "12, CAP_PERFMON, CAP_BPF");
        assert!(both.has(Capabilities::BPF) && !Capabilities::BPF.has(both));
        assert_eq!(both.without(Capabilities::PERFMON).common(both), Capabilities::BPF);
    }

    /// Capabilities belong to a thread: this one gives up all it has, whether or not the tests run as root.
    #[test]
    fn a_thread_that_settles_down_keeps_what_was_foreseen() {
        let settled = std::thread::spawn(|| {
            Privilege { kept: Capabilities::NONE, reserve: Capabilities::NONE }.settle().unwrap();
            with_reserve(|| assert_eq!(Capabilities::effective(), Capabilities::NONE));
            let own = Capabilities::effective();
            (own, std::thread::spawn(Capabilities::effective).join().unwrap())
        });
        assert_eq!(settled.join().unwrap(), (Capabilities::NONE, Capabilities::NONE));
    }

    /// Without privileges there is nothing to hold in reserve.
    #[test]
    fn what_is_in_reserve_is_in_force_for_a_moment_only() {
        std::thread::spawn(|| {
            let reserve = Capabilities::effective().common(Capabilities::PERFMON);
            Privilege { kept: Capabilities::NONE, reserve }.settle().unwrap();
            assert_eq!(Capabilities::effective(), Capabilities::NONE);
            assert_eq!(with_reserve(Capabilities::effective), reserve);
            assert_eq!(Capabilities::effective(), Capabilities::NONE);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_is_tried_out_leaves_the_thread_as_it_was() {
        let before = Capabilities::effective();
        maps_are_read_without_capabilities(before);
        let opens = opens_tracepoints(before);
        assert!(before.has(opens) && !opens.has(Capabilities::BPF));
        assert_eq!(Capabilities::effective(), before);
    }
}
