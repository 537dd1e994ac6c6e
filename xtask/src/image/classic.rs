//! `manifest.json`, which Docker's own image store wants beside an OCI layout.

use anyhow::{Context as _, Result};

/// Which blobs are the configuration and the only layer, by their descriptors, and what the image is called.
pub(super) fn manifest(config: &str, layer: &str, name: &str) -> Result<String> {
    let (config, layer) = (path(config)?, path(layer)?);
    Ok(format!("[{{\"Config\":\"{config}\",\"RepoTags\":[\"{name}\"],\"Layers\":[\"{layer}\"]}}]"))
}

/// Where the blob of this descriptor lies in the layout.
fn path(descriptor: &str) -> Result<String> {
    let (_, rest) = descriptor.split_once("\"digest\":\"sha256:").context("a descriptor has a digest")?;
    let (digest, _) = rest.split_once('"').context("a digest ends")?;
    Ok(format!("blobs/sha256/{digest}"))
}
