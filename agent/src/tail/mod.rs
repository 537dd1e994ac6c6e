//! `podwitness tail`: the live events of an agent, a line each, for people in front of a terminal.

mod columns;
mod detail;
mod follow;
mod jsonpath;
mod style;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use self::{columns::Columns, follow::Reading, style::Style};
pub(crate) use self::{
    columns::{is_bad, padded, process, shortened, time},
    detail::{bytes, detail, duration},
};
pub use self::{jsonpath::Template, style::Colour};
use crate::{
    config::Config,
    filter::Filter,
    harmless::{Harmless, is_hostile},
    live::Query,
    mistake::Mistake,
    remote::{Place, Remote},
};

/// What the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// In the filter language.
    pub filter: String,
    /// Which agent.
    pub place: Place,
    pub output: Output,
    pub colour: Colour,
    pub since: Option<String>,
    pub limit: Option<u64>,
    /// The paths in the arguments of system calls that the filter names, too.
    pub paths: bool,
}

/// What a line looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Columns, with what is long cut short.
    #[default]
    Text,
    /// Nothing is cut short, nothing left out.
    Wide,
    /// As the agent sends it.
    Json,
    /// What a template makes of it.
    Jsonpath(Template),
}

/// Prints events until the agent ends, or as many as were asked for.
pub fn run(options: &Options, config: &Config) -> Result<()> {
    check(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(follow(options, config)) {
        // The reader has seen enough: `podwitness tail | head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

/// The agent would find the same mistakes; but they are known before it is asked.
fn check(options: &Options) -> Result<(), Mistake> {
    if let Err(error) = Filter::parse(&options.filter) {
        let (said, pointer) = (error.to_string(), error.pointer(&options.filter));
        let said = Harmless(&said);
        return Err(Mistake(format!("{said}\n\n{pointer}\n\ndocs/filter.md has all fields and operators")));
    }
    let since = options.since.as_deref().map(|since| ("since", since));
    let query = Query::parse(since, Timestamp::now());
    query.map_err(|error| Mistake(format!("--since: {}", Harmless(&error.to_string()))))?;
    Ok(())
}

async fn follow(options: &Options, config: &Config) -> Result<()> {
    let remote = Remote::new(&options.place, config).await?;
    let style = Style::new(options.colour, io::stdout().is_terminal());
    let columns = Columns::new(options.output == Output::Wide);
    let printer = Printer { columns, style, output: options.output.clone() };
    Reading::new(options, &remote, printer).run().await
}

/// Writes lines as they were asked for.
struct Printer {
    columns: Columns,
    style: Style,
    output: Output,
}

impl Printer {
    /// `line` is the event as it came.
    fn print(&mut self, line: &str, event: &Value, out: &mut impl Write) -> io::Result<()> {
        let kind = event["kind"].as_str().unwrap_or_default();
        let notice = || format!("-- {}", Harmless(event["message"].as_str().unwrap_or(kind)));
        match &self.output {
            Output::Json => writeln!(out, "{}", harmless_json(line)),
            _ if kind == "notice.heartbeat" => Ok(()),
            // Whoever reads what a template makes expects that and nothing else.
            Output::Jsonpath(_) if kind.starts_with("notice.") => writeln!(io::stderr(), "{}", notice()),
            Output::Jsonpath(template) => {
                let filled = template.filled(event);
                writeln!(out, "{}", filled.strip_suffix('\n').unwrap_or(&filled))
            }
            _ if kind.starts_with("notice.") => writeln!(out, "{}", self.style.notice(&notice())),
            _ => writeln!(out, "{}", self.columns.row(event, &self.style)),
        }
    }
}

/// JSON says the same with every hostile character escaped, whoever made it.
fn harmless_json(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for char in line.chars() {
        if is_hostile(char) {
            char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        } else {
            text.push(char);
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
