//! `podwitness top`: what the containers of a node do right now, in a table; and one of them closely.
//!
//! [`source`] asks the agent, [`rates`] makes rates of two answers, [`app`] is what is shown and what keys do to it,
//! [`view`] draws that, and [`screen`] has the terminal.

mod app;
mod columns;
mod detail;
mod rates;
mod screen;
mod source;
#[cfg(test)]
mod tests;
mod told;
mod view;

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail};
use tokio::time::{interval, sleep};

use self::{
    app::App,
    columns::{COLUMNS, Column, Sort, plain},
    source::Source,
};
use crate::{
    config::Config,
    filter::{Field, Filter},
    harmless::Harmless,
    mistake::Mistake,
    remote::{Place, Remote, cluster::PodName},
};

/// The agent gives an answer again for half a second.
pub const SHORTEST: Duration = Duration::from_millis(500);
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Where one looks first.
pub const SORT: &str = "calls";
/// How often an answer is asked for that is not the last one again.
const AGAIN: Duration = Duration::from_millis(100);

/// What the user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which containers, in the filter language.
    pub filter: String,
    /// Which agent.
    pub place: Place,
    pub interval: Duration,
    /// The name of a column.
    pub sort: String,
    /// Print one table, although there is a terminal.
    pub once: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: String::new(),
            place: Place::default(),
            interval: INTERVAL,
            sort: SORT.into(),
            once: false,
        }
    }
}

/// Names of the columns that can be sorted by.
pub fn columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|column| column.name)
}

/// Shows the containers until somebody leaves; without a terminal, prints them once.
pub fn run(options: &Options, config: &Config) -> Result<()> {
    let filter = match Filter::of_containers(&options.filter) {
        Ok(filter) => filter,
        Err(error) => {
            let pointer = error.pointer(&options.filter);
            let said = error.to_string();
            let said = Harmless(&said);
            bail!(Mistake(format!("{said}\n\n{pointer}\n\ndocs/filter.md has all operators")));
        }
    };
    let Some(column) = Column::by_name(&options.sort) else {
        let names = columns().collect::<Vec<_>>().join(", ");
        bail!(Mistake(format!("there is no column {}: there are {names}", Harmless(&options.sort))));
    };
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let remote = runtime.block_on(Remote::new(&options.place, config))?;
    let (text, filter) = match remote.pod() {
        Some(pod) => {
            let filter = of_pod(pod, filter)?;
            (filter.to_string(), filter)
        }
        None => (options.filter.clone(), filter),
    };
    let source = Source::new(remote);
    let sort = Sort { column, is_reversed: false };
    let app = App::new(source.name(), text, filter, sort);
    if options.once || is_dumb || !io::stdout().is_terminal() {
        return runtime.block_on(once(source, app, options.interval));
    }
    runtime.block_on(screen::run(source, app, options.interval))
}

/// The containers of one pod, of those that are wanted.
fn of_pod(pod: &PodName, wanted: Filter) -> Result<Filter> {
    let mut filter = wanted;
    for (name, value) in [("namespace", &pod.namespace), ("pod", &pod.name)] {
        let field = Field::by_name(name).context("a label is no field")?;
        filter = filter.and(Filter::any_of(field, [value.as_str()]).map_err(Error::msg)?);
    }
    Ok(filter)
}

/// Prints what happened within one interval.
async fn once(source: Source, mut app: App, every: Duration) -> Result<()> {
    app.watch.take(source.look().await?);
    sleep(every).await;
    let mut again = interval(AGAIN);
    loop {
        again.tick().await;
        if app.watch.take(source.look().await?) {
            break;
        }
    }
    let mut out = io::stdout().lock();
    match out.write_all(plain(&app.rows()).as_bytes()).and_then(|()| out.flush()) {
        // The reader has seen enough: `podwitness top | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}
