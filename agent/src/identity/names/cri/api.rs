//! The part of the container runtime interface (CRI, `runtime.v1`) that names come from: messages with the fields
//! that are read, under their numbers in Kubernetes' `cri-api`. What else a runtime sends is skipped.

use std::collections::HashMap;

use prost::Message;

pub(super) const VERSION: &str = "/runtime.v1.RuntimeService/Version";
pub(super) const LIST_SANDBOXES: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
pub(super) const LIST_CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
pub(super) const EVENTS: &str = "/runtime.v1.RuntimeService/GetContainerEvents";

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Empty {}

/// Asks for a list: of everything, or of one sandbox or container.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListRequest {
    #[prost(message, optional, tag = "1")]
    pub filter: Option<Filter>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Filter {
    #[prost(string, tag = "1")]
    pub id: String,
}

impl ListRequest {
    pub(super) fn one(id: &str) -> Self {
        Self { filter: Some(Filter { id: id.to_owned() }) }
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct VersionResponse {
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    #[prost(string, tag = "3")]
    pub runtime_version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListSandboxesResponse {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Sandbox {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<SandboxMetadata>,
    #[prost(map = "string, string", tag = "5")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "6")]
    pub annotations: HashMap<String, String>,
    #[prost(string, tag = "7")]
    pub runtime_handler: String,
}

/// The same as a [`Sandbox`], numbered otherwise.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxStatus {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<SandboxMetadata>,
    #[prost(map = "string, string", tag = "7")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "8")]
    pub annotations: HashMap<String, String>,
    #[prost(string, tag = "9")]
    pub runtime_handler: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "4")]
    pub image: Option<ImageSpec>,
    #[prost(map = "string, string", tag = "8")]
    pub labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    /// How many there were of the name before: the kubelet's count of restarts.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ImageSpec {
    /// From the kubelet, the id that it has found for the name.
    #[prost(string, tag = "1")]
    pub image: String,
    /// The name in the pod's specification, from Kubernetes 1.28 on.
    #[prost(string, tag = "18")]
    pub user_specified_image: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ContainerStatus {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "8")]
    pub image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Of a sandbox, too.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// 0 created, 1 started, 2 stopped, 3 deleted.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    #[prost(message, optional, tag = "4")]
    pub sandbox: Option<SandboxStatus>,
    #[prost(message, repeated, tag = "5")]
    pub containers: Vec<ContainerStatus>,
}

impl Event {
    pub(super) const DELETED: i32 = 3;
}

impl From<SandboxStatus> for Sandbox {
    fn from(status: SandboxStatus) -> Self {
        let SandboxStatus { id, metadata, labels, annotations, runtime_handler } = status;
        Self { id, metadata, labels, annotations, runtime_handler }
    }
}
