//! What kubectl asks a plugin's completer: candidates, a line each, and how to go on
//! (<https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>, cobra's `ShellCompDirective`).

use clap::{Arg, Command, ValueHint};

/// The shell is to complete names of files.
const FILES: &str = ":0";
/// The shell is to add nothing of its own.
const NOTHING: &str = ":4";

/// The last word is the one to complete, and may be empty.
pub(super) fn candidates(mut command: Command, words: &[String]) -> String {
    command.build();
    let Some((begun, before)) = words.split_last() else { return format!("{NOTHING}\n") };
    let mut within = &command;
    let mut expected: Option<&Arg> = None;
    // As in `--output=j`: what is told begins with the flag, too.
    let (flag, begun) = match begun.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => (Some(flag), value),
        _ => (None, begun.as_str()),
    };
    for word in before {
        if expected.take().is_none() {
            expected = option(within, word);
            within = within.find_subcommand(word).unwrap_or(within);
        }
    }
    let expected = expected.or_else(|| option(within, flag?));
    let (told, directive): (Vec<_>, _) = match expected {
        Some(argument) => (values(argument), directive(argument)),
        None if flag.is_some() => (Vec::new(), NOTHING),
        None if begun.starts_with('-') => (flags(within), NOTHING),
        None => {
            let positional = within.get_positionals().next();
            let shown = within.get_subcommands().filter(|command| !command.is_hide_set());
            let commands = shown.map(|command| line(command.get_name(), &text(command.get_about())));
            let values = positional.map(values).unwrap_or_default();
            (commands.chain(values).collect(), positional.map_or(NOTHING, directive))
        }
    };
    let fitting = told.into_iter().filter(|line| line.starts_with(begun));
    let fitting = fitting.map(|line| flag.map_or_else(|| line.clone(), |flag| format!("{flag}={line}")));
    fitting.chain([directive.to_owned()]).map(|line| line + "\n").collect()
}

/// The option whose value comes with the next word.
fn option<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let is_meant = |argument: &&Arg| match word.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => {
            let short = word.strip_prefix('-').filter(|rest| rest.chars().count() == 1);
            short.is_some_and(|short| argument.get_short() == short.chars().next())
        }
    };
    command.get_arguments().filter(|argument| argument.get_action().takes_values()).find(is_meant)
}

fn flags(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    shown
        .filter_map(|argument| Some(line(&format!("--{}", argument.get_long()?), &text(argument.get_help()))))
        .collect()
}

fn values(argument: &Arg) -> Vec<String> {
    let values = argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
    values.map(|value| line(value.get_name(), &text(value.get_help()))).collect()
}

fn directive(argument: &Arg) -> &'static str {
    if argument.get_value_hint() == ValueHint::FilePath { FILES } else { NOTHING }
}

/// A candidate and, behind a tab, what it is.
fn line(name: &str, what: &str) -> String {
    if what.is_empty() { name.to_owned() } else { format!("{name}\t{what}") }
}

fn text(of: Option<&clap::builder::StyledStr>) -> String {
    of.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let told = candidates(super::super::command("kubectl podwitness"), &words);
        told.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn words_go_on_as_clap_would_take_them() {
        assert_eq!(told("ta"), ["tail", ":4"]);
        assert_eq!(told("tail -o "), ["text", "wide", "json", "jsonpath=", ":4"]);
        assert_eq!(told("tail --color a"), ["auto", "always", ":4"]);
        assert_eq!(told("tail --pod"), ["--pod", ":4"]);
        assert_eq!(told("tail --output=j"), ["--output=json", "--output=jsonpath=", ":4"]);
        assert_eq!(told("tail --nothing=j"), [":4"]);
        assert_eq!(told("--nothing=d"), [":4"]);
        assert_eq!(told("tail --ca-file "), [":0"]);
        assert_eq!(told("--config "), [":0"]);
        assert_eq!(told("tail --config "), [":0"]);
        assert_eq!(told("record "), [":0"]);
        assert_eq!(told("tail --pod x --agent-n"), ["--agent-namespace", ":4"]);
        assert_eq!(told("completions fi"), ["fish", ":4"]);
        assert!(told("").contains(&"doctor".to_owned()));
        assert_eq!(candidates(super::super::command("x"), &[]), ":4\n");
    }
}
