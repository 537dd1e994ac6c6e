//! Any bytes as the answers of Docker or podman.

use super::api::{Event, Listed, Version};

/// The version, a list of containers, and a line of the stream.
pub(crate) fn answers(bytes: &[u8]) {
    if let Ok(version) = serde_json::from_slice::<Version>(bytes) {
        let _ = (version.source(), version.list());
    }
    for listed in serde_json::from_slice::<Vec<Listed>>(bytes).unwrap_or_default() {
        let fact = listed.fact(Some(1000));
        assert!(fact.is_none_or(|fact| fact.id.starts_with("1000/") && !fact.name.is_empty()));
    }
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        let _ = event.change();
    }
}
