//! `podwitness why`: how the containers of a pod died, or of a workload that is in none, and what happened right before.

mod tell;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use axum::http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use self::tell::{Answer, Death, counted, deaths, unwatched};
use crate::{
    config::Config,
    mistake::Mistake,
    remote::{Place, Remote, RemoteError, query},
};

/// How long before a death what failed may have to do with it.
const BEFORE: Duration = Duration::from_secs(10);
/// The agent sends what it has kept at once.
const KEPT: Duration = Duration::from_secs(1);
/// The label by which those are known that have no name, such as `host`.
const KIND: &str = "workload_kind";
/// Kept events that are looked at.
const MOST: usize = 10_000;

/// What the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `[NAMESPACE/]NAME`, if `place` doesn't name the pod; a workload's name where there are no pods.
    pub pod: Option<String>,
    pub place: Place,
    pub json: bool,
}

/// Asks once and prints.
pub fn run(options: &Options, config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(ask(options, config))?;
    let mut out = io::stdout().lock();
    let written = if options.json {
        let Answer { whose, deaths, counted, since, unwatched } = &answer;
        let report = json!({
            "pod": whose,
            "since": since,
            "counted": counted,
            "unwatched": unwatched,
            "deaths": deaths.iter().map(Death::json).collect::<Vec<_>>(),
        });
        writeln!(out, "{report:#}")
    } else {
        tell::write(&mut out, &answer)
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

async fn ask(options: &Options, config: &Config) -> Result<Answer> {
    let remote = Remote::new(&options.place, config).await?;
    let (namespace, name) = match (remote.pod(), options.pod.as_deref()) {
        (Some(pod), _) => (Some(pod.namespace.clone()), pod.name.clone()),
        // A cgroup's path is the name of a workload.
        (None, Some(pod)) => match pod.split_once('/').filter(|(namespace, _)| !namespace.is_empty()) {
            Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
            None => (None, pod.to_owned()),
        },
        (None, None) => bail!(Mistake(
            "whose deaths? Name a pod: `podwitness why shop/web-0`, or --pod shop/web-0; or, where there are none, a \
             workload: `podwitness why nginx.service`"
                .to_owned()
        )),
    };
    let known = remote.json("/v1/containers").await?;
    let known: Vec<_> = known["containers"].as_array().into_iter().flatten().collect();
    let Whose { by, namespace, name, containers } =
        whose(&known, namespace.as_deref(), &name).map_err(|unclear| anyhow!("{remote} {unclear}"))?;
    let whose = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    let status = remote.json("/v1/status").await?;
    let since = status["started"].as_str().and_then(|time| time.parse().ok());
    let counted = counted(&containers);
    let mut deaths = deaths(&containers);
    if status["live"]["kept"].as_u64().is_some_and(|kept| kept > 0)
        && let Some(first) = deaths.first()
        && let Ok(from) = first.time.checked_sub(BEFORE)
    {
        let events = failures(&remote, namespace, (by, name), from).await?;
        for death in &mut deaths {
            death.take_evidence(&events);
        }
    }
    Ok(Answer { whose, deaths, counted, since, unwatched: unwatched(&status["sensors"]) })
}

/// Those who are asked about, and by which of their labels they are known.
#[derive(Debug)]
struct Whose<'c> {
    by: &'static str,
    namespace: &'c str,
    name: &'c str,
    containers: Vec<&'c Value>,
}

/// The containers of the pod of that name; else those of the workload that is in no pod, such as a unit's or an engine's,
/// whose name, or the last part of it, this is; else the engine's container of that name; else what has no name but its
/// kind, such as `host`. Else why that isn't clear.
fn whose<'c>(known: &[&'c Value], namespace: Option<&str>, name: &str) -> Result<Whose<'c>, String> {
    let text = |container: &'c Value, label: &str| container[label].as_str().unwrap_or_default();
    // A workload may have a name of several parts: `shop/web` is a service of a project, or a cgroup.
    let whole = namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
    let is_there = |of: &'c Value| namespace.is_none_or(|namespace| text(of, "namespace") == namespace);
    let is_outside = |of: &'c Value| text(of, "pod").is_empty();
    let is_workload = |of: &'c Value| {
        let workload = text(of, "workload");
        let last = workload.rsplit_once('/').filter(|_| namespace.is_none()).map(|(_, last)| last);
        last == Some(name) || workload == whole || workload.strip_prefix('/') == Some(&whole)
    };
    let is_nameless = |of: &'c Value| text(of, "workload").is_empty() && text(of, "workload_kind") == whole;
    let ways: [(_, &dyn Fn(&'c Value) -> bool); 4] = [
        ("pod", &|of| is_there(of) && text(of, "pod") == name),
        ("workload", &|of| is_outside(of) && is_workload(of)),
        ("container", &|of| is_outside(of) && text(of, "container") == whole),
        (KIND, &|of| is_outside(of) && is_nameless(of)),
    ];
    let meant = |is_meant: &dyn Fn(&'c Value) -> bool| {
        known.iter().copied().filter(|of| is_meant(of)).collect::<Vec<_>>()
    };
    let mut found = ways.into_iter().map(|(by, is_meant)| (by, meant(is_meant)));
    let Some((by, containers)) = found.find(|(_, containers)| !containers.is_empty()) else {
        let place = namespace.map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default();
        return Err(format!(
            "knows no pod {name}{place}, and no workload or container of that name outside of pods: nothing of it has run there since the \
             agent started, or it is forgotten (metrics.grace), or goes by another name (`podwitness tail` shows the names)"
        ));
    };
    let (namespace, name) = (text(containers[0], "namespace"), text(containers[0], by));
    let mut others: Vec<_> = containers.iter().map(|container| text(container, by)).collect();
    others.retain(|other| *other != name);
    if let Some(other) = others.first() {
        return Err(format!("knows several, such as {name} and {other}: give the whole name of one"));
    }
    let mut elsewhere = containers.iter().map(|container| text(container, "namespace"));
    if let Some(other) = elsewhere.find(|other| *other != namespace) {
        return Err(format!(
            "knows several, such as {namespace}/{name} and {other}/{name}: say which namespace"
        ));
    }
    Ok(Whose { by, namespace, name, containers })
}

/// What failed there since then, as far as it is kept.
async fn failures(
    remote: &Remote,
    namespace: &str,
    (by, name): (&str, &str),
    from: Timestamp,
) -> Result<Vec<Value>, RemoteError> {
    let asked = Timestamp::now();
    let mut pairs = vec![
        ("filter", "errno".to_owned()),
        ("format", "ndjson".to_owned()),
        ("since", from.to_string()),
        ("namespace", namespace.to_owned()),
        (by, name.to_owned()),
    ];
    if by == KIND {
        // Others of the kind have a name.
        pairs.push(("workload", String::new()));
    }
    let pairs = query(&pairs);
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
