//! Asks what ReplicaSets and Jobs belong to, one after the other, besides the watch.

use std::{convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Shared,
    api::METADATA,
    error::{ApiError, Rule},
    object::{Meta, MetaOnly},
    owners::{Lookup, Middle},
};

/// A server that doesn't know `PartialObjectMetadata` sends the whole object.
const LARGEST: usize = 4 << 20;

/// After so many failures in a row nobody waits for answers any more.
const HOPELESS: u32 = 2;

/// Answers every question that the pods raise.
pub(super) async fn run(shared: &Shared) -> Infallible {
    let mut backoff = shared.pace.backoff();
    // By `Middle`: until when it is not worth asking.
    let mut forbidden = [None::<Instant>; Middle::ALL.len()];
    // In a row.
    let mut failures = 0;
    loop {
        let now = Instant::now();
        let may_ask = permitted(&forbidden, now);
        let next = shared.mirror().owners().next(|middle| may_ask[middle as usize]);
        let Some(lookup) = next else {
            // The first that may be asked again, or something new. Nothing can be waited for a month.
            let until = forbidden.iter().flatten().copied().filter(|until| *until > now).min();
            let until = until.unwrap_or_else(|| now + Duration::from_secs(30 * 86400));
            _ = timeout_at(until, shared.wanted.notified()).await;
            continue;
        };
        let outcome = ask(shared, &lookup).await;
        let middle = lookup.middle;
        match outcome {
            Ok(found) => {
                backoff.reset();
                failures = 0;
                let workload = lookup.answer(found.as_ref().map(|object| &object.metadata));
                shared.mirror().learn(&lookup, workload, &shared.names, std::time::Instant::now());
                shared.expect_owners(permitted(&forbidden, Instant::now()));
                shared.figures.lookups.fetch_add(1, Relaxed);
            }
            Err(error) => {
                let wait = backoff.next(error.retry_after());
                shared.mirror().owners().postpone(lookup);
                shared.figures.lookup_failures.fetch_add(1, Relaxed);
                if let ApiError::Forbidden(_) = error {
                    if forbidden[middle as usize].is_none() {
                        tracing::warn!(%error, "workloads are told by the names of their pods' owners");
                    }
                    forbidden[middle as usize] = Some(Instant::now() + shared.pace.forbidden);
                    shared.expect_owners(permitted(&forbidden, Instant::now()));
                } else {
                    failures += 1;
                    // A single one may be a server that is asked by many at once.
                    if failures >= HOPELESS {
                        shared.expect_owners([false; Middle::ALL.len()]);
                    }
                    tracing::debug!(%error, ?wait, "the owner of a pod could not be asked for");
                    sleep(wait).await;
                }
            }
        }
    }
}

/// By `Middle`: whether it is worth asking.
fn permitted(forbidden: &[Option<Instant>; Middle::ALL.len()], now: Instant) -> [bool; Middle::ALL.len()] {
    forbidden.map(|until| until.is_none_or(|until| until <= now))
}

/// What may not be asked for.
pub(super) async fn check(shared: &Shared) -> Vec<ApiError> {
    let mut lacks = Vec::new();
    for middle in Middle::ALL {
        let Rule { group, resource, .. } = middle.rule();
        // RBAC answers first, whether there is such an object or not.
        let path = format!("/apis/{group}/v1/namespaces/default/{resource}/podwitness-doctor");
        match shared.api.get(&path, METADATA, middle.rule(), LARGEST).await {
            Ok(_) | Err(ApiError::NotFound) => {}
            Err(error) => lacks.push(error),
        }
    }
    lacks
}

/// None if there is no such object any more.
async fn ask(shared: &Shared, lookup: &Lookup) -> Result<Option<MetaOnly<Meta>>, ApiError> {
    match shared.api.get(&lookup.path(), METADATA, lookup.middle.rule(), LARGEST).await {
        Ok(text) => {
            serde_json::from_slice(&text).map(Some).map_err(|error| ApiError::Garbage(error.to_string()))
        }
        Err(ApiError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
