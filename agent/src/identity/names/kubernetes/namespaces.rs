//! What namespaces say for all their pods: a list, then a watch, of their metadata only. A node works without it: where
//! RBAC forbids to look, only the pods' own words count.

use std::{collections::HashMap, convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};

use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::{
    super::lines::Lines,
    Shared,
    api::{self, METADATA, METADATA_LIST, whole},
    error::{ApiError, Rule},
    lock,
    object::{Annotations, Event, Labels, List, MetaOnly},
    pod::observe,
    sync::{self, Feed as _, advance, escaped},
};

const LIST: Rule = Rule { group: "", resource: "namespaces", verb: "list" };
const WATCH: Rule = Rule { group: "", resource: "namespaces", verb: "watch" };
/// Namespaces of one page.
const PAGE: usize = 500;
/// Bytes of a page, and of an event. Annotations may hold 256 KiB.
const LARGEST_PAGE: usize = 64 << 20;
const LONGEST_LINE: usize = 2 << 20;
/// How long pods wait for the first list: those of a namespace that declines should never be shown.
const FIRST: Duration = Duration::from_secs(3);

/// What is read of a namespace.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Namespace {
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// The first list, if it comes soon: its version.
pub(super) async fn first(shared: &Shared) -> Option<String> {
    timeout(FIRST, list(shared)).await.ok()?.ok()
}

/// Keeps what the namespaces say up to date, from the version of a list on.
pub(super) async fn run(shared: &Shared, mut listed: Option<String>) -> Infallible {
    let mut backoff = shared.pace.backoff();
    loop {
        let result = match listed.take() {
            Some(version) => watch_from(shared, version).await,
            None => list(shared).await.map(|version| listed = Some(version)),
        };
        let Err(error) = result else {
            backoff.reset();
            continue;
        };
        let wait = match error {
            // Nothing has failed.
            ApiError::Expired => backoff.next(None),
            _ => {
                fails(shared, &error);
                let wait = backoff.next(error.retry_after());
                if matches!(error, ApiError::Forbidden(_)) { shared.pace.forbidden } else { wait }
            }
        };
        sleep(wait).await;
    }
}

fn fails(shared: &Shared, error: &ApiError) {
    shared.figures.namespace_failures.fetch_add(1, Relaxed);
    let text = error.to_string();
    let before = lock(&shared.namespace_problem).replace(text.clone());
    // Once for each problem.
    if before.as_ref() != Some(&text) {
        tracing::warn!(%error, "namespaces aren't asked whether they decline; what pods say still counts");
    }
}

/// Returns the version of the list.
pub(super) async fn list(shared: &Shared) -> Result<String, ApiError> {
    let mut choices = HashMap::new();
    let mut rest = "&resourceVersion=0".to_owned();
    loop {
        let path = format!("/api/v1/namespaces?limit={PAGE}{rest}");
        let page = shared.api.get(&path, METADATA_LIST, LIST, LARGEST_PAGE).await?;
        let page: List<MetaOnly<Namespace>> =
            serde_json::from_slice(&page).map_err(|error| ApiError::Garbage(error.to_string()))?;
        let (version, more) = (page.metadata.resource_version.clone(), page.metadata.more.clone());
        let (objects, strange) = page.into_objects();
        shared.garbled(strange as u64);
        for MetaOnly { metadata: Namespace { name, labels, annotations, .. } } in objects {
            if let Some(observe) = observe(labels.as_ref(), annotations.as_ref()) {
                choices.insert(name, observe);
            }
        }
        match more.filter(|more| !more.is_empty()) {
            Some(token) if choices.len() < shared.limit => rest = format!("&continue={}", escaped(&token)),
            _ => {
                if !sync::is_version(&version) {
                    return Err(ApiError::Garbage(format!("resourceVersion {version:?}")));
                }
                shared.names.replace_namespaces(choices);
                return Ok(version);
            }
        }
    }
}

/// A list and the beginning of a watch, for a look at whether that works.
pub(super) async fn check(shared: &Shared) -> Result<(), ApiError> {
    let version = list(shared).await?;
    let path = format!("/api/v1/namespaces?watch=1&resourceVersion={version}&timeoutSeconds=1");
    shared.api.open(&path, METADATA, WATCH).await.map(drop)
}

/// Watches again and again, until something goes wrong.
async fn watch_from(shared: &Shared, mut version: String) -> Result<(), ApiError> {
    loop {
        let started = tokio::time::Instant::now();
        watch(shared, &mut version).await?;
        // The server ends every watch after some minutes. One that does so at once is left alone for a while.
        if started.elapsed() < shared.pace.longest_wait {
            sleep(shared.pace.longest_wait).await;
        }
    }
}

async fn watch(shared: &Shared, version: &mut String) -> Result<(), ApiError> {
    let path = format!(
        "/api/v1/namespaces?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={}",
        shared.pace.watch_seconds()
    );
    let mut body = shared.api.open(&path, METADATA, WATCH).await?;
    lock(&shared.namespace_problem).take();
    let mut lines = Lines::new(LONGEST_LINE);
    let silence = shared.pace.silence;
    while let Some(frame) = timeout(silence, body.frame()).await.map_err(|_| ApiError::Silent(silence))? {
        let frame = frame.map_err(|error| ApiError::Broken(whole(&error)))?;
        lines.push(&frame.into_data().unwrap_or_default());
        while let Some(line) = lines.next() {
            let event = match line {
                Ok(line) => Event::<MetaOnly<Namespace>>::parse(line)
                    .map_err(|error| ApiError::Garbage(error.to_string())),
                Err(_) => Err(ApiError::TooLarge(LONGEST_LINE)),
            };
            apply(shared, event.inspect_err(|_| shared.garbled(1))?, version)?;
        }
    }
    Ok(())
}

fn apply(shared: &Shared, event: Event<MetaOnly<Namespace>>, version: &mut String) -> Result<(), ApiError> {
    let at = match event {
        Event::Put(object) => {
            let Namespace { name, resource_version, labels, annotations } = object.metadata;
            shared.names.set_namespace(name, observe(labels.as_ref(), annotations.as_ref()));
            resource_version
        }
        Event::Gone(object) => {
            shared.names.set_namespace(object.metadata.name, None);
            object.metadata.resource_version
        }
        Event::Bookmark { version } => version,
        Event::Error { code, message } => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Err(api::refusal(status, &message, None, WATCH));
        }
        Event::Other => {
            shared.garbled(1);
            return Ok(());
        }
    };
    advance(version, &at);
    Ok(())
}
