//! Loading, attaching and watching programs.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsRawFd as _,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    BtfError, Ebpf, Endianness,
    programs::{
        Program, ProgramError, fentry::FEntryLinkId, raw_trace_point::RawTracePointLinkId,
        tp_btf::BtfTracePointLinkId, trace_point::TracePointLinkId,
    },
};

use super::{btf::Btf, object::Types, privilege::with_reserve};
use crate::{
    causes::with_causes,
    sensor::{Classic, Hook, Place, Raw, SENSORS},
};

/// A program that was loaded for its hook, and runs there unless nobody wants it at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Attached {
    pub hook: &'static Hook,
    pub program: &'static str,
    way: Way,
    fd: i32,
}

/// Which tracepoints system calls are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracepoints {
    Typed,
    Classic,
    Raw,
}

/// By which of its programs a hook is taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Typed,
    Classic(&'static Classic),
    Raw(&'static Raw),
}

impl Way {
    pub(super) fn of(hook: &'static Hook, tracepoints: Tracepoints, types: &Types) -> Self {
        match (&hook.raw, &hook.classic) {
            (Some(raw), _) if types.btf.is_err() => Self::Raw(raw),
            (Some(raw), Some(_)) if tracepoints == Tracepoints::Raw => Self::Raw(raw),
            (_, Some(classic)) if tracepoints == Tracepoints::Classic => Self::Classic(classic),
            _ => Self::Typed,
        }
    }

    pub(super) fn program(self, hook: &Hook) -> &'static str {
        match self {
            Self::Typed => hook.program,
            Self::Classic(classic) => classic.program,
            Self::Raw(raw) => raw.program,
        }
    }

    /// The hook's name, as users know it.
    pub(super) fn name(self, hook: &Hook) -> &'static str {
        match self {
            Self::Typed => hook.name,
            Self::Classic(classic) => classic.name,
            Self::Raw(raw) => raw.name,
        }
    }
}

/// What the kernel says of a program, from its `fdinfo` (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramStats {
    /// Runs and nanoseconds; both stay 0 unless `kernel.bpf_stats_enabled` is set.
    pub runs: u64,
    pub run_time_ns: u64,
    /// Runs that the kernel refused because the program was interrupted by itself on the same CPU.
    pub recursion_misses: u64,
}

impl Attached {
    /// The hook's name, as users know it.
    pub fn name(&self) -> &'static str {
        self.way.name(self.hook)
    }

    pub fn stats(&self) -> ProgramStats {
        fs::read_to_string(format!("/proc/self/fdinfo/{}", self.fd))
            .map(|text| ProgramStats::parse(&text))
            .unwrap_or_default()
    }
}

impl ProgramStats {
    pub(crate) fn parse(fdinfo: &str) -> Self {
        let mut stats = Self::default();
        for line in fdinfo.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim().parse().unwrap_or(0);
            match key {
                "run_cnt" => stats.runs = value,
                "run_time_ns" => stats.run_time_ns = value,
                "recursion_misses" => stats.recursion_misses = value,
                _ => {}
            }
        }
        stats
    }
}

/// What holds a program on its hook.
#[derive(Debug)]
pub(super) enum Link {
    Tracepoint(BtfTracePointLinkId),
    Classic(TracePointLinkId),
    Raw(RawTracePointLinkId),
    Function(FEntryLinkId),
}

/// Programs that were loaded and not yet attached, by name, or why they could not be; the text is for the user.
pub(super) type Loaded = BTreeMap<&'static str, Result<Attached, String>>;

/// A hook, and how it is to be taken.
type Wanted = (&'static Hook, Way);

/// Where the hooks are among the kernel's types.
pub(super) fn places(btf: &Btf) -> Result<aya::Btf, BtfError> {
    let named = |place| {
        let hooks = SENSORS.iter().flat_map(|sensor| sensor.hooks).filter(move |hook| hook.place == place);
        hooks.map(|hook| hook.name).collect::<Vec<_>>()
    };
    let bytes = btf.only(&named(Place::Tracepoint), &named(Place::Function));
    aya::Btf::parse(&bytes, Endianness::default())
}

/// Loads the programs of these hooks. The verifier takes most of the agent's start: it is given as much to do at a time
/// as there are CPUs.
pub(super) fn load_all(
    ebpf: &mut Ebpf,
    hooks: impl Iterator<Item = &'static Hook>,
    tracepoints: Tracepoints,
    types: &Types,
) -> Loaded {
    let wanted = hooks.map(|hook| (hook, Way::of(hook, tracepoints, types)));
    let wanted: BTreeMap<&str, Wanted> = wanted.map(|wanted| (name(wanted), wanted)).collect();
    let programs = ebpf.programs_mut().filter_map(|(name, program)| Some((*wanted.get(name)?, program)));
    let mut queue: Vec<(Wanted, &mut Program)> = programs.collect();
    // Those that take the longest come first, and hardly anybody waits for the last ones.
    queue.sort_by_key(|(wanted, _)| LONGEST.iter().rev().position(|long| *long == name(*wanted)));
    let workers = thread::available_parallelism().map_or(1, usize::from).min(queue.len());
    let (queue, loaded) = (Mutex::new(queue), Mutex::new(Loaded::new()));
    let work = || {
        // The queue is free again before the work begins.
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some((wanted, program)) = next() {
            let begun = std::time::Instant::now();
            let outcome = load(program, wanted, types);
            tracing::debug!(program = name(wanted), took = ?begun.elapsed(), "loaded");
            loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(name(wanted), outcome);
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            // Without one more thread it only takes longer.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    loaded.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What takes the verifier the longest.
const LONGEST: [&str; 6] = [
    "sys_exit",
    "sys_exit_classic",
    "inet_sock_set_state",
    "inet_sock_set_state_nested",
    "mark_victim",
    "sched_process_exit",
];

/// Loads one program.
pub(super) fn load_one(ebpf: &mut Ebpf, wanted: Wanted, types: &Types) -> Result<Attached, String> {
    load(program(ebpf, name(wanted))?, wanted, types)
}

fn name((hook, way): Wanted) -> &'static str {
    way.program(hook)
}

/// Loads a program, or says why the hook can't be used here.
fn load(program: &mut Program, wanted: Wanted, types: &Types) -> Result<Attached, String> {
    let (hook, way) = wanted;
    let typed = match (way, &types.btf, &types.places) {
        (Way::Typed, Ok(btf), Some(places)) => {
            check_prototype(hook, btf)?;
            Some(places)
        }
        (Way::Typed, Err(error), _) => return Err(error.to_string()),
        _ => None,
    };
    if let Some(error) = types.offsets.lacking(name(wanted)) {
        return Err(error.to_string());
    }
    let load = |program: &mut Program| {
        match (&mut *program, typed) {
            (Program::BtfTracePoint(program), Some(places)) => program.load(hook.name, places)?,
            (Program::FEntry(program), Some(places)) => program.load(hook.name, places)?,
            (Program::TracePoint(program), None) => program.load()?,
            (Program::RawTracePoint(program), None) => program.load()?,
            _ => return Err(ProgramError::UnexpectedProgramType),
        }
        program.fd().map(RawFd::as_fd_raw)
    };
    let fd = load(program).map_err(|error| refusal(&error))?;
    Ok(Attached { hook, program: name(wanted), way, fd })
}

/// Hangs a loaded program on its hook. Unlike loading it, this takes a fraction of a millisecond, and no capability
/// for a BTF-typed tracepoint.
pub(super) fn attach(ebpf: &mut Ebpf, attached: &Attached) -> Result<Link, String> {
    let attach = |program: &mut Program| match program {
        Program::BtfTracePoint(program) => program.attach().map(Link::Tracepoint),
        Program::TracePoint(program) => {
            let category = attached.hook.classic.as_ref().map_or("", |classic| classic.category);
            // perf_event_open(2) asks for CAP_PERFMON, or more.
            with_reserve(|| program.attach(category, attached.hook.name)).map(Link::Classic)
        }
        Program::RawTracePoint(program) => program.attach(attached.hook.name).map(Link::Raw),
        Program::FEntry(program) => program.attach().map(Link::Function),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    attach(program(ebpf, attached.program)?).map_err(|error| refusal(&error))
}

/// Takes a program from its hook; it stays loaded.
pub(super) fn detach(ebpf: &mut Ebpf, attached: &Attached, link: Link) {
    let _ = match (ebpf.program_mut(attached.program), link) {
        (Some(Program::BtfTracePoint(program)), Link::Tracepoint(link)) => program.detach(link),
        (Some(Program::TracePoint(program)), Link::Classic(link)) => program.detach(link),
        (Some(Program::RawTracePoint(program)), Link::Raw(link)) => program.detach(link),
        (Some(Program::FEntry(program)), Link::Function(link)) => program.detach(link),
        _ => Ok(()),
    };
}

/// Unloads a program, which takes it from its hook, too.
pub(super) fn unload(ebpf: &mut Ebpf, attached: &Attached) {
    let _ = match ebpf.program_mut(attached.program) {
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::TracePoint(program)) => program.unload(),
        Some(Program::RawTracePoint(program)) => program.unload(),
        Some(Program::FEntry(program)) => program.unload(),
        _ => Ok(()),
    };
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, String> {
    ebpf.program_mut(name).ok_or_else(|| format!("the kernel half has no program `{name}`"))
}

/// The arguments that the program will take pointers from must point to what it expects.
fn check_prototype(hook: &Hook, btf: &Btf) -> Result<(), String> {
    let arguments = match hook.place {
        Place::Tracepoint => btf.tracepoint(hook.name),
        Place::Function => btf.function(hook.name),
    };
    let arguments = arguments.map_err(|error| error.to_string())?;
    for (i, expected) in hook.arguments.iter().enumerate() {
        let Some(expected) = expected else { continue };
        let found = arguments.get(i).cloned().flatten();
        if found.as_deref() != Some(*expected) {
            let found = found.map_or("something else".to_owned(), |name| format!("a `{name}`"));
            return Err(format!("`{}` passes {found} as argument {i}, not a `{expected}`", hook.name));
        }
    }
    Ok(())
}

/// The error and, if the verifier refused the program, what it said last.
fn refusal(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            tracing::debug!("the verifier says:\n{log}");
            let last = log.lines().rev().find(|line| {
                !line.trim().is_empty()
                    && !line.starts_with("processed ")
                    && !line.starts_with("verification time")
                    && !line.starts_with("stack depth")
            });
            match last {
                Some(last) => format!("{io_error}: {last}"),
                None => io_error.to_string(),
            }
        }
        other => {
            let text = with_causes(other);
            match paranoia().filter(|_| text.contains("perf_event_open")) {
                Some(level) => format!(
                    "{text} (kernel.perf_event_paranoid is {level}: above 2 this kernel wants CAP_SYS_ADMIN)"
                ),
                None => text,
            }
        }
    }
}

/// The level, if it is one that only distributions have.
fn paranoia() -> Option<i32> {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?.trim().parse().ok()?;
    (level > 2).then_some(level)
}

trait RawFd {
    fn as_fd_raw(&self) -> i32;
}

impl RawFd for aya::programs::ProgramFd {
    fn as_fd_raw(&self) -> i32 {
        use std::os::fd::AsFd as _;
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::ProgramStats;

    #[test]
    fn fdinfo_is_read() {
        let text = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t12\nrun_cnt:\t3\nrecursion_misses:\t1\n";
        let stats = ProgramStats { runs: 3, run_time_ns: 12, recursion_misses: 1 };
        assert_eq!(ProgramStats::parse(text), stats);
        assert_eq!(ProgramStats::parse("nonsense"), ProgramStats::default());
    }
}
