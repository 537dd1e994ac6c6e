//! Short-lived processes.

use std::{
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Result, bail};
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
