//! `podwitness why`: how the containers of a pod died, and what happened right before.

mod tell;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Result, bail};
use axum::http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use self::tell::{Death, deaths};
use crate::{
    config::Config,
    remote::{Place, Remote, RemoteError, query},
};

/// How long before a death what failed may have to do with it.
const BEFORE: Duration = Duration::from_secs(10);
/// The agent sends what it has kept at once.
const KEPT: Duration = Duration::from_secs(1);
/// Kept events that are looked at.
const MOST: usize = 10_000;

/// What the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `[NAMESPACE/]NAME`, if `place` doesn't name the pod.
    pub pod: Option<String>,
    pub place: Place,
    pub json: bool,
}

/// Asks once and prints.
pub fn run(options: &Options, config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (whose, deaths, since) = runtime.block_on(ask(options, config))?;
    let mut out = io::stdout().lock();
    let written = if options.json {
        let report = json!({
            "pod": whose,
            "since": since,
            "deaths": deaths.iter().map(Death::json).collect::<Vec<_>>(),
        });
        writeln!(out, "{report:#}")
    } else {
        tell::write(&mut out, &whose, &deaths, since)
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The pod, its deaths, and since when the agent has been looking.
async fn ask(options: &Options, config: &Config) -> Result<(String, Vec<Death>, Option<Timestamp>)> {
    let remote = Remote::new(&options.place, config).await?;
    let (namespace, name) = match (remote.pod(), options.pod.as_deref()) {
        (Some(pod), _) => (Some(pod.namespace.clone()), pod.name.clone()),
        (None, Some(pod)) => match pod.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
            None => (None, pod.to_owned()),
        },
        (None, None) => bail!("whose deaths? Name a pod: `podwitness why shop/web-0`, or --pod shop/web-0"),
    };
    let known = remote.json("/v1/containers").await?;
    let is_meant = |container: &&Value| {
        container["pod"] == name.as_str()
            && namespace.as_deref().is_none_or(|namespace| container["namespace"] == namespace)
    };
    let meant: Vec<_> = known["containers"].as_array().into_iter().flatten().filter(is_meant).collect();
    let Some(namespace) = meant.first().and_then(|container| container["namespace"].as_str()) else {
        bail!(
            "{remote} knows no pod {name}{}: nothing of it has run there since the agent started, or it goes by another \
             name (`podwitness tail` shows the names)",
            namespace.map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default()
        );
    };
    let whose = format!("{namespace}/{name}");
    let status = remote.json("/v1/status").await?;
    let since = status["started"].as_str().and_then(|time| time.parse().ok());
    let mut deaths = deaths(&meant);
    if status["live"]["kept"].as_u64().is_some_and(|kept| kept > 0)
        && let Some(first) = deaths.first()
        && let Ok(from) = first.time.checked_sub(BEFORE)
    {
        let events = failures(&remote, namespace, &name, from).await?;
        for death in &mut deaths {
            death.take_evidence(&events);
        }
    }
    Ok((whose, deaths, since))
}

/// What failed in the pod since then, as far as it is kept.
async fn failures(
    remote: &Remote,
    namespace: &str,
    pod: &str,
    from: Timestamp,
) -> Result<Vec<Value>, RemoteError> {
    let asked = Timestamp::now();
    let pairs = query(&[
        ("filter", "errno".to_owned()),
        ("format", "ndjson".to_owned()),
        ("since", from.to_string()),
        ("namespace", namespace.to_owned()),
        ("pod", pod.to_owned()),
    ]);
    let accept = (header::ACCEPT, HeaderValue::from_static("application/x-ndjson"));
    let mut lines = remote.lines(&format!("/v1/events?{pairs}"), &[accept]).await?;
    let mut events: Vec<Value> = Vec::new();
    // Afterwards come those that happen now.
    while let Ok(Some(batch)) = timeout(KEPT, lines.next()).await.unwrap_or(Ok(None)) {
        let parsed = batch.iter().filter_map(|line| serde_json::from_str(line).ok());
        events.extend(parsed.filter(|event: &Value| event["id"].is_string()));
        let is_now = events.last().and_then(tell::time_of).is_some_and(|time| time >= asked);
        if is_now || events.len() >= MOST {
            break;
        }
    }
    Ok(events)
}
