//! What podwitness costs: floors, the agent and its peers, measured in turns in one run. `bench/README.md` says how.

mod agent;
mod bpf;
mod child;
mod cpu;
mod exposition;
mod half;
mod legs;
mod live;
mod machine;
mod network;
mod otlp;
mod peers;
mod pods;
mod report;
mod ring;
#[path = "../../xtask/src/smallest_program.rs"]
#[allow(dead_code, reason = "shared with xtask, which uses the rest")]
mod smallest_program;
mod start;
mod statistics;
mod syscalls;
mod tcp;
mod worker;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use report::Report;

/// Rounds of legs, unless the caller wants more or fewer.
const ROUNDS: usize = 48;

/// What the caller wants.
#[derive(Debug, Clone)]
struct Options {
    rounds: usize,
    /// Whether other people's tools are measured, too.
    peers: bool,
    /// The binary of the agent, for what is measured from outside.
    agent: PathBuf,
    /// Where results are kept, if they are to be.
    results: Option<PathBuf>,
    /// For the agent, whatever its mode.
    flags: Vec<String>,
}

type Bench = fn(&Options) -> Result<Report>;

const BENCHES: &[(&str, Bench)] = &[
    ("syscalls", syscalls::run),
    ("tcp", tcp::run),
    ("ring", ring::run),
    ("exposition", exposition::run),
    ("live", live::run),
    ("otlp", otlp::run),
    ("start", start::run),
    ("cpu", cpu::run),
    ("pods", pods::run),
];

const USAGE: &str = include_str!("usage.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == worker::COMMAND => worker::run(rest).map(|()| true),
        _ => run(arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all targets were met.
fn run(mut arguments: Vec<String>) -> Result<bool> {
    let flags = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => arguments.split_off(at).split_off(1),
        None => Vec::new(),
    };
    let mut options = Options {
        rounds: ROUNDS,
        peers: true,
        agent: env::current_exe()?.with_file_name("podwitness"),
        results: None,
        flags,
    };
    let mut wanted = Vec::new();
    let mut words = arguments.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} takes a value"));
        match word.as_str() {
            "--rounds" => {
                options.rounds = value()?.parse().context("--rounds takes a whole number from 1")?;
            }
            "--no-peers" => options.peers = false,
            "--agent" => options.agent = value()?.into(),
            "--results" => options.results = Some(value()?.into()),
            "--help" | "-h" | "help" => {
                print!("{USAGE}");
                return Ok(true);
            }
            option if option.starts_with('-') => bail!("there is no option {option}: see --help"),
            name => match BENCHES.iter().find(|(known, _)| *known == name) {
                Some(bench) => wanted.push(*bench),
                None => bail!("there is no bench `{name}`; there are {}", names()),
            },
        }
    }
    if options.rounds == 0 {
        bail!("--rounds takes a whole number from 1");
    }
    if wanted.is_empty() {
        wanted = BENCHES.to_vec();
    }
    let mut met = true;
    for (name, bench) in wanted {
        let report = bench(&options).with_context(|| format!("bench {name}"))?;
        print!("{report}");
        met &= report.is_met();
        if let Some(directory) = &options.results {
            println!("written to {}", report.write(directory, name)?.display());
        }
    }
    Ok(met)
}

fn names() -> String {
    BENCHES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{BENCHES, USAGE};

    #[test]
    fn the_usage_lists_every_bench() {
        let listed = |name: &str| USAGE.lines().any(|line| line.split_whitespace().next() == Some(name));
        assert!(BENCHES.iter().all(|(name, _)| listed(name)), "{USAGE}");
    }
}
