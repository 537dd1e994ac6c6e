//! How often a thread of the agent asks for memory: counted by the kernel, at the doors of the C library. What is shipped
//! has that inside, and no names of functions left: the same agent is built with a library beside it.

use std::{
    env,
    ffi::CString,
    fs, io,
    mem::offset_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

use crate::agent;

/// What Rust's allocator calls. `free` is none of them: memory that is given back was taken before.
const DOORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// The first part of `struct perf_event_attr` (include/uapi/linux/perf_event.h), as long as in its seventh version.
#[repr(C)]
#[derive(Default)]
struct Event {
    kind: u32,
    size: u32,
    config: u64,
    sampling: [u64; 3],
    flags: u64,
    wakeups: u32,
    breakpoint: u32,
    path: u64,
    offset: u64,
    rest: [u64; 7],
}

const _: () = assert!(size_of::<Event>() == 128 && offset_of!(Event, path) == 56);

/// Probes on the doors, which count for one thread.
pub struct Allocations(Vec<OwnedFd>);

impl Allocations {
    pub fn of(pid: u32, thread: &str) -> Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mut files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let library = files.find(|path| path.contains("/libc.so")).context("it has its C library inside")?;
        let kind = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type");
        let kind = kind.context("this kernel has no uprobes")?.trim().parse()?;
        let tid = tid(pid, thread)?;
        let bytes = fs::read(library)?;
        let library = CString::new(library)?;
        let file = object::File::parse(&*bytes)?;
        let probes = DOORS.map(|door| {
            let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(door)).context(door)?;
            let segment = file.segments().find(|segment| {
                (segment.address()..segment.address() + segment.size()).contains(&symbol.address())
            });
            let segment = segment.context("a symbol outside of all segments")?;
            let offset = symbol.address() - segment.address() + segment.file_range().0;
            let event = Event {
                kind,
                size: size_of::<Event>() as u32,
                path: library.as_ptr() as u64,
                offset,
                ..Event::default()
            };
            open(&event, tid).with_context(|| format!("probe {door} in {library:?}"))
        });
        probes.into_iter().collect::<Result<_>>().map(Self)
    }

    /// So far.
    pub fn count(&self) -> u64 {
        let count = |probe: &OwnedFd| {
            let mut count = 0_u64;
            // SAFETY: the kernel writes eight bytes into our number.
            let read = unsafe { libc::read(probe.as_raw_fd(), (&raw mut count).cast(), size_of_val(&count)) };
            assert_eq!(read, 8, "{}", io::Error::last_os_error());
            count
        };
        self.0.iter().map(count).sum()
    }
}

/// An agent that can be probed: the one under test if it takes its C library from outside, else one that is built here,
/// from the same source.
pub fn binary() -> Result<PathBuf> {
    let tested = agent::binary();
    let bytes = fs::read(&tested)?;
    let imports = object::File::parse(&*bytes)?.imports()?;
    if imports.iter().any(|import| import.name() == DOORS[0].as_bytes()) {
        return Ok(tested);
    }
    // Not by `cargo build`: some dependencies are compiled anew where cargo runs with other variables than there.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["xtask", "build"]).current_dir(&workspace).status()?;
    ensure!(built.success(), "cargo xtask build: {built}");
    Ok(agent::built("debug"))
}

fn tid(pid: u32, thread: &str) -> Result<i32> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim() == thread {
            return task.file_name().to_string_lossy().parse().context("a thread's number");
        }
    }
    bail!("process {pid} has no thread {thread}")
}

fn open(event: &Event, tid: i32) -> io::Result<OwnedFd> {
    const PERF_FLAG_FD_CLOEXEC: u64 = 8;
    // SAFETY: the event and the path that it points to live through the call; its size stands in it.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, std::ptr::from_ref(event), tid, -1, -1, PERF_FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
