//! Reading on where a connection broke off.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use axum::http::{HeaderName, HeaderValue, header};
use serde_json::Value;

use super::{Options, Printer};
use crate::{
    backoff::Backoff,
    harmless::Harmless,
    remote::{Lines, Remote, RemoteError, query},
};

/// An agent that starts again is there after seconds, and a DaemonSet that is rolled has its new one within a minute or
/// so, if the image has to be pulled.
const PATIENCE: Duration = Duration::from_secs(120);
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How a stream ended.
enum End {
    /// As many events as were asked for.
    Enough,
    /// The agent said goodbye.
    Farewell,
    Broken(RemoteError),
}

/// What was seen, and what is still to come.
pub(super) struct Reading<'a> {
    options: &'a Options,
    remote: &'a Remote,
    printer: Printer,
    last: Option<String>,
    left: Option<u64>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(options: &'a Options, remote: &'a Remote, printer: Printer) -> Self {
        Self { options, remote, printer, last: None, left: options.limit }
    }

    /// Prints events until the agent ends, or as many as were asked for.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut lines = self.open().await?;
        loop {
            let why = match self.print(lines).await? {
                End::Enough => return Ok(()),
                End::Farewell if !self.remote.is_replaced() => return Ok(()),
                End::Farewell => "the agent stops".to_owned(),
                End::Broken(error) if !error.may_pass() => return Err(error.into()),
                End::Broken(error) => error.to_string(),
            };
            // Not among the events: whoever reads them as JSON isn't to stumble over it.
            eprintln!("-- {}; trying again for {PATIENCE:?}", Harmless(&why));
            lines = self.again(&why).await?;
            let unknown = if self.last.is_some() { "" } else { "; what happened in between isn't known" };
            eprintln!("-- reading on from {}{unknown}", lines.whose());
        }
    }

    async fn again(&self, why: &str) -> Result<Lines> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let begin = Instant::now();
        loop {
            tokio::time::sleep(backoff.next(None)).await;
            match self.open().await {
                Ok(lines) => return Ok(lines),
                Err(error) if !error.may_pass() => return Err(error.into()),
                Err(error) if begin.elapsed() > PATIENCE => {
                    let first = format!("{}, and no other has come up since", Harmless(why));
                    return Err(anyhow::Error::new(error).context(first));
                }
                Err(_) => {}
            }
        }
    }

    async fn open(&self) -> Result<Lines, RemoteError> {
        let mut pairs = vec![("filter", self.options.filter.clone()), ("format", "ndjson".to_owned())];
        if let Some(pod) = self.remote.pod() {
            pairs.extend([("namespace", pod.namespace.clone()), ("pod", pod.name.clone())]);
        }
        pairs.extend(self.left.map(|left| ("limit", left.to_string())));
        pairs.extend(self.options.paths.then(|| ("paths", "true".to_owned())));
        let mut headers = vec![(header::ACCEPT, HeaderValue::from_static("application/x-ndjson"))];
        match self.last.as_deref().map(HeaderValue::from_str) {
            Some(Ok(id)) => headers.push((LAST_EVENT_ID, id)),
            _ => pairs.extend(self.options.since.clone().map(|since| ("since", since))),
        }
        self.remote.lines(&format!("/v1/events?{}", query(&pairs)), &headers).await
    }

    /// An error is one of the output, or of something that is no agent.
    async fn print(&mut self, mut lines: Lines) -> Result<End> {
        let mut is_farewell = false;
        loop {
            let batch = match lines.next().await {
                Ok(Some(batch)) => batch,
                Ok(None) if self.left == Some(0) => return Ok(End::Enough),
                Ok(None) if is_farewell => return Ok(End::Farewell),
                Ok(None) => return Ok(End::Broken(RemoteError::Ended)),
                Err(_) if self.left == Some(0) => return Ok(End::Enough),
                Err(error) => return Ok(End::Broken(error)),
            };
            let mut out = io::stdout().lock();
            for line in batch {
                let event: Value =
                    serde_json::from_str(&line).context("the agent said something that is no JSON")?;
                is_farewell |= event["kind"] == "notice.end";
                if let Some(id) = event["id"].as_str() {
                    self.last = Some(id.to_owned());
                    self.left = match self.left {
                        Some(0) => bail!("the agent sends more events than were asked for"),
                        left => left.map(|left| left - 1),
                    };
                }
                self.printer.print(&line, &event, &mut out)?;
            }
            out.flush()?;
        }
    }
}
