//! List, then watch, for as long as the agent lives:
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.
//!
//! Whatever goes wrong, the way back is the same: go on from the last version that was seen; where that doesn't work,
//! list again. What is known stays so meanwhile.

use std::{convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};

use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;

use super::{
    super::{SourceState, lines::Lines},
    Figures,
    api::{self, Api, JSON},
    error::{ApiError, Rule},
    mirror::Outcome,
    object::{Event, List},
    pace::Pace,
};

/// Objects of one page. A list from the server's cache comes in one page whatever is asked for.
const PAGE: usize = 500;
/// Bytes of a page: a thousand pods of the largest usual size.
const LARGEST_PAGE: usize = 64 << 20;
/// Bytes of an event: etcd refuses objects of more than 1.5 MiB, and JSON is larger than protobuf.
const LONGEST_LINE: usize = 8 << 20;
/// Failures in a row, with nothing in between, after which the version may be at fault.
const TRIES: u32 = 5;

/// How old a list may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Since {
    /// As old as the server's cache.
    Any,
    /// Not older than what has been seen.
    Version(String),
    /// Not older than now: from etcd itself.
    Now,
}

impl Since {
    fn query(&self) -> String {
        match self {
            Self::Any => "&resourceVersion=0".into(),
            Self::Version(version) => {
                format!("&resourceVersion={version}&resourceVersionMatch=NotOlderThan")
            }
            Self::Now => String::new(),
        }
    }
}

/// What is listed and watched, and what becomes of it.
pub(super) trait Feed {
    type Object: DeserializeOwned;

    fn api(&self) -> &Api;
    fn pace(&self) -> &Pace;
    fn figures(&self) -> &Figures;
    /// What the request takes.
    fn rule(&self, verb: &'static str) -> Rule;
    /// Where the objects are, up to the next parameter of the query.
    fn path(&self) -> String;
    /// Media types that are asked for: of a list, and of a watch.
    fn formats(&self) -> [&'static str; 2] {
        [JSON; 2]
    }
    /// Whether all else goes on without it: then, if it is forbidden, it is seldom tried again.
    fn is_optional(&self) -> bool {
        false
    }
    /// A list is not read on beyond as many objects.
    fn limit(&self) -> usize;
    fn version<'a>(&self, object: &'a Self::Object) -> &'a str;
    /// After a list: this is all there is. Returns for how much there is no room.
    fn replace(&self, objects: Vec<Self::Object>) -> usize;
    /// An object is there, or has changed.
    fn put(&self, object: &Self::Object) -> Outcome;
    /// An object is gone.
    fn remove(&self, object: &Self::Object) -> Outcome;
    /// Something could not be read.
    fn garbled(&self, count: u64);
    /// The server has said something.
    fn hears(&self);
    /// A watch has begun.
    fn works(&self);
    fn fails(&self, state: SourceState, error: &ApiError, wait: Duration);
}

/// Keeps up to date with the server.
pub(super) async fn run(feed: &impl Feed) -> Infallible {
    let mut backoff = feed.pace().backoff();
    let mut since = Since::Any;
    loop {
        match list(feed, &since).await {
            Ok(version) => {
                feed.works();
                since = watch_from(feed, version, &mut backoff).await;
            }
            Err(error) => {
                if matches!(error, ApiError::Expired) {
                    feed.figures().expired.fetch_add(1, Relaxed);
                    since = Since::Now;
                }
                fails(feed, &error, &mut backoff).await;
            }
        }
    }
}

/// A list from the server's cache and the beginning of a watch, for a look at whether that works.
pub(super) async fn check(feed: &impl Feed) -> Result<(), ApiError> {
    let version = list(feed, &Since::Any).await?;
    let path = format!("{}watch=1&resourceVersion={version}&timeoutSeconds=1", feed.path());
    feed.api().open(&path, feed.formats()[1], feed.rule("watch")).await.map(drop)
}

/// Returns the version of the list.
async fn list(feed: &impl Feed, since: &Since) -> Result<String, ApiError> {
    let mut objects = Vec::new();
    let mut rest = since.query();
    loop {
        let path = format!("{}limit={PAGE}{rest}", feed.path());
        let text = feed.api().get(&path, feed.formats()[0], feed.rule("list"), LARGEST_PAGE).await?;
        let page: List<_> =
            serde_json::from_slice(&text).map_err(|error| ApiError::Garbage(error.to_string()))?;
        // It may be larger than all that is kept of it.
        drop(text);
        let version = page.metadata.resource_version.clone();
        let more = page.metadata.more.clone().filter(|more| !more.is_empty());
        let (read, strange) = page.into_objects();
        feed.garbled(strange as u64);
        objects.extend(read);
        match more {
            Some(token) if objects.len() < feed.limit() => rest = format!("&continue={}", escaped(&token)),
            _ => {
                if !is_version(&version) {
                    return Err(ApiError::Garbage(format!("resourceVersion {version:?}")));
                }
                let refused = feed.replace(objects);
                feed.figures().refused.fetch_add(refused as u64, Relaxed);
                feed.figures().lists.fetch_add(1, Relaxed);
                feed.hears();
                return Ok(version);
            }
        }
    }
}

/// Watches again and again. Returns when that has come to its end.
async fn watch_from(feed: &impl Feed, mut version: String, backoff: &mut Backoff) -> Since {
    let mut stumbled = false;
    let mut failures = 0;
    loop {
        let started = tokio::time::Instant::now();
        let before = version.clone();
        let end = watch(feed, &mut version).await;
        let has_moved = version != before;
        stumbled &= !has_moved;
        if has_moved || started.elapsed() >= feed.pace().longest_wait {
            backoff.reset();
            failures = 0;
        }
        failures += 1;
        let Err(error) = end else {
            // The server ends every watch after some minutes. One that does so at once is left alone for a while.
            if failures > 1 {
                sleep(backoff.next(None)).await;
            }
            continue;
        };
        let is_garbage = matches!(error, ApiError::Garbage(_) | ApiError::TooLarge(_));
        // What can't be read comes again with the next watch, unless it was damaged on its way.
        let is_lost = matches!(error, ApiError::Expired) || is_garbage && stumbled || failures >= TRIES;
        stumbled |= is_garbage;
        if matches!(error, ApiError::Expired) {
            feed.figures().expired.fetch_add(1, Relaxed);
            // Nothing has failed; but a server may say so every time.
            sleep(backoff.next(None)).await;
        } else {
            fails(feed, &error, backoff).await;
        }
        if is_lost {
            return Since::Version(version);
        }
    }
}

/// Reads one watch to its end and moves `version` along.
async fn watch(feed: &impl Feed, version: &mut String) -> Result<(), ApiError> {
    let path = format!(
        "{}watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={}",
        feed.path(),
        feed.pace().watch_seconds()
    );
    let mut body = feed.api().open(&path, feed.formats()[1], feed.rule("watch")).await?;
    feed.figures().watches.fetch_add(1, Relaxed);
    feed.works();
    let mut lines = Lines::new(LONGEST_LINE);
    let silence = feed.pace().silence;
    while let Some(frame) = timeout(silence, body.frame()).await.map_err(|_| ApiError::Silent(silence))? {
        let frame = frame.map_err(|error| ApiError::Broken(crate::causes::with_causes(&error)))?;
        lines.push(&frame.into_data().unwrap_or_default());
        while let Some(line) = lines.next() {
            let event = match line {
                Ok(line) => Event::parse(line).map_err(|error| ApiError::Garbage(error.to_string())),
                Err(_) => Err(ApiError::TooLarge(LONGEST_LINE)),
            };
            feed.hears();
            apply(feed, event.inspect_err(|_| feed.garbled(1))?, version)?;
        }
    }
    Ok(())
}

fn apply<F: Feed>(feed: &F, event: Event<F::Object>, version: &mut String) -> Result<(), ApiError> {
    let figures = feed.figures();
    let (outcome, object) = match &event {
        Event::Put(object) => (feed.put(object), object),
        Event::Gone(object) => (feed.remove(object), object),
        Event::Bookmark { version: at } => {
            advance(version, at);
            return Ok(());
        }
        Event::Error { code, message } => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Err(api::refusal(status, message, None, feed.rule("watch")));
        }
        Event::Other => {
            feed.garbled(1);
            return Ok(());
        }
    };
    figures.events.fetch_add(1, Relaxed);
    match outcome {
        Outcome::Applied => _ = figures.applied.fetch_add(1, Relaxed),
        Outcome::Stale | Outcome::Foreign => _ = figures.stale.fetch_add(1, Relaxed),
        Outcome::Refused => _ = figures.refused.fetch_add(1, Relaxed),
    }
    advance(version, feed.version(object));
    Ok(())
}

/// Never back: an event that comes late would bring all later ones again.
fn advance(version: &mut String, at: &str) {
    let is_older =
        matches!((at.parse::<u64>(), version.parse::<u64>()), (Ok(at), Ok(version)) if at < version);
    if is_version(at) && !is_older {
        at.clone_into(version);
    }
}

/// Versions go into a query. They are numbers; others that need no escape are let through.
fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Percent-encoded.
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            out.push(char::from(byte));
        } else {
            // Writing to a string doesn't fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

async fn fails(feed: &impl Feed, error: &ApiError, backoff: &mut Backoff) {
    let mut wait = backoff.next(error.retry_after());
    if feed.is_optional() && matches!(error, ApiError::Forbidden(_)) {
        wait = feed.pace().forbidden;
    }
    feed.fails(SourceState::Failed, error, wait);
    sleep(wait).await;
}
