//! The program whose truth the agent is compared with. It does exactly what it is told, measures it itself and
//! reports it as one line of JSON.
//!
//! It says `"ready"` when nothing but the work itself is left to do, waits for a line on standard input, so that it can be put into a
//! cgroup in the meantime, works, reports, and lives on until standard input closes.

use std::{
    collections::HashMap,
    io::{self, BufRead, Read},
    process::ExitCode,
    str::FromStr,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

mod calls;
mod memory;
mod odd;
mod process;
mod rings;
mod single;
mod tcp;

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command.as_str() {
        "syscalls" => calls::syscalls(&arguments)?,
        "blocked" => calls::blocked(&arguments)?,
        "io_uring" => rings::run(&arguments)?,
        "connect" => tcp::connect::run(&arguments)?,
        "abort" => tcp::abort(&arguments)?,
        "rob" => tcp::connect::rob(&arguments)?,
        "fastopen" => tcp::fast_open(&arguments)?,
        "hold" => tcp::hold(&arguments)?,
        "listen" => tcp::listen(&arguments)?,
        "loopback" => tcp::loopback(&arguments)?,
        "exchange" => tcp::exchange(&arguments)?,
        "spawn" => process::spawn(&arguments)?,
        "visit" => process::visit(&arguments)?,
        "calls" => single::run(&arguments)?,
        "wander" => odd::wander()?,
        "noop" => return process::noop(&arguments),
        "roam" => odd::roam(&arguments)?,
        "storm" => odd::storm(&arguments)?,
        "i386" => odd::i386(&arguments)?,
        "interrupted" => odd::interrupted(&arguments)?,
        "suspended" => odd::suspended(&arguments)?,
        "refused" => odd::refused(&arguments)?,
        "replace" => odd::replace(&arguments)?,
        "hog" => memory::hog(&arguments)?,
        "linger" => memory::linger(&arguments)?,
        unknown => bail!("no such command: {unknown}"),
    }
    // The series of a cgroup are to stay until the test has looked at them.
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(ExitCode::SUCCESS)
}

/// `command --name value …`
struct Arguments {
    command: String,
    values: HashMap<String, String>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let command = arguments.next().context("no command")?;
        let mut values = HashMap::new();
        while let Some(name) = arguments.next() {
            let name = name.strip_prefix("--").with_context(|| format!("not a flag: {name}"))?;
            values.insert(name.to_owned(), arguments.next().with_context(|| format!("--{name}: no value"))?);
        }
        Ok(Self { command, values })
    }

    /// A value, or `default` if it was not given.
    fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    /// A value that has to be given.
    fn required<T: FromStr>(&self, name: &str) -> Result<T> {
        self.optional(name)?.with_context(|| format!("--{name} is missing"))
    }

    /// A value, if it was given.
    fn optional<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let value = self.values.get(name);
        value.map(|value| value.parse().map_err(|_| anyhow!("--{name}: {value}"))).transpose()
    }
}

/// Says that all is prepared and waits for the word to begin.
fn ready() -> Result<()> {
    report(&Value::from("ready"));
    wait_for_line()
}

fn wait_for_line() -> Result<()> {
    let read = io::stdin().lock().read_line(&mut String::new())?;
    if read == 0 { bail!("nobody said go") } else { Ok(()) }
}

fn report(truth: &Value) {
    println!("{truth}");
}

/// Threads share work as evenly as it goes: the part of number `index` of `threads`.
fn share(total: u64, threads: u64, index: u64) -> u64 {
    total / threads + u64::from(index < total % threads)
}
