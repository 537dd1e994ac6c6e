//! Loading, attaching and watching programs.

use std::{fs, os::fd::AsRawFd as _};

use aya::{
    Ebpf,
    programs::{
        BtfTracePoint, FEntry, Program, ProgramError, TracePoint, fentry::FEntryLinkId,
        tp_btf::BtfTracePointLinkId, trace_point::TracePointLinkId,
    },
};

use super::{btf::Btf, object::Types, privilege::with_reserve};
use crate::sensor::{Classic, Hook, Place};

/// A program that was loaded for its hook, and runs there unless nobody wants it at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Attached {
    pub hook: &'static Hook,
    pub program: &'static str,
    fd: i32,
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
        match &self.hook.classic {
            Some(classic) if classic.program == self.program => classic.name,
            _ => self.hook.name,
        }
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
    Function(FEntryLinkId),
}

/// Loads the program of a hook, or says why the hook can't be used here; the text is for the user.
pub(super) fn load(ebpf: &mut Ebpf, hook: &'static Hook, types: &Types) -> Result<Attached, String> {
    check_prototype(hook, &types.btf)?;
    if let Some(error) = types.offsets.lacking(hook.program) {
        return Err(error.to_string());
    }
    let load = |program: &mut Program| {
        match hook.place {
            Place::Tracepoint => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(hook.name, &types.system)?;
            }
            Place::Function => {
                let program: &mut FEntry = program.try_into()?;
                program.load(hook.name, &types.system)?;
            }
        }
        program.fd().map(RawFd::as_fd_raw)
    };
    let fd = load(program(ebpf, hook.program)?).map_err(|error| refusal(&error))?;
    Ok(Attached { hook, program: hook.program, fd })
}

/// The same for the classic tracepoint.
pub(super) fn load_classic(
    ebpf: &mut Ebpf,
    hook: &'static Hook,
    classic: &'static Classic,
    types: &Types,
) -> Result<Attached, String> {
    if let Some(error) = types.offsets.lacking(classic.program) {
        return Err(error.to_string());
    }
    let load = |program: &mut Program| {
        let program: &mut TracePoint = program.try_into()?;
        program.load()?;
        program.fd().map(RawFd::as_fd_raw)
    };
    let fd = load(program(ebpf, classic.program)?).map_err(|error| refusal(&error))?;
    Ok(Attached { hook, program: classic.program, fd })
}

/// Hangs a loaded program on its hook. Unlike loading it, this takes a fraction of a millisecond, and no capability
/// for a BTF-typed tracepoint.
pub(super) fn attach(ebpf: &mut Ebpf, attached: &Attached) -> Result<Link, String> {
    let attach = |program: &mut Program| match program {
        Program::BtfTracePoint(program) => program.attach().map(Link::Tracepoint),
        Program::TracePoint(program) => {
            let category = attached.hook.classic.as_ref().map_or("", |classic| classic.category);
            // perf_event_open(2) asks for CAP_PERFMON.
            with_reserve(|| program.attach(category, attached.hook.name)).map(Link::Classic)
        }
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
        (Some(Program::FEntry(program)), Link::Function(link)) => program.detach(link),
        _ => Ok(()),
    };
}

/// Unloads a program, which takes it from its hook, too.
pub(super) fn unload(ebpf: &mut Ebpf, attached: &Attached) {
    let _ = match ebpf.program_mut(attached.program) {
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::TracePoint(program)) => program.unload(),
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
            tracing::trace!("the verifier says:\n{log}");
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
        other => other.to_string(),
    }
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
