//! The command line. Its options are those of the configuration table, which also gives them their help.

mod complete;
mod output;
mod place;
mod top;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{EnumValueParser, PossibleValue};
use clap::{Arg, ArgAction, ArgMatches, ValueEnum, ValueHint, value_parser};

use crate::catalogue;
use crate::config::text::wrap;
use crate::config::{Flags, OPTIONS, OptionSpec};
use crate::remote::{Place, Which};
use crate::tail::{self, Colour};
use crate::why;

/// Where help text ends; clap indents it by ten.
const WIDTH: usize = 88;
const CONFIG: &str = "config";
const MARKDOWN: &str = "markdown";
const RECORDING: &str = "recording";
/// Whose deaths.
const OF: &str = "of";
/// By this name kubectl finds it as a plugin, ...
const PLUGIN: &str = "kubectl-podwitness";
/// ... and by this one what completes the plugin's command lines.
const COMPLETER: &str = "kubectl_complete-podwitness";

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
    /// Say what works on this node and what doesn't, or how an agent elsewhere is; as JSON, if that is wanted.
    Doctor { json: bool, place: Place },
    /// Say which metrics there are, or how many series each has now.
    Metrics(catalogue::Options),
    /// Show live events.
    Tail(tail::Options),
    /// Tell how the containers of a pod died.
    Why(why::Options),
    /// Show what containers do.
    Top(crate::top::Options),
    /// Print what a shell needs to complete command lines.
    Completions(clap_complete::Shell),
    /// Print how a command line may go on, as kubectl asks for its plugins.
    Candidates(Vec<String>),
    /// Observe this node and write what is observed into a file.
    Record(PathBuf),
    /// Print the telemetry that comes of such a file.
    Replay(PathBuf),
}

impl Command {
    /// Whether OpenTelemetry's variables mean anything to it: it sends something, or says what would be sent.
    pub fn may_send(&self) -> bool {
        match self {
            Self::Agent | Self::Config | Self::Record(_) | Self::Replay(_) => true,
            Self::Markdown
            | Self::Doctor { .. }
            | Self::Metrics(_)
            | Self::Tail(_)
            | Self::Why(_)
            | Self::Top(_)
            | Self::Completions(_)
            | Self::Candidates(_) => false,
        }
    }
}

/// Reads the command line; `args` begins with the name of the program, as `std::env::args_os()` does.
///
/// # Errors
///
/// A mistake in the command line, but also `--help` and `--version`: `exit()` of the error prints each where
/// it belongs and ends with the right code.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = args.first().and_then(|path| Path::new(path).file_name()?.to_str()).unwrap_or_default();
    if program == COMPLETER {
        let words = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        return Ok(Invocation { command: Command::Candidates(words), flags: Flags::default() });
    }
    let is_plugin = program == PLUGIN;
    let name = if is_plugin { "kubectl podwitness" } else { "podwitness" };
    let matches = command(name).try_get_matches_from(args)?;
    let command = match matches.subcommand() {
        Some((CONFIG, matches)) if matches.get_flag(MARKDOWN) => Command::Markdown,
        Some((CONFIG, _)) => Command::Config,
        Some(("doctor", matches)) => {
            let json = matches.get_one("output") == Some(&Report::Json);
            Command::Doctor { json, place: place::read(matches) }
        }
        Some(("metrics", matches)) => Command::Metrics(metrics_options(matches)),
        Some(("tail", matches)) => Command::Tail(tail_options(matches)),
        Some(("why", matches)) => Command::Why(why_options(matches, is_plugin)),
        Some(("top", matches)) => Command::Top(top::options(matches)),
        Some(("completions", matches)) => match matches.get_one("shell") {
            Some(shell) => Command::Completions(*shell),
            None => Command::Agent,
        },
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

/// All that can be typed; `name` is what people type for the program.
pub fn command(name: &str) -> clap::Command {
    clap::Command::new("podwitness")
        .bin_name(name)
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
        .subcommand(
            place::add(
                clap::Command::new("doctor")
                    .about("Say what works on this node and what doesn't; of an agent elsewhere, what it says of itself")
                    .arg(report_arg()),
                &[],
            ),
        )
        .subcommand(metrics_command())
        .subcommand(tail_command(name))
        .subcommand(top::command(name))
        .subcommand(why_command(name))
        .subcommand(
            clap::Command::new("completions").about("Print a script that completes command lines").arg(
                Arg::new("shell")
                    .required(true)
                    .value_parser(value_parser!(clap_complete::Shell))
                    .help("The shell that is to complete"),
            ),
        )
}

fn metrics_command() -> clap::Command {
    clap::Command::new("metrics")
        .about("Say which metrics there are, and how many series they have")
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Ask the agent that runs here how many series each metric has now, and their sum"),
        )
        .arg(
            Arg::new("addr")
                .long("addr")
                .value_name("HOST:PORT")
                .requires("dry-run")
                .help("The agent's metrics listener; without it the local one's, as its configuration says"),
        )
        .arg(report_arg())
        .arg(
            Arg::new(MARKDOWN).long(MARKDOWN).hide(true).conflicts_with("dry-run").action(ArgAction::SetTrue),
        )
}

fn metrics_options(matches: &ArgMatches) -> catalogue::Options {
    catalogue::Options {
        what: match (matches.get_flag(MARKDOWN), matches.get_flag("dry-run")) {
            (true, _) => catalogue::What::Markdown,
            (_, true) => catalogue::What::Series,
            _ => catalogue::What::Reference,
        },
        address: matches.get_one("addr").cloned(),
        json: matches.get_one("output") == Some(&Report::Json),
    }
}

fn tail_command(name: &str) -> clap::Command {
    let command = clap::Command::new("tail")
        .about("Show what happens on a node, as it happens")
        .after_help(format!(
            "Examples:\n  {name} tail namespace=shop kind=tcp\n  {name} tail 'errno or duration>100ms' -o wide\n  {name} \
             tail --since 30s kind=oom\n  {name} tail --pod shop/web-0 kind=process\n\ndocs/filter.md has all fields and \
             operators.",
        ))
        .arg(
            Arg::new("filter")
                .num_args(0..)
                .value_name("FILTER")
                .help("Which events, in the filter language; several words are one filter"),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FORMAT")
                .value_parser(output::OutputParser)
                .default_value("text")
                .help("What a line looks like"),
        )
        .arg(
            Arg::new("color")
                .long("color")
                .value_name("WHEN")
                .value_parser(EnumValueParser::<Colour>::new())
                .default_value("auto")
                .help("When to use colour"),
        )
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("TIME")
                .help("Begin at a time, or a duration ago such as 30s, as far as the agent has kept it"),
        )
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("NUMBER")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after so many events"),
        )
        .arg(
            Arg::new("paths")
                .long("paths")
                .action(ArgAction::SetTrue)
                .help("Show the paths that system calls are given; the filter names the calls, as in syscall=openat"),
        );
    place::add(command, &[])
}

fn tail_options(matches: &ArgMatches) -> tail::Options {
    let words: Vec<&str> =
        matches.get_many::<String>("filter").into_iter().flatten().map(String::as_str).collect();
    tail::Options {
        filter: words.join(" "),
        place: place::read(matches),
        output: matches.get_one("output").cloned().unwrap_or_default(),
        colour: matches.get_one("color").copied().unwrap_or_default(),
        since: matches.get_one("since").cloned(),
        limit: matches.get_one("limit").copied(),
        paths: matches.get_flag("paths"),
    }
}

fn why_command(name: &str) -> clap::Command {
    let command = clap::Command::new("why")
        .about("Tell how the containers of a pod died, and what happened right before")
        .after_help(format!(
            "Examples:\n  {name} why shop/web-0\n  {name} why --pod shop/web-0\n  {name} why nginx.service\n\nWithout one of --addr, --pod and --node \
             the local agent is asked; as a plugin of kubectl, the one that watches the pod.",
        ))
        .arg(Arg::new(OF).value_name("POD").help(
            "Whose deaths, as NAME or NAMESPACE/NAME, if --pod doesn't say it; or the name of a workload outside of pods, such \
             as a unit's or a PROJECT/SERVICE, or the last part of it; or that of an engine's container; or `host`",
        ))
        .arg(report_arg());
    place::add(command, &[OF])
}

/// kubectl's users name a pod and mean the one in the cluster.
fn why_options(matches: &ArgMatches, is_plugin: bool) -> why::Options {
    let mut place = place::read(matches);
    let named = matches.get_one::<String>(OF).map(|pod| place::pod(pod, place::namespace(matches)));
    let pod = match &named {
        Some(Which::Pod { namespace: Some(namespace), name }) => Some(format!("{namespace}/{name}")),
        Some(Which::Pod { namespace: None, name }) => Some(name.clone()),
        _ => None,
    };
    if let Some(named) = named.filter(|_| is_plugin && place.which == Which::Local) {
        place.which = named;
    }
    why::Options { pod, place, json: matches.get_one("output") == Some(&Report::Json) }
}

fn report_arg() -> Arg {
    Arg::new("output")
        .short('o')
        .long("output")
        .value_name("FORMAT")
        .value_parser(EnumValueParser::<Report>::new())
        .default_value("text")
        .help("How to say it")
}

/// Writes the script for a shell.
pub fn complete(shell: clap_complete::Shell, out: &mut dyn std::io::Write) {
    clap_complete::generate(shell, &mut command("podwitness"), "podwitness", out);
}

/// How the words of a plugin's command line may go on, as kubectl wants to be told.
pub fn candidates(words: &[String]) -> String {
    complete::candidates(command("kubectl podwitness"), words)
}

/// How `doctor` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Report {
    Text,
    Json,
}

impl ValueEnum for Report {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Text => "text",
            Self::Json => "json",
        }))
    }
}

impl ValueEnum for Colour {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Always, Self::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Auto => PossibleValue::new("auto").help("on a terminal, unless NO_COLOR is set"),
            Self::Always => PossibleValue::new("always"),
            Self::Never => PossibleValue::new("never"),
        })
    }
}

fn recording_arg() -> Arg {
    Arg::new(RECORDING)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .required(true)
}

fn file_arg() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
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
    use crate::tail::{Output, Template};

    fn parse_words(line: &str) -> Result<Invocation, clap::Error> {
        parse(std::iter::once("podwitness").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn clap_finds_no_fault_with_the_table() {
        command("podwitness").debug_assert();
    }

    #[test]
    fn a_plugin_is_called_as_kubectl_calls_it() {
        for (path, usage) in [
            ("/usr/local/bin/kubectl-podwitness", "Usage: kubectl podwitness tail "),
            ("podwitness", "Usage: podwitness tail "),
            ("/usr/bin/anything", "Usage: podwitness tail "),
        ] {
            let help = parse([path, "tail", "--help"].map(OsString::from)).unwrap_err().to_string();
            assert!(help.contains(usage), "{help}");
            let examples = usage.trim_start_matches("Usage: ");
            assert!(help.contains(&format!("  {examples}--since 30s")), "{help}");
            let mistake = parse([path, "tial"].map(OsString::from)).unwrap_err().to_string();
            assert!(mistake.contains(examples.trim_end_matches("tail ")), "{mistake}");
        }
        for (line, namespace) in
            [("web-0", None), ("web-0 -n shop", Some("shop")), ("shop/web-0 -n x", Some("shop"))]
        {
            let words = ["/bin/kubectl-podwitness", "why"].into_iter().chain(line.split(' '));
            let why = parse(words.map(OsString::from)).unwrap().command;
            let Command::Why(options) = why else { panic!("{why:?}") };
            let namespace = namespace.map(str::to_owned);
            assert_eq!(options.place.which, Which::Pod { namespace, name: "web-0".into() });
        }
        let why = parse_words("why web-0 -n shop").unwrap().command;
        let Command::Why(options) = why else { panic!("{why:?}") };
        assert_eq!((options.pod.as_deref(), options.place.which), (Some("shop/web-0"), Which::Local));
        let words = parse(["/bin/kubectl_complete-podwitness", "ta"].map(OsString::from)).unwrap();
        assert_eq!(words.command, Command::Candidates(vec!["ta".into()]));
    }

    #[test]
    fn agent_is_the_default_command() {
        for (line, command) in [
            ("", Command::Agent),
            ("agent", Command::Agent),
            ("config", Command::Config),
            ("config --markdown", Command::Markdown),
            ("doctor", Command::Doctor { json: false, place: Place::default() }),
            ("doctor -o json", Command::Doctor { json: true, place: Place::default() }),
            (
                "doctor --node n1",
                Command::Doctor {
                    json: false,
                    place: Place { which: Which::Node("n1".into()), ..Place::default() },
                },
            ),
            ("metrics", Command::Metrics(catalogue::Options::default())),
            (
                "metrics --dry-run --addr node1:9481 -o json",
                Command::Metrics(catalogue::Options {
                    what: catalogue::What::Series,
                    address: Some("node1:9481".into()),
                    json: true,
                }),
            ),
            ("completions fish", Command::Completions(clap_complete::Shell::Fish)),
            ("tail", Command::Tail(tail::Options::default())),
            (
                "tail kind=tcp errno --addr node1:9482 -o wide --color never --since 30s --limit 3 --paths --token-file /t",
                Command::Tail(tail::Options {
                    filter: "kind=tcp errno".into(),
                    place: Place {
                        which: Which::Address("node1:9482".into()),
                        token_file: Some("/t".into()),
                        ..Place::default()
                    },
                    output: Output::Wide,
                    colour: Colour::Never,
                    since: Some("30s".into()),
                    limit: Some(3),
                    paths: true,
                }),
            ),
            (
                "why shop/web-0 -o json",
                Command::Why(why::Options {
                    pod: Some("shop/web-0".into()),
                    json: true,
                    ..why::Options::default()
                }),
            ),
            ("top", Command::Top(crate::top::Options::default())),
            (
                "top namespace=shop not pod --addr node1:9482 --interval 500ms --sort headroom --once",
                Command::Top(crate::top::Options {
                    filter: "namespace=shop not pod".into(),
                    place: Place { which: Which::Address("node1:9482".into()), ..Place::default() },
                    interval: std::time::Duration::from_millis(500),
                    sort: "headroom".into(),
                    once: true,
                }),
            ),
            ("record a.jsonl", Command::Record("a.jsonl".into())),
            ("replay a.jsonl", Command::Replay("a.jsonl".into())),
        ] {
            assert_eq!(parse_words(line).unwrap(), Invocation { command, flags: Flags::default() });
        }
    }

    #[test]
    fn templates_are_read_with_the_command_line() {
        let Command::Tail(options) = parse_words("tail -o jsonpath={.kind}:{.pod}").unwrap().command else {
            panic!("no tail");
        };
        assert_eq!(options.output, Output::Jsonpath(Template::parse("{.kind}:{.pod}").unwrap()));
        for (line, said) in [
            ("tail -o jsonpath={.kind}{range}", "ranges are not supported"),
            ("tail -o jsonpath={.kind}{range}", "        ^^^^^\n"),
            ("tail -o jsonpath", "a template is missing"),
            ("tail -o yaml", "possible values: text, wide, json, jsonpath="),
            ("top --interval 100ms", "every 500ms"),
            ("top --sort nothing", "headroom"),
        ] {
            let error = parse_words(line).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(said), "{line}: {error}");
        }
        assert!(parse_words("tail --help").unwrap_err().to_string().contains("jsonpath='{.kind} {.pod}'"));
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
