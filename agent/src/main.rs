//! The binary: parse → configure → run.

#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use podwitness::{
    app, catalogue,
    cli::{self, Command},
    config::{self, Config},
    doctor, mistake,
    recording::{self, ReplayError},
    remote::Which,
    tail, top, why,
};

/// Mistakes in the command line or the configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let invocation = match cli::parse(env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Help and version come this way, too. Nothing is left to do where even that can't be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match &invocation.command {
        Command::Markdown => return print(&config::markdown()),
        Command::Completions(shell) => {
            let mut script = Vec::new();
            cli::complete(*shell, &mut script);
            return print(&String::from_utf8_lossy(&script));
        }
        Command::Candidates(words) => return print(&cli::candidates(words)),
        _ => {}
    }
    // A developer's shell may have OpenTelemetry's variables for other programs.
    let is_read = |name: &OsString| invocation.command.may_send() || !config::is_standard(name);
    let variables = env::vars_os().filter(|(name, _)| is_read(name));
    let (config, effective) = match Config::load(&invocation.flags, variables) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("podwitness: {errors}");
            return ExitCode::from(USAGE);
        }
    };
    let outcome = match invocation.command {
        Command::Config => return print(&effective.to_string()),
        Command::Doctor { json, place } if place.which != Which::Local => doctor::ask(&place, &config, json),
        Command::Doctor { json, .. } => doctor::run(&config, json),
        Command::Metrics(options) => catalogue::run(&options, &config, &mut io::stdout().lock()),
        Command::Tail(options) => tail::run(&options, &config),
        Command::Why(options) => why::run(&options, &config),
        Command::Top(options) => top::run(&options, &config),
        Command::Record(path) => app::run(&config, &effective, Some(&path)),
        Command::Replay(path) => recording::run(&path, &config, io::stdout().lock()).map_err(Into::into),
        Command::Agent | Command::Markdown | Command::Completions(_) | Command::Candidates(_) => {
            app::run(&config, &effective, None)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough: `podwitness metrics | head`.
        Err(error) if has_no_reader(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwitness: {error:#}");
            if mistake::is_one(&error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether nobody reads the output any more.
fn has_no_reader(error: &anyhow::Error) -> bool {
    let error = match error.downcast_ref() {
        Some(ReplayError::Write(error)) => Some(error),
        _ => error.downcast_ref::<io::Error>(),
    };
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough: `podwitness config | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwitness: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
