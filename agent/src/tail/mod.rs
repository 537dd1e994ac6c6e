//! `podwitness tail`: the live events of an agent, a line each, for people in front of a terminal.

mod client;
mod columns;
mod detail;
mod style;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal as _, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub use self::style::Colour;
use self::{
    client::{Lines, Target},
    columns::Columns,
    style::Style,
};
use crate::{
    config::Config,
    filter::Filter,
    harmless::{Harmless, is_hostile},
};

/// What the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// In the filter language.
    pub filter: String,
    /// Where the agent is; the local one without.
    pub address: Option<String>,
    pub token_file: Option<PathBuf>,
    pub output: Output,
    pub colour: Colour,
    pub since: Option<String>,
    pub limit: Option<u64>,
    /// The paths in the arguments of system calls that the filter names, too.
    pub paths: bool,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Columns that fit a terminal.
    #[default]
    Text,
    /// Nothing is cut short, nothing left out.
    Wide,
    /// As the agent sends it.
    Json,
}

/// Prints events until the agent ends, or as many as were asked for.
pub fn run(options: &Options, config: &Config) -> Result<()> {
    if let Err(error) = Filter::parse(&options.filter) {
        let pointer = error.pointer(&options.filter);
        bail!("{}\n\n{pointer}\n\ndocs/filter.md has all fields and operators", Harmless(&error.to_string()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(follow(options, config)) {
        // The reader has seen enough: `podwitness tail | head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

async fn follow(options: &Options, config: &Config) -> Result<()> {
    let address = options.address.clone().unwrap_or_else(|| local(config.debug.listen).to_string());
    let token_file =
        options.token_file.clone().or_else(|| config.debug.token_file.clone().map(PathBuf::from));
    let target = Target::new(&address, token_file.as_deref())?;
    let mut query = vec![("filter", options.filter.clone()), ("format", "ndjson".to_owned())];
    query.extend(options.since.clone().map(|since| ("since", since)));
    query.extend(options.limit.map(|limit| ("limit", limit.to_string())));
    query.extend(options.paths.then(|| ("paths", "true".to_owned())));
    let mut lines = Lines::open(&target, &query).await?;

    let stdout = io::stdout();
    let style = Style::new(options.colour, stdout.is_terminal());
    let mut printer =
        Printer { columns: Columns::new(options.output == Output::Wide), style, output: options.output };
    let (mut events, mut has_ended) = (0, false);
    while let Some(batch) = lines.next().await? {
        let mut out = stdout.lock();
        for line in batch {
            let event: Value =
                serde_json::from_str(&line).context("the agent said something that is no JSON")?;
            has_ended |= event["kind"] == "notice.end";
            events += u64::from(event["id"].is_string());
            printer.print(&line, &event, &mut out)?;
        }
        out.flush()?;
    }
    if !has_ended && options.limit.is_none_or(|limit| events < limit) {
        bail!("the connection to {address} ended: is the agent still running?");
    }
    Ok(())
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
        if self.output == Output::Json {
            return writeln!(out, "{}", harmless_json(line));
        }
        match kind {
            "notice.heartbeat" => Ok(()),
            _ if kind.starts_with("notice.") => {
                let message = event["message"].as_str().unwrap_or(kind);
                writeln!(out, "{}", self.style.notice(&format!("-- {}", Harmless(message))))
            }
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

/// An address that a client on this machine can use.
fn local(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
