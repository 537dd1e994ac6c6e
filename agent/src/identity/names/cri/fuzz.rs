//! Any bytes as the answers of a container runtime.

use prost::Message as _;

use super::{api, view::View};

/// Both lists and an event, of one runtime, whatever the bytes were meant to be.
pub(crate) fn answers(bytes: &[u8]) {
    let _ = api::VersionResponse::decode(bytes);
    let sandboxes = api::ListSandboxesResponse::decode(bytes).map(|list| list.items).unwrap_or_default();
    let containers =
        api::ListContainersResponse::decode(bytes).map(|list| list.containers).unwrap_or_default();
    let mut view = View::default();
    let (pods, named) = view.list(sandboxes, containers);
    assert!(pods.iter().all(|pod| !pod.uid.is_empty() && !pod.name.is_empty()), "{pods:?}");
    assert!(named.iter().all(|container| !container.id.is_empty()), "{named:?}");
    if let Ok(event) = api::Event::decode(bytes) {
        let change = view.event(event);
        assert!(change.pod.is_none_or(|pod| !pod.uid.is_empty() && !pod.name.is_empty()));
    }
}
