//! The command line of `top`.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser};

use super::place;
use crate::{config::parse_duration, top};

pub(super) fn command(name: &str) -> Command {
    let command = Command::new("top")
        .about("Show what the containers of a node do, as it changes")
        .after_help(format!(
            "Examples:\n  {name} top namespace=shop\n  {name} top --sort headroom 'not pod~\"^test-\"'\n  {name} top \
             --once --interval 10s\n  {name} top --node node1\n\nKeys are shown at the bottom. Without a terminal, one \
             table is printed after one interval.",
        ))
        .arg(
            Arg::new("filter")
                .num_args(0..)
                .value_name("FILTER")
                .help("Which containers, in the filter language: their labels and nothing else"),
        )
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("DURATION")
                .value_parser(interval)
                .default_value("2s")
                .help("How often to look, and what rates are of"),
        )
        .arg(
            Arg::new("sort")
                .long("sort")
                .value_name("COLUMN")
                .value_parser(PossibleValuesParser::new(top::columns()))
                .default_value(top::SORT)
                .help("What stands at the top"),
        )
        .arg(
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("Print one table after one interval, with numbers as they are"),
        );
    place::add(command, &[])
}

pub(super) fn options(matches: &ArgMatches) -> top::Options {
    let words: Vec<&str> =
        matches.get_many::<String>("filter").into_iter().flatten().map(String::as_str).collect();
    let default = top::Options::default();
    top::Options {
        filter: words.join(" "),
        place: place::read(matches),
        interval: matches.get_one("interval").copied().unwrap_or(default.interval),
        sort: matches.get_one("sort").cloned().unwrap_or(default.sort),
        once: matches.get_flag("once"),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < top::SHORTEST {
        return Err("the agent has new figures every 500ms, and not sooner".into());
    }
    Ok(duration)
}
