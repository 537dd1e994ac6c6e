//! Names from the Kubernetes API: the pods of this node, watched, and what they belong to.
//!
//! The service account needs `list` and `watch` on pods; the same on namespaces, for those that decline to be observed;
//! and, for workloads whose names don't follow the usual form, `get` on `replicasets` (apps) and `jobs` (batch).

mod access;
mod api;
pub mod cluster;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod lookups;
mod mirror;
mod namespaces;
mod object;
mod owners;
mod pace;
mod pod;
pub mod service;
mod sync;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;

pub(crate) use self::access::connect;
pub use self::error::{AccessError, ApiError, Rule};
use self::{
    access::Access,
    api::Api,
    mirror::{Mirror, Outcome},
    namespaces::Namespaces,
    object::PodObject,
    owners::Middle,
    pace::Pace,
    sync::Feed,
};
use super::{Names, Source, SourceState};

/// Whether the API is asked (`identity.kubernetes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// If the agent runs in a pod, or a kubeconfig is configured.
    #[default]
    Auto,
    On,
    Off,
}

#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub mode: Mode,
    /// Instead of the service account.
    pub kubeconfig: Option<PathBuf>,
    /// As the API calls this node; None: NODE_NAME, else the host's name.
    pub node_name: Option<String>,
    /// Most pods that are held; the same again for their owners (`limits.containers`).
    pub pods: usize,
}

/// The source. It does nothing until it [`runs`](Self::run).
#[derive(Clone, Debug)]
pub struct Kubernetes {
    shared: Arc<Shared>,
    namespaces: Arc<Namespaces>,
}

/// What the source has done, for the metrics, and how it is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesStats {
    pub lists: u64,
    pub watches: u64,
    /// Lists and watches whose version the server didn't have any more (410).
    pub expired: u64,
    /// Pods that a list or a watch has brought.
    pub applied: u64,
    /// Changes of pods that a watch told of.
    pub events: u64,
    /// Of these, told before, out of order, or of another node.
    pub stale: u64,
    /// Lines and items that could not be read.
    pub garbage: u64,
    /// Pods for which there was no room.
    pub refused: u64,
    /// Lists and watches that failed.
    pub failures: u64,
    /// ReplicaSets and Jobs that were asked for, and how often that failed.
    pub lookups: u64,
    pub lookup_failures: u64,
    /// Lists and watches of namespaces that failed, and why they do, if they do.
    pub namespace_failures: u64,
    pub namespace_problem: Option<String>,
    /// When the server was last heard of by a list or a watch of pods, in seconds since 1970; 0 if never.
    pub heard: u64,
    /// Pods that are known now, and owners that are still to be asked for.
    pub pods: usize,
    pub owners_wanted: usize,
    /// Why it doesn't work, if it doesn't.
    pub problem: Option<String>,
}

#[derive(Debug, Default)]
struct Figures {
    lists: AtomicU64,
    watches: AtomicU64,
    events: AtomicU64,
    stale: AtomicU64,
    refused: AtomicU64,
    lookups: AtomicU64,
    lookup_failures: AtomicU64,
    expired: AtomicU64,
    applied: AtomicU64,
    heard: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    node: String,
    names: Arc<Names>,
    pace: Pace,
    limit: usize,
    mirror: Mutex<Mirror>,
    figures: Figures,
    problem: Mutex<Option<String>>,
    /// Rings when there may be owners to ask for.
    wanted: Notify,
}

impl Kubernetes {
    /// None if the API is not to be asked, or, by [`Mode::Auto`], there is none. Nothing is connected yet.
    pub fn new(settings: &Settings, names: Arc<Names>) -> Result<Option<Self>, AccessError> {
        if settings.mode == Mode::Off {
            return Ok(None);
        }
        let access = match Access::find(settings.kubeconfig.as_deref()) {
            Err(AccessError::Nowhere) if settings.mode == Mode::Auto => return Ok(None),
            Err(error @ AccessError::ServiceAccount { .. }) if settings.mode == Mode::Auto => {
                tracing::warn!(%error, "the Kubernetes API is not asked");
                return Ok(None);
            }
            access => access?,
        };
        let node = access::node_name(settings.node_name.as_deref())?;
        Ok(Some(Self::with(access, node, settings.pods, Pace::default(), names)))
    }

    fn with(access: Access, node: String, pods: usize, pace: Pace, names: Arc<Names>) -> Self {
        names.set_state(Source::Kubernetes, SourceState::Connecting);
        let shared = Shared {
            api: Api::new(access, pace.answer),
            mirror: Mutex::new(Mirror::new(node.clone(), pods)),
            node,
            names,
            pace,
            limit: pods,
            figures: Figures::default(),
            problem: Mutex::new(None),
            wanted: Notify::new(),
        };
        let shared = Arc::new(shared);
        Self { namespaces: Arc::new(Namespaces::new(Arc::clone(&shared))), shared }
    }

    /// Fills the store until it is dropped. Whatever fails is tried again; nothing is lost by dropping it.
    pub async fn run(self) {
        let pods = async {
            self.namespaces.answered().await;
            sync::run(&*self.shared).await
        };
        tokio::select! {
            never = sync::run(&*self.namespaces) => match never {},
            never = pods => match never {},
            never = lookups::run(&self.shared) => match never {},
        }
    }

    /// Asks once, without going on, and returns how many pods this node has, and what is not allowed of the rest: for
    /// `podwitness doctor`.
    pub async fn check(&self) -> Result<(usize, Vec<ApiError>), ApiError> {
        sync::check(&*self.shared).await?;
        let mut lacks = lookups::check(&self.shared).await;
        lacks.extend(sync::check(&*self.namespaces).await.err());
        Ok((self.shared.mirror().len(), lacks))
    }

    /// The node whose pods are watched.
    pub fn node_name(&self) -> &str {
        &self.shared.node
    }

    pub fn stats(&self) -> KubernetesStats {
        let figures = &self.shared.figures;
        let (pods, owners_wanted) = {
            let mut mirror = self.shared.mirror();
            (mirror.len(), mirror.owners().waiting())
        };
        KubernetesStats {
            lists: figures.lists.load(Relaxed),
            watches: figures.watches.load(Relaxed),
            events: figures.events.load(Relaxed),
            stale: figures.stale.load(Relaxed),
            garbage: self.shared.names.garbled_by(Source::Kubernetes),
            refused: figures.refused.load(Relaxed),
            failures: self.shared.names.failures(Source::Kubernetes),
            lookups: figures.lookups.load(Relaxed),
            lookup_failures: figures.lookup_failures.load(Relaxed),
            namespace_failures: self.namespaces.failures.load(Relaxed),
            namespace_problem: lock(&self.namespaces.problem).clone(),
            expired: figures.expired.load(Relaxed),
            applied: figures.applied.load(Relaxed),
            heard: figures.heard.load(Relaxed),
            pods,
            owners_wanted,
            problem: lock(&self.shared.problem).clone(),
        }
    }
}

impl Shared {
    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        lock(&self.mirror)
    }

    /// By `Middle`: whether answers about owners may be expected soon.
    fn expect_owners(&self, hope: [bool; Middle::ALL.len()]) {
        self.mirror().expect(hope, &self.names, Instant::now());
    }

    fn told(&self, outcome: Outcome) -> Outcome {
        if outcome == Outcome::Applied {
            self.wanted.notify_one();
        }
        outcome
    }
}

impl Feed for Shared {
    type Object = PodObject;

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
        Rule { group: "", resource: "pods", verb }
    }

    fn path(&self) -> String {
        format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}&", self.node)
    }

    fn limit(&self) -> usize {
        self.limit
    }

    fn version<'a>(&self, object: &'a PodObject) -> &'a str {
        &object.metadata.resource_version
    }

    fn replace(&self, objects: Vec<PodObject>) -> usize {
        let refused = self.mirror().replace(objects, &self.names, Instant::now());
        let pods = self.mirror().len();
        self.figures.applied.fetch_add(pods as u64, Relaxed);
        if self.figures.lists.load(Relaxed) == 0 && pods == 0 {
            // The agent's own pod should be among them.
            tracing::warn!(
                node = self.node,
                "the Kubernetes API has no pod on this node: is identity.node_name (or NODE_NAME) right?"
            );
        }
        self.wanted.notify_one();
        refused
    }

    fn put(&self, object: &PodObject) -> Outcome {
        let outcome = self.mirror().put(object, &self.names, Instant::now());
        self.told(outcome)
    }

    fn remove(&self, object: &PodObject) -> Outcome {
        let outcome = self.mirror().remove(object, &self.names, Instant::now());
        self.told(outcome)
    }

    fn garbled(&self, count: u64) {
        self.names.garbled(Source::Kubernetes, count);
    }

    fn hears(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.figures.heard.store(now.as_secs(), Relaxed);
    }

    fn works(&self) {
        self.names.set_state(Source::Kubernetes, SourceState::Connected);
        if lock(&self.problem).take().is_some() {
            tracing::info!(node = self.node, pods = self.mirror().len(), "the Kubernetes API answers again");
        }
    }

    fn fails(&self, state: SourceState, error: &ApiError, wait: Duration) {
        self.names.failed(Source::Kubernetes);
        self.names.set_state(Source::Kubernetes, state);
        let text = error.to_string();
        let before = lock(&self.problem).replace(text.clone());
        // Once for each problem: an outage may last for hours.
        if before.as_ref() == Some(&text) {
            tracing::debug!(%error, ?wait, "the Kubernetes API still fails");
        } else {
            tracing::warn!(%error, ?wait, "the Kubernetes API fails; names go on from what is known");
        }
    }
}

// A panic elsewhere leaves nothing half-done behind that matters more than going on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
