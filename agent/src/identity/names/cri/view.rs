//! From the runtime's words to facts.

use std::collections::HashMap;

use super::api;
use crate::identity::names::{Container, OBSERVE, Pod, PodMetadata, image};

/// The kubelet's label on containers; a container's sandbox may be gone from the list before it.
const POD_UID: &str = "io.kubernetes.pod.uid";

/// Sandboxes that are there, each with the uid of its pod: containers name their pod by its sandbox.
#[derive(Debug, Default)]
pub(super) struct View {
    sandboxes: HashMap<String, String>,
}

/// What an event means for the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub pod: Option<Pod>,
    pub containers: Vec<Container>,
    pub gone_container: Option<String>,
    pub gone_pod: Option<String>,
}

impl View {
    /// Everything there is, from both lists. What has no name or no uid is left out.
    pub(super) fn list(
        &mut self,
        sandboxes: Vec<api::Sandbox>,
        containers: Vec<api::Container>,
    ) -> (Vec<Pod>, Vec<Container>) {
        self.sandboxes.clear();
        self.add(sandboxes, containers)
    }

    pub(super) fn knows(&self, sandbox: &str) -> bool {
        self.sandboxes.contains_key(sandbox)
    }

    /// Some of what there is.
    pub(super) fn add(
        &mut self,
        sandboxes: Vec<api::Sandbox>,
        containers: Vec<api::Container>,
    ) -> (Vec<Pod>, Vec<Container>) {
        let mut pods = HashMap::new();
        let mut facts = Vec::new();
        for sandbox in sandboxes {
            if let Some((pod, fact)) = self.sandbox(sandbox) {
                facts.push(fact);
                // A pod whose sandbox was made again is listed twice.
                pods.insert(pod.uid.clone(), pod);
            }
        }
        for mut container in containers {
            let label = container.labels.remove(POD_UID);
            let pod_uid = self.sandboxes.get(&container.sandbox_id).cloned().or(label);
            facts.extend(named(container.id, container.metadata, container.image, pod_uid));
        }
        (pods.into_values().collect(), facts)
    }

    pub(super) fn event(&mut self, event: api::Event) -> Change {
        let mut change = Change::default();
        if event.kind == api::Event::DELETED {
            if let Some(uid) = self.sandboxes.remove(&event.container_id) {
                let is_last = !self.sandboxes.values().any(|other| *other == uid);
                change.gone_pod = is_last.then_some(uid);
            }
            change.gone_container = Some(event.container_id);
            return change;
        }
        let Some((pod, sandbox)) = event.sandbox.and_then(|sandbox| self.sandbox(sandbox.into())) else {
            return change;
        };
        let uid = pod.uid.clone();
        let containers = event.containers.into_iter();
        let named = containers
            .filter_map(|status| named(status.id, status.metadata, status.image, Some(uid.clone())));
        change.containers = std::iter::once(sandbox).chain(named).collect();
        change.pod = Some(pod);
        change
    }

    fn sandbox(&mut self, sandbox: api::Sandbox) -> Option<(Pod, Container)> {
        let metadata = sandbox.metadata?;
        if sandbox.id.is_empty() || metadata.uid.is_empty() || metadata.name.is_empty() {
            return None;
        }
        self.sandboxes.insert(sandbox.id.clone(), metadata.uid.clone());
        let container = Container {
            id: sandbox.id,
            pod_uid: Some(metadata.uid.clone()),
            is_sandbox: true,
            sandbox_runtime: sandbox_runtime(&sandbox.runtime_handler),
            ..Container::default()
        };
        let observe = sandbox.annotations.get(OBSERVE).and_then(|text| text.parse().ok());
        let mut says = PodMetadata::default();
        sandbox.annotations.iter().for_each(|(key, value)| says.annotate(key, value));
        sandbox.labels.iter().for_each(|(key, value)| says.label(key, value));
        let api::SandboxMetadata { name, uid, namespace } = metadata;
        // Owners are not the runtime's business.
        let pod = Pod { uid, namespace, name, observe, metadata: says.shared(), ..Pod::default() };
        Some((pod, container))
    }
}

fn named(
    id: String,
    metadata: Option<api::ContainerMetadata>,
    image: Option<api::ImageSpec>,
    pod_uid: Option<String>,
) -> Option<Container> {
    let api::ContainerMetadata { name, attempt } = metadata?;
    let is_useful = !id.is_empty() && !name.is_empty();
    is_useful.then(|| {
        let image = image.unwrap_or_default();
        let version = image::version(&image.user_specified_image).or_else(|| image::version(&image.image));
        Container { id, pod_uid, name, version, restart_count: Some(attempt), ..Container::default() }
    })
}

/// Runtimes that hide containers from the kernel, by the usual names of their handlers: `kata`, `kata-qemu`, `runsc`,
/// `gvisor`.
fn sandbox_runtime(handler: &str) -> Option<String> {
    let is = |name: &str| handler.split(['-', '_', '.']).any(|part| part == name);
    let runtime = match handler {
        _ if is("kata") => "kata",
        _ if is("runsc") || is("gvisor") => "runsc",
        _ => return None,
    };
    Some(runtime.to_owned())
}
