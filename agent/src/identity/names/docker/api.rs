//! The part of the Docker Engine API (<https://docs.docker.com/reference/api/engine/>) that names come from, and
//! podman's own list, which also tells of podman's pods. What else an engine sends is skipped.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::identity::{
    cgroup_path::fold::{NAME_MAX, text},
    names::{Container, Source, answer::key},
};

pub(super) const VERSION: &str = "/version";
/// What happens to containers: `filters={"type":["container"]}`. Which of it matters is decided here, because the
/// engines call the same thing by different words.
pub(super) const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";

/// Who answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    #[serde(default)]
    pub version: String,
    #[serde(default, deserialize_with = "or_default")]
    components: Vec<Component>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    details: Details,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Details {
    #[serde(default, rename = "APIVersion")]
    api: String,
}

impl Version {
    /// podman answers where Docker is expected, too: distributions link one socket to the other.
    pub(super) fn source(&self) -> Source {
        if self.podman().is_some() { Source::Podman } else { Source::Docker }
    }

    /// Where the containers that run are listed.
    pub(super) fn list(&self) -> String {
        // podman's own routes have a version in front. A path takes none but plain characters.
        let is_plain = |text: &&str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        };
        match self.podman().map(|podman| podman.details.api.as_str()).filter(is_plain) {
            Some(version) => format!("/v{version}/libpod/containers/json"),
            None => "/containers/json".to_owned(),
        }
    }

    fn podman(&self) -> Option<&Component> {
        self.components.iter().find(|component| component.name == "Podman Engine")
    }
}

/// What restricts a list to these, whether they run or not: `filters={"id":["…","…"]}`. None if no id is one.
pub(super) fn only(ids: &[String]) -> Option<String> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| is_id(id)).collect();
    (!ids.is_empty())
        .then(|| format!("?all=true&filters=%7B%22id%22%3A%5B%22{}%22%5D%7D", ids.join("%22%2C%22")))
}

/// One strange object must not hide all others.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Lenient {
    Listed(Box<Listed>),
    Strange(IgnoredAny),
}

/// A container in a list, Docker's or podman's.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub id: String,
    #[serde(default, deserialize_with = "or_default")]
    names: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    labels: Labels,
    /// Id of its podman pod.
    #[serde(default)]
    pub pod: String,
    #[serde(default)]
    pub pod_name: String,
    /// Only holds the namespaces of its pod.
    #[serde(default)]
    is_infra: bool,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
struct Labels {
    #[serde(rename = "com.docker.compose.project")]
    project: Option<String>,
    #[serde(rename = "com.docker.compose.service")]
    service: Option<String>,
    /// The kubelet's, from the time when it spoke to Docker.
    #[serde(rename = "io.kubernetes.pod.uid")]
    pod_uid: Option<String>,
}

impl Listed {
    /// None if it has no name, or is the kubelet's: others name those, by their pod.
    pub(super) fn fact(self, user: Option<u32>) -> Option<Container> {
        let Self { id, names, labels, pod_name, is_infra, pod: _ } = self;
        // Docker writes `/web`, and `/web/db` for what another container calls this one.
        let name = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'))?;
        if !is_id(&id) || name.is_empty() || labels.pod_uid.is_some() {
            return None;
        }
        let service = match (labels.project, labels.service) {
            (Some(project), Some(service)) => Some(text(&format!("{project}/{service}"), NAME_MAX)),
            _ => None,
        };
        Some(Container {
            id: key(&id, user),
            pod_name: (!pod_name.is_empty()).then(|| text(&pod_name, NAME_MAX)),
            service,
            name: text(name, NAME_MAX),
            is_sandbox: is_infra,
            ..Container::default()
        })
    }
}

/// A line of the stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    action: String,
    actor: Actor,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    attributes: Attributes,
}

/// What is told of a container besides its labels, among which it stands.
#[derive(Debug, Default, Deserialize)]
struct Attributes {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "podId")]
    pod: String,
    #[serde(flatten)]
    labels: Labels,
}

/// What an event means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A container is there: what the event says of it. Only a list has the name of its pod.
    Here(Box<Listed>),
    /// It has another name.
    Renamed(String),
    Gone(String),
    /// Nothing about names.
    Other,
}

impl Event {
    pub(super) fn change(self) -> Change {
        let Actor { id, attributes } = self.actor;
        match self.action.as_str() {
            _ if !is_id(&id) => Change::Other,
            "create" | "start" => {
                let Attributes { name, pod, labels } = attributes;
                Change::Here(Box::new(Listed { id, names: vec![name], labels, pod, ..Listed::default() }))
            }
            "rename" => Change::Renamed(id),
            // Docker's words, and podman's.
            "die" | "destroy" | "died" | "remove" => Change::Gone(id),
            _ => Change::Other,
        }
    }
}

/// Go writes an empty list or map as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
