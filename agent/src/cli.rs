//! The command line. Its options are those of the configuration table, which also gives them their help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::config::text::wrap;
use crate::config::{Flags, OPTIONS, OptionSpec};

/// Where help text ends; clap indents it by ten.
const WIDTH: usize = 88;
const CONFIG: &str = "config";
const MARKDOWN: &str = "markdown";
const RECORDING: &str = "recording";

/// What the user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// What the command line says about the configuration.
    pub flags: Flags,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Observe this node: what happens without a command.
    Agent,
    /// Print the configuration in force, as YAML.
    Config,
    /// Print the reference of all options, as Markdown: for `docs/configuration.md`.
    Markdown,
    /// Say what works on this node and what doesn't.
    Doctor,
    /// Observe this node and write what is observed into a file.
    Record(PathBuf),
    /// Print the telemetry that comes of such a file.
    Replay(PathBuf),
}

/// Reads the command line; `args` begins with the name of the program, as `std::env::args_os()` does.
///
/// # Errors
///
/// A mistake in the command line, but also `--help` and `--version`: `exit()` of the error prints each where
/// it belongs and ends with the right code.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let command = match matches.subcommand() {
        Some((CONFIG, matches)) if matches.get_flag(MARKDOWN) => Command::Markdown,
        Some((CONFIG, _)) => Command::Config,
        Some(("doctor", _)) => Command::Doctor,
        Some(("record", matches)) => Command::Record(recording(matches)),
        Some(("replay", matches)) => Command::Replay(recording(matches)),
        _ => Command::Agent,
    };
    // Flags are global: clap carries them up from the subcommand.
    Ok(Invocation { command, flags: flags(&matches) })
}

fn recording(matches: &ArgMatches) -> PathBuf {
    matches.get_one::<PathBuf>(RECORDING).cloned().unwrap_or_default()
}

fn flags(matches: &ArgMatches) -> Flags {
    let value = |option: &OptionSpec| matches.get_one::<OsString>(option.key).cloned();
    Flags {
        file: matches.get_one::<PathBuf>(CONFIG).cloned(),
        values: OPTIONS.iter().filter_map(|option| Some((option, value(option)?))).collect(),
    }
}

fn command() -> clap::Command {
    clap::Command::new("podwitness")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An eBPF observability agent for Kubernetes nodes")
        .after_help("Each option is also a key of the YAML file and an environment variable: see --help.")
        .after_long_help(
            "Defaults, file, environment, flags: each overrides those before it. `podwitness config` prints \
             what is in force.",
        )
        .arg(file_arg())
        .args(OPTIONS.iter().map(option_arg))
        .subcommand(clap::Command::new("agent").about("Observe this node (the default)"))
        .subcommand(
            clap::Command::new(CONFIG)
                .about("Print the configuration in force, and who said so")
                .arg(Arg::new(MARKDOWN).long(MARKDOWN).hide(true).action(ArgAction::SetTrue)),
        )
        .subcommand(
            clap::Command::new("record")
                .about("Observe this node, and write what is observed into a file")
                .arg(recording_arg()),
        )
        .subcommand(
            clap::Command::new("replay")
                .about("Print the spans and logs that come of a recording, as JSON; needs no privilege")
                .arg(recording_arg()),
        )
        .subcommand(clap::Command::new("doctor").about("Say what works on this node and what doesn't"))
}

fn recording_arg() -> Arg {
    Arg::new(RECORDING).value_name("FILE").value_parser(value_parser!(PathBuf)).required(true)
}

fn file_arg() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("YAML file with the configuration [env: PODWITNESS_CONFIG]")
}

/// Values are taken as they are: the configuration judges those of all sources together.
fn option_arg(option: &'static OptionSpec) -> Arg {
    let short = option.doc.split_once(". ").map_or(option.doc, |(first, _)| first).trim_end_matches('.');
    let facts = [
        format!("Allowed: {}", option.allowed()),
        format!("Default: {}", option.default),
        format!("Variable: {}", option.env()),
    ];
    let long = std::iter::once(option.doc).chain(facts.iter().map(String::as_str));
    Arg::new(option.key)
        .long(option.flag())
        .value_name(option.placeholder())
        .value_parser(value_parser!(OsString))
        .allow_negative_numbers(true)
        .global(true)
        .help_heading(format!("Options of section {}", option.section()))
        .help(format!("{short} [default: {}]", option.default))
        .long_help(long.flat_map(|text| wrap(text, WIDTH)).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Invocation, clap::Error> {
        parse(std::iter::once("podwitness").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn clap_finds_no_fault_with_the_table() {
        command().debug_assert();
    }

    #[test]
    fn agent_is_the_default_command() {
        for (line, command) in [
            ("", Command::Agent),
            ("agent", Command::Agent),
            ("config", Command::Config),
            ("config --markdown", Command::Markdown),
            ("doctor", Command::Doctor),
            ("record a.jsonl", Command::Record("a.jsonl".into())),
            ("replay a.jsonl", Command::Replay("a.jsonl".into())),
        ] {
            assert_eq!(parse_words(line).unwrap(), Invocation { command, flags: Flags::default() });
        }
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        let option = |key| OPTIONS.iter().find(|option| option.key == key).unwrap();
        let expected = Flags {
            file: Some("a.yaml".into()),
            values: vec![(option("metrics.listen"), ":1".into()), (option("ring.poll_min"), "2ms".into())],
        };
        for line in [
            "--config a.yaml --ring-poll-min 2ms --metrics-listen=:1",
            "agent --config a.yaml --ring-poll-min 2ms --metrics-listen=:1",
            "--config a.yaml config --ring-poll-min 2ms --metrics-listen=:1",
            "--config=a.yaml --ring-poll-min=2ms doctor --metrics-listen=:1",
        ] {
            assert_eq!(parse_words(line).unwrap().flags, expected, "{line}");
        }
    }

    #[test]
    fn mistakes_are_errors_and_help_is_not() {
        for line in
            ["--metrics-lisetn :1", "--metrics-listen", "agnet", "--log-level info --log-level warn", "x y"]
        {
            let error = parse_words(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert!(parse_words("--metrics-lisetn :1").unwrap_err().to_string().contains("--metrics-listen"));
        for line in ["--help", "-h", "--version", "-V", "config --help", "doctor --help"] {
            let shown = parse_words(line).unwrap_err();
            assert_eq!((shown.exit_code(), shown.use_stderr()), (0, false), "{line}");
        }
    }

    #[test]
    fn help_has_every_option_and_keeps_the_generator_to_itself() {
        let help = parse_words("config --help").unwrap_err().to_string();
        for option in OPTIONS {
            let flag = format!("--{} <{}>", option.flag(), option.placeholder());
            for text in [&flag, &option.env(), option.default] {
                assert!(help.contains(text), "{text}");
            }
        }
        assert!(!help.contains(MARKDOWN));
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
