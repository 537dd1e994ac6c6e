//! Who has which address in the whole cluster: EndpointSlices, Services and Nodes, watched.
//!
//! The service account needs `list` and `watch` on services and nodes, and on `endpointslices` (discovery.k8s.io). Each
//! is watched by itself: one that is forbidden leaves the others at work.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod object;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use self::object::Object;
use super::{
    AccessError, ApiError, Figures, Rule,
    access::Access,
    api::Api,
    lock,
    mirror::Outcome,
    pace::Pace,
    sync::{self, Feed},
};
use crate::{
    identity::{
        names::SourceState,
        peers::{Origin, Peers},
    },
    kernel::give_memory_back,
};

/// What is watched.
const ORIGINS: [Origin; 3] = [Origin::EndpointSlices, Origin::Services, Origin::Nodes];

/// The source. It does nothing until it [`runs`](Self::run).
#[derive(Clone, Debug)]
pub struct Cluster {
    watched: Arc<[Watched; 3]>,
}

/// How one kind of object does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStats {
    /// As in the API: `endpointslices`, `services`, `nodes`.
    pub resource: &'static str,
    pub state: SourceState,
    /// Lists and watches that failed.
    pub failures: u64,
    /// Lines and items that could not be read.
    pub garbage: u64,
    /// Changes that a watch told of.
    pub events: u64,
    pub lists: u64,
    /// Why it doesn't work, if it doesn't.
    pub problem: Option<String>,
}

impl ClusterStats {
    /// Where nothing is watched.
    pub fn absent() -> [Self; 3] {
        ORIGINS.map(|origin| Self {
            resource: rule(origin, "").resource,
            state: SourceState::Absent,
            failures: 0,
            garbage: 0,
            events: 0,
            lists: 0,
            problem: None,
        })
    }
}

/// One kind of object.
#[derive(Debug)]
struct Watched {
    origin: Origin,
    api: Arc<Api>,
    pace: Pace,
    peers: Arc<Peers>,
    /// Addresses that are kept; objects have one at the least.
    limit: usize,
    figures: Figures,
    failures: AtomicU64,
    garbage: AtomicU64,
    state: Mutex<(SourceState, Option<String>)>,
}

impl Cluster {
    /// Nothing is connected yet. `limit` is that of the addresses in `peers`.
    pub fn new(kubeconfig: Option<&Path>, limit: usize, peers: Arc<Peers>) -> Result<Self, AccessError> {
        Ok(Self::with(Access::find(kubeconfig)?, limit, Pace::default(), &peers))
    }

    fn with(access: Access, limit: usize, pace: Pace, peers: &Arc<Peers>) -> Self {
        let api = Arc::new(Api::new(access, pace.answer));
        let watched = ORIGINS.map(|origin| Watched {
            origin,
            api: Arc::clone(&api),
            pace,
            peers: Arc::clone(peers),
            limit,
            figures: Figures::default(),
            failures: AtomicU64::default(),
            garbage: AtomicU64::default(),
            state: Mutex::new((SourceState::Connecting, None)),
        });
        Self { watched: Arc::new(watched) }
    }

    /// Tells the peers until it is dropped. Whatever fails is tried again.
    pub async fn run(self) {
        let [slices, services, nodes] = &*self.watched;
        tokio::select! {
            never = sync::run(slices) => match never {},
            never = sync::run(services) => match never {},
            never = sync::run(nodes) => match never {},
        }
    }

    /// Asks for everything once, without going on: for `podwitness doctor`.
    pub async fn check(&self) -> Result<(), ApiError> {
        for watched in &*self.watched {
            sync::check(watched).await?;
        }
        Ok(())
    }

    pub fn stats(&self) -> [ClusterStats; 3] {
        self.watched.each_ref().map(|watched| {
            let (state, problem) = lock(&watched.state).clone();
            ClusterStats {
                resource: watched.rule("").resource,
                state,
                failures: watched.failures.load(Relaxed),
                garbage: watched.garbage.load(Relaxed),
                events: watched.figures.events.load(Relaxed),
                lists: watched.figures.lists.load(Relaxed),
                problem,
            }
        })
    }
}

fn rule(origin: Origin, verb: &'static str) -> Rule {
    match origin {
        Origin::EndpointSlices => Rule { group: "discovery.k8s.io", resource: "endpointslices", verb },
        Origin::Services => Rule { group: "", resource: "services", verb },
        Origin::Nodes | Origin::Own => Rule { group: "", resource: "nodes", verb },
    }
}

/// Events are believed in the order in which they come, which is that of the changes.
impl Feed for Watched {
    type Object = Object;

    fn api(&self) -> &Api {
        &self.api
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn figures(&self) -> &Figures {
        &self.figures
    }

    fn rule(&self, verb: &'static str) -> Rule {
        rule(self.origin, verb)
    }

    fn path(&self) -> String {
        let Rule { group, resource, .. } = self.rule("");
        if group.is_empty() {
            format!("/api/v1/{resource}?")
        } else {
            format!("/apis/{group}/v1/{resource}?")
        }
    }

    fn limit(&self) -> usize {
        self.limit
    }

    fn version<'a>(&self, object: &'a Object) -> &'a str {
        &object.metadata.resource_version
    }

    /// What is refused, the peers count.
    fn replace(&self, objects: Vec<Object>) -> usize {
        let claims = objects.into_iter().filter_map(|object| {
            let claim = object.claim(self.origin)?;
            Some((object.metadata.uid, claim))
        });
        self.peers.replace(self.origin, claims.collect());
        // A list takes many times what is kept of it.
        give_memory_back();
        0
    }

    fn put(&self, object: &Object) -> Outcome {
        match object.claim(self.origin) {
            Some(claim) => self.peers.put(self.origin, &object.metadata.uid, &claim),
            None => self.peers.remove(self.origin, &object.metadata.uid),
        }
        Outcome::Applied
    }

    fn remove(&self, object: &Object) -> Outcome {
        self.peers.remove(self.origin, &object.metadata.uid);
        Outcome::Applied
    }

    fn garbled(&self, count: u64) {
        self.garbage.fetch_add(count, Relaxed);
    }

    fn hears(&self) {}

    fn is_optional(&self) -> bool {
        true
    }

    fn works(&self) {
        let before = std::mem::replace(&mut *lock(&self.state), (SourceState::Connected, None));
        if before.1.is_some() {
            tracing::info!(resource = self.rule("").resource, "peers can be watched again");
        }
    }

    fn fails(&self, state: SourceState, error: &ApiError, wait: Duration) {
        self.failures.fetch_add(1, Relaxed);
        let text = error.to_string();
        let before = std::mem::replace(&mut *lock(&self.state), (state, Some(text.clone())));
        // Once for each problem: an outage may last for hours.
        if before.1.as_ref() == Some(&text) {
            tracing::debug!(%error, ?wait, "peers still can't be watched");
        } else {
            tracing::warn!(%error, ?wait, "peers can't be watched; names go on from what is known");
        }
    }
}
