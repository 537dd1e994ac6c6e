//! The few fields that are read out of the API's objects, and what lists and watches wrap them in. Everything else is
//! skipped while parsing, without a copy: a pod has some 15 KiB of JSON, of which a few hundred bytes are kept.
//!
//! Field names: <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>. Go writes an empty
//! list as `null` or leaves it out, so nearly everything may be absent.

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct List<T> {
    #[serde(default)]
    pub metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Lenient<T>>>,
}

/// One strange object must not hide all others.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Object(Box<T>),
    Strange(IgnoredAny),
}

impl<T> List<T> {
    /// The objects, and how many items were none.
    pub(super) fn into_objects(self) -> (Vec<T>, usize) {
        let mut strange = 0;
        let items = self.items.unwrap_or_default();
        let objects = items.into_iter().filter_map(|item| match item {
            Lenient::Object(object) => Some(*object),
            Lenient::Strange(_) => {
                strange += 1;
                None
            }
        });
        (objects.collect(), strange)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    #[serde(default)]
    pub resource_version: String,
    /// Asks for the next page; absent or empty on the last.
    #[serde(default, rename = "continue")]
    pub more: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PodObject {
    pub metadata: Meta,
    #[serde(default)]
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
}

/// A `PartialObjectMetadata`, or any object of which only that matters.
#[derive(Debug, Deserialize)]
pub(super) struct MetaOnly<M> {
    pub metadata: M,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    #[serde(default)]
    pub resource_version: String,
    #[serde(default)]
    owner_references: Option<Vec<OwnerReference>>,
    #[serde(default)]
    pub labels: Option<Labels>,
    #[serde(default)]
    pub annotations: Option<Annotations>,
}

impl Meta {
    /// The owner that manages the object, if one does. There is at most one.
    pub(super) fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().flatten().find(|owner| owner.controller)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Labels {
    #[serde(rename = "pod-template-hash")]
    pub template_hash: Option<String>,
    #[serde(rename = "podwitness.dev/observe")]
    pub observe: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Annotations {
    /// On the mirror of a static pod: what the kubelet calls the pod itself.
    #[serde(rename = "kubernetes.io/config.hash")]
    pub config_hash: Option<String>,
    #[serde(rename = "podwitness.dev/observe")]
    pub observe: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub node_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(default)]
    init_container_statuses: Option<Vec<ContainerStatus>>,
    #[serde(default)]
    container_statuses: Option<Vec<ContainerStatus>>,
    #[serde(default)]
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

impl Status {
    pub(super) fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        let Self { init_container_statuses, container_statuses, ephemeral_container_statuses } = self;
        [init_container_statuses, container_statuses, ephemeral_container_statuses]
            .into_iter()
            .flatten()
            .flatten()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerStatus {
    pub name: String,
    #[serde(default, rename = "containerID")]
    container_id: Option<String>,
    /// Of the container before a restart. One that lived shortly may never have been told of otherwise.
    #[serde(default)]
    last_state: Option<LastState>,
}

#[derive(Debug, Deserialize)]
struct LastState {
    #[serde(default)]
    terminated: Option<Terminated>,
}

#[derive(Debug, Deserialize)]
struct Terminated {
    #[serde(default, rename = "containerID")]
    container_id: Option<String>,
}

impl ContainerStatus {
    /// The ids of the container and of the one before it, as the runtime names them.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        let last = self.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        [self.container_id.as_deref(), last.and_then(|last| last.container_id.as_deref())]
            .into_iter()
            .flatten()
            .filter_map(|id| id.split_once("://"))
            .map(|(_runtime, id)| id)
            .filter(|id| !id.is_empty())
    }
}

/// One line of a watch.
#[derive(Debug)]
pub(super) enum Event<T> {
    /// The object is there, or has changed.
    Put(Box<T>),
    /// The object is gone.
    Gone(Box<T>),
    /// Nothing happened up to this version.
    Bookmark { version: String },
    /// The server ends the watch, with an HTTP status.
    Error { code: u16, message: String },
    /// A type that isn't known here.
    Other,
}

impl<T: DeserializeOwned> Event<T> {
    /// Reads a line without its end.
    pub(super) fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow)]
            kind: std::borrow::Cow<'a, str>,
        }
        #[derive(Deserialize)]
        struct Envelope<T> {
            object: T,
        }
        #[derive(Deserialize)]
        struct Mark {
            metadata: ListMeta,
        }
        #[derive(Deserialize)]
        struct Failure {
            #[serde(default)]
            code: u16,
            #[serde(default)]
            message: String,
        }
        // The type decides what the rest is, and it may stand behind it.
        let head: Head<'_> = serde_json::from_slice(line)?;
        Ok(match head.kind.as_ref() {
            "ADDED" | "MODIFIED" => Self::Put(serde_json::from_slice::<Envelope<_>>(line)?.object),
            "DELETED" => Self::Gone(serde_json::from_slice::<Envelope<_>>(line)?.object),
            "BOOKMARK" => {
                let mark: Mark = serde_json::from_slice::<Envelope<_>>(line)?.object;
                Self::Bookmark { version: mark.metadata.resource_version }
            }
            "ERROR" => {
                let failure: Failure = serde_json::from_slice::<Envelope<_>>(line)?.object;
                Self::Error { code: failure.code, message: failure.message }
            }
            _ => Self::Other,
        })
    }
}
