//! What namespaces say for all their pods: watched like the pods, but their metadata only. A node works without it:
//! where RBAC forbids to look, only the pods' own words count.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Deserialize;
use tokio::{sync::Notify, time::timeout};

use super::{
    super::SourceState,
    Figures, Shared,
    api::{Api, METADATA, METADATA_LIST},
    error::{ApiError, Rule},
    lock,
    mirror::Outcome,
    object::{Annotations, Labels, MetaOnly},
    pace::Pace,
    pod::observe,
    sync::Feed,
};

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

impl Namespace {
    fn observe(&self) -> Option<bool> {
        observe(self.labels.as_ref(), self.annotations.as_ref())
    }
}

/// The watch of them.
#[derive(Debug)]
pub(super) struct Namespaces {
    shared: Arc<Shared>,
    figures: Figures,
    /// Lists and watches that failed.
    pub failures: AtomicU64,
    /// Why they do, if they do.
    pub problem: Mutex<Option<String>>,
    /// Rings when the first list has come, or won't soon.
    answered: Notify,
}

impl Namespaces {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            figures: Figures::default(),
            failures: AtomicU64::new(0),
            problem: Mutex::new(None),
            answered: Notify::new(),
        }
    }

    /// Until it is known what they say, for a while.
    pub(super) async fn answered(&self) {
        let _ = timeout(FIRST, self.answered.notified()).await;
    }
}

impl Feed for Namespaces {
    type Object = MetaOnly<Namespace>;

    fn api(&self) -> &Api {
        &self.shared.api
    }

    fn pace(&self) -> &Pace {
        &self.shared.pace
    }

    fn figures(&self) -> &Figures {
        &self.figures
    }

    fn rule(&self, verb: &'static str) -> Rule {
        Rule { group: "", resource: "namespaces", verb }
    }

    fn path(&self) -> String {
        "/api/v1/namespaces?".into()
    }

    fn formats(&self) -> [&'static str; 2] {
        [METADATA_LIST, METADATA]
    }

    fn limit(&self) -> usize {
        self.shared.limit
    }

    fn version<'a>(&self, object: &'a Self::Object) -> &'a str {
        &object.metadata.resource_version
    }

    fn replace(&self, objects: Vec<Self::Object>) -> usize {
        let choice = |MetaOnly { metadata }: Self::Object| Some((metadata.observe()?, metadata.name));
        let choices = objects.into_iter().filter_map(choice).map(|(observe, name)| (name, observe));
        self.shared.names.replace_namespaces(choices.collect());
        self.answered.notify_one();
        0
    }

    fn put(&self, MetaOnly { metadata }: &Self::Object) -> Outcome {
        self.shared.names.set_namespace(metadata.name.clone(), metadata.observe());
        Outcome::Applied
    }

    fn remove(&self, object: &Self::Object) -> Outcome {
        self.shared.names.set_namespace(object.metadata.name.clone(), None);
        Outcome::Applied
    }

    fn garbled(&self, count: u64) {
        self.shared.garbled(count);
    }

    fn hears(&self) {}

    fn works(&self) {
        lock(&self.problem).take();
    }

    fn is_optional(&self) -> bool {
        true
    }

    fn fails(&self, _: SourceState, error: &ApiError, _: Duration) {
        self.failures.fetch_add(1, Relaxed);
        self.answered.notify_one();
        let text = error.to_string();
        let before = lock(&self.problem).replace(text.clone());
        // Once for each problem.
        if before.as_ref() != Some(&text) {
            tracing::warn!(%error, "namespaces aren't asked whether they decline; what pods say still counts");
        }
    }
}
