//! The few fields that are read out of the API's objects, and what lists and watches wrap them in. Everything else is
//! skipped while parsing, without a copy: a pod has some 15 KiB of JSON, of which a few hundred bytes are kept.
//!
//! Field names: <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>. Go writes an empty
//! list as `null` or leaves it out, so nearly everything may be absent.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};

use super::super::{OBSERVE, PodMetadata};

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

#[derive(Debug, Default)]
pub(super) struct Labels {
    pub template_hash: Option<String>,
    pub observe: Option<String>,
    /// Those that [`PodMetadata`] takes.
    pub well_known: Vec<(String, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Annotations {
    /// On the mirror of a static pod: what the kubelet calls the pod itself.
    pub config_hash: Option<String>,
    pub observe: Option<String>,
    /// Those that [`PodMetadata`] takes.
    pub resource: Vec<(String, String)>,
}

/// A map of which some entries are kept.
trait Entries: Default {
    fn is_wanted(key: &str) -> bool;
    fn keep(&mut self, key: String, value: String);
}

impl Entries for Labels {
    fn is_wanted(key: &str) -> bool {
        matches!(key, "pod-template-hash" | OBSERVE) || PodMetadata::is_label(key)
    }

    fn keep(&mut self, key: String, value: String) {
        match key.as_str() {
            "pod-template-hash" => self.template_hash = Some(value),
            OBSERVE => self.observe = Some(value),
            _ => self.well_known.push((key, value)),
        }
    }
}

impl Entries for Annotations {
    fn is_wanted(key: &str) -> bool {
        matches!(key, "kubernetes.io/config.hash" | OBSERVE) || PodMetadata::is_annotation(key)
    }

    fn keep(&mut self, key: String, value: String) {
        match key.as_str() {
            "kubernetes.io/config.hash" => self.config_hash = Some(value),
            OBSERVE => self.observe = Some(value),
            _ => self.resource.push((key, value)),
        }
    }
}

/// The values of the others are skipped: one may be as long as all the rest of the object.
fn entries<'de, D: Deserializer<'de>, T: Entries>(deserializer: D) -> Result<T, D::Error> {
    struct Chosen<T>(PhantomData<T>);

    impl<'de, T: Entries> Visitor<'de> for Chosen<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
            let mut kept = T::default();
            while let Some(key) = map.next_key::<String>()? {
                if !T::is_wanted(&key) {
                    map.next_value::<IgnoredAny>()?;
                } else if let Some(value) = map.next_value()? {
                    kept.keep(key, value);
                }
            }
            Ok(kept)
        }
    }

    deserializer.deserialize_map(Chosen(PhantomData))
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entries(deserializer)
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entries(deserializer)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub node_name: Option<String>,
    #[serde(default)]
    init_containers: Option<Vec<SpecContainer>>,
    #[serde(default)]
    containers: Option<Vec<SpecContainer>>,
    #[serde(default)]
    ephemeral_containers: Option<Vec<SpecContainer>>,
}

#[derive(Debug, Deserialize)]
struct SpecContainer {
    name: String,
    #[serde(default)]
    image: Option<String>,
}

impl Spec {
    /// The image of a container as the pod's author has named it; the status has what a runtime made of that.
    pub(super) fn image(&self, container: &str) -> Option<&str> {
        let Self { init_containers, containers, ephemeral_containers, .. } = self;
        let mut all = [init_containers, containers, ephemeral_containers].into_iter().flatten().flatten();
        all.find(|one| one.name == container)?.image.as_deref()
    }
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
    #[serde(default)]
    restart_count: Option<u32>,
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
    /// The ids of the container and of the one before it, as the runtime names them, each with how many there were
    /// before.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&str, Option<u32>)> {
        let last = self.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let last = last.and_then(|last| last.container_id.as_deref());
        let count = self.restart_count;
        [(self.container_id.as_deref(), count), (last, count.and_then(|count| count.checked_sub(1)))]
            .into_iter()
            .filter_map(|(id, count)| Some((id?.split_once("://")?.1, count)))
            .filter(|(id, _)| !id.is_empty())
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
