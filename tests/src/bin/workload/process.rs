//! Short-lived processes.

use std::{
    fs::File,
    io::{self, Write as _},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Result, bail, ensure};
use serde_json::json;

use crate::{Arguments, calls::call_getppid, ready, report};

/// `--count N [--getppid M] [--exit C | --signal S]`: one after the other, N processes that make M calls and end.
pub(crate) fn spawn(arguments: &Arguments) -> Result<()> {
    let count: u64 = arguments.required("count")?;
    let flags: Vec<String> = ["getppid", "exit", "signal"]
        .into_iter()
        .filter_map(|name| Some([format!("--{name}"), arguments.values.get(name)?.clone()]))
        .flatten()
        .collect();
    let program = std::env::current_exe()?;
    ready()?;
    let mut pids = Vec::new();
    let mut statuses = Vec::new();
    let begin = Instant::now();
    for _ in 0..count {
        let mut command = Command::new(&program);
        let mut child = command.arg("noop").args(&flags).stdin(Stdio::null()).spawn()?;
        pids.push(child.id());
        statuses.push(child.wait()?);
    }
    let lived = begin.elapsed().as_secs_f64();
    let succeeded = statuses.iter().filter(|status| status.success()).count();
    report(&json!({
        "pids": pids,
        "succeeded": succeeded,
        "program": program,
        "lived": lived,
    }));
    Ok(())
}

/// `--cgroups DIRECTORY,… --getppid M [--more K]`: one process after the other, one for each cgroup, that enters it,
/// makes M calls there, K more than the one before, and ends.
pub(crate) fn visit(arguments: &Arguments) -> Result<()> {
    let directories: String = arguments.required("cgroups")?;
    let calls: u64 = arguments.required("getppid")?;
    let more: u64 = arguments.or("more", 0)?;
    ready()?;
    let mut visited = 0;
    for directory in directories.split(',') {
        let procs = File::options().write(true).open(format!("{directory}/cgroup.procs"))?;
        // SAFETY: this process has one thread. Its child only makes system calls, and ends without a return.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // "0" means the writer itself.
            let entered = (&procs).write_all(b"0").is_ok();
            (0..calls + visited * more).for_each(|_| call_getppid());
            // SAFETY: takes a plain number and doesn't return.
            unsafe { libc::_exit(if entered { 0 } else { 1 }) }
        }
        let mut status = 0;
        // SAFETY: writes to our own integer.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        ensure!(waited == child && status == 0, "{directory}: {}", io::Error::last_os_error());
        visited += 1;
    }
    report(&json!({ "visited": visited }));
    Ok(())
}

/// `[--getppid M] [--exit C] [--signal S]`: makes M calls and ends with this code or by this signal.
pub(crate) fn noop(arguments: &Arguments) -> Result<ExitCode> {
    for _ in 0..arguments.or("getppid", 0_u64)? {
        call_getppid();
    }
    let signal: i32 = arguments.or("signal", 0)?;
    if signal != 0 {
        // SAFETY: raise(3) takes a number; what it ends is this process.
        unsafe { libc::raise(signal) };
        bail!("signal {signal} did not end this process");
    }
    Ok(ExitCode::from(arguments.or("exit", 0_u8)?))
}
