//! Answers out of several shelves.

use std::sync::{Arc, atomic::Ordering};

use super::{Container, Guess, Names, Pod, PodMetadata, Shelves, Source, Workload};
use crate::identity::{Engine, Labels, Placement};

/// What is known of a container beside its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// What its pod says.
    pub pod: Option<Arc<PodMetadata>>,
    /// Of its image.
    pub version: Option<String>,
    pub restart_count: Option<u32>,
}

impl Details {
    /// What holds for longer than one container lives.
    pub fn lasting(&self) -> Self {
        Self { restart_count: None, ..self.clone() }
    }

    /// Keeps what is true of the other one, too.
    pub fn agree(&mut self, other: &Self) {
        if self.pod != other.pod {
            let common = self.pod.as_ref().zip(other.pod.as_ref()).map(|(one, two)| one.common(two));
            self.pod = common.and_then(PodMetadata::shared);
        }
        self.version.take_if(|version| other.version.as_ref() != Some(&*version));
        self.restart_count.take_if(|count| other.restart_count != Some(*count));
    }
}

/// What somebody is called, as far as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub labels: Labels,
    pub details: Details,
    /// Whether there is nothing to wait for: no source that is connected could add a name.
    pub complete: bool,
    /// Whether there is nothing to add, whatever source may come yet.
    pub settled: bool,
    /// Whether the pod, else its namespace, asks to be observed, or not to be.
    pub observe: Option<bool>,
    /// Whether it is known what the pod belongs to.
    pub owner_known: bool,
    /// Who gave the name of the pod: None where there is no pod, `Some(None)` where nobody knows it.
    pub pod_source: Option<Option<Source>>,
    /// The same of the container.
    pub container_source: Option<Option<Source>>,
}

impl Named {
    /// Nobody has to be asked.
    fn by_path(placement: &Placement) -> Self {
        Self {
            labels: placement.labels(),
            details: Details::default(),
            complete: true,
            settled: true,
            observe: None,
            owner_known: false,
            pod_source: None,
            container_source: None,
        }
    }

    /// How much is known; only a higher rank is better.
    pub fn rank(&self) -> u8 {
        let parts = [
            self.owner_known,
            // Its guess of the owner is better than none.
            self.pod_source.flatten() == Some(Source::Kubernetes),
            self.pod_source.flatten().is_some(),
            self.container_source.flatten().is_some(),
        ];
        parts.into_iter().map(u8::from).sum()
    }
}

impl Names {
    /// What the one at this place is called. For a container that no source knows, the labels are those of the
    /// path alone.
    pub fn labels(&self, placement: &Placement) -> Named {
        let shelves = self.read();
        match placement {
            Placement::Pod { uid, container, .. } => {
                let id = container.as_ref().map(|container| container.id.as_str());
                self.in_pod(&shelves, placement, uid, id)
            }
            Placement::Container { engine, id, user, .. } => match engine {
                Engine::Docker => plain(&shelves, placement, &key(id, *user), Source::Docker),
                Engine::Podman => plain(&shelves, placement, &key(id, *user), Source::Podman),
                Engine::Namespace(name) if of_kubernetes(name) => self.outside(&shelves, placement, id),
                Engine::Namespace(_) | Engine::Lxc => Named::by_path(placement),
            },
            Placement::Host | Placement::Unit { .. } | Placement::Cgroup { .. } => Named::by_path(placement),
        }
    }

    fn in_pod(&self, shelves: &Shelves, placement: &Placement, uid: &str, id: Option<&str>) -> Named {
        let mut named = Named::by_path(placement);
        let container = id.and_then(|id| shelves.container(id));
        let says = container.as_ref().and_then(|(_, container)| container.pod_uid.as_deref());
        let pod = match (shelves.pod(uid), says) {
            (None, Some(other)) => shelves.pod(other),
            (pod, _) => pod,
        };
        if let (Some((source, container)), Some(says)) = (&container, says)
            && !shelves.same_pod(uid, says)
            && shelves.containers[*source as usize].dispute(&container.id)
        {
            // The cgroup's path is right: the kubelet made it.
            self.contradictions.fetch_add(1, Ordering::Relaxed);
        }
        if let Some((_, pod)) = &pod {
            name_pod(&mut named, pod, shelves.workload(&pod.uid));
            named.observe = pod.observe.or_else(|| shelves.namespaces.get(&pod.namespace).copied());
            named.details.pod = shelves.metadata(&pod.uid).cloned();
        }
        if let Some((_, container)) = &container {
            named.labels.container = container_label(container);
            named.details.version =
                shelves.of_container(&container.id, |container| container.version.clone());
            named.details.restart_count =
                shelves.of_container(&container.id, |container| container.restart_count);
        }
        let is_named = pod.is_some() && (id.is_none() || container.is_some());
        let guess =
            pod.as_ref().filter(|(source, _)| *source == Source::Kubernetes).map(|(_, pod)| pod.guess);
        // What comes later is taken in, but who can't be asked isn't waited for.
        let is_stuck = guess == Some(Some(Guess::Stuck));
        let owner_known = guess == Some(None);
        named.complete = !shelves.may_answer(&missing(is_named, owner_known || is_stuck));
        named.settled = is_named && owner_known;
        named.owner_known = owner_known;
        named.pod_source = Some(pod.map(|(source, _)| source));
        named.container_source = id.map(|_| container.map(|(source, _)| source));
        named
    }

    /// A container of Kubernetes' runtime whose path doesn't name its pod.
    fn outside(&self, shelves: &Shelves, placement: &Placement, id: &str) -> Named {
        let found = shelves.container(id);
        if let Some(uid) = found.as_ref().and_then(|(_, container)| container.pod_uid.as_deref())
            && shelves.pod(uid).is_some()
        {
            return self.in_pod(shelves, placement, uid, Some(id));
        }
        let mut named = Named::by_path(placement);
        named.complete = !shelves.may_answer(&[Source::Cri]);
        named.settled = false;
        named.container_source = Some(None);
        named
    }
}

impl Shelves {
    fn pod(&self, uid: &str) -> Option<(Source, &Pod)> {
        Source::ALL.into_iter().find_map(|source| Some((source, self.pods[source as usize].get(uid)?)))
    }

    fn container(&self, id: &str) -> Option<(Source, &Container)> {
        let mut sources = Source::FOR_CONTAINERS.into_iter();
        sources.find_map(|source| Some((source, self.containers[source as usize].get(id)?)))
    }

    /// What one of the sources knows of the container, where others may know its name only.
    fn of_container<T>(&self, id: &str, what: impl Fn(&Container) -> Option<T>) -> Option<T> {
        let mut sources = Source::FOR_CONTAINERS.into_iter();
        sources.find_map(|source| what(self.containers[source as usize].get(id)?))
    }

    fn workload(&self, uid: &str) -> Option<&Workload> {
        self.pods.iter().find_map(|shelf| shelf.get(uid)?.workload.as_ref())
    }

    fn metadata(&self, uid: &str) -> Option<&Arc<PodMetadata>> {
        self.pods.iter().find_map(|shelf| shelf.get(uid)?.metadata.as_ref())
    }

    /// Whether both are names of one pod.
    fn same_pod(&self, one: &str, other: &str) -> bool {
        let same = |pod: &Pod| {
            let is = |name: &str| pod.uid == name || pod.aliases.iter().any(|alias| alias == name);
            is(one) && is(other)
        };
        one == other || self.pods.iter().filter_map(|shelf| shelf.get(one)).any(same)
    }

    fn may_answer(&self, sources: &[Source]) -> bool {
        sources.iter().any(|source| self.states[*source as usize].may_answer())
    }
}

/// Who could soon add something to a container of a pod. Owners are Kubernetes' knowledge.
fn missing(is_named: bool, owner_is_told: bool) -> Vec<Source> {
    match (is_named, owner_is_told) {
        (true, true) => Vec::new(),
        (true, false) => vec![Source::Kubernetes],
        (false, _) => vec![Source::Kubernetes, Source::Cri],
    }
}

/// What the containers of an engine that runs as `user` are kept by.
pub(super) fn key(id: &str, user: Option<u32>) -> String {
    user.map_or_else(|| id.to_owned(), |user| format!("{user}/{id}"))
}

fn plain(shelves: &Shelves, placement: &Placement, key: &str, source: Source) -> Named {
    let mut named = Named::by_path(placement);
    let container = shelves.containers[source as usize].get(key);
    if let Some(container) = container {
        let Container { service, pod_name, name, .. } = container;
        let workload = service.as_ref().or(pod_name.as_ref()).unwrap_or(name);
        named.labels.workload.clone_from(workload);
        named.labels.pod = pod_name.clone().unwrap_or_default();
        named.labels.container = container_label(container);
    }
    named.complete = container.is_some() || !shelves.may_answer(&[source]);
    named.settled = container.is_some();
    named.container_source = Some(container.map(|_| source));
    named
}

fn name_pod(named: &mut Named, pod: &Pod, workload: Option<&Workload>) {
    let (kind, name) = workload.map_or(("Pod", pod.name.as_str()), |owner| (&owner.kind, &owner.name));
    named.labels.namespace.clone_from(&pod.namespace);
    named.labels.pod.clone_from(&pod.name);
    kind.clone_into(&mut named.labels.workload_kind);
    name.clone_into(&mut named.labels.workload);
}

/// A sandbox that only waits has no name. One that holds the containers themselves says so; a container can't
/// be called like that.
fn container_label(container: &Container) -> String {
    match (&container.sandbox_runtime, container.is_sandbox) {
        (Some(runtime), true) => format!("sandbox:{runtime}"),
        (None, true) => String::new(),
        (_, false) => container.name.clone(),
    }
}

/// Whether the containers of this containerd namespace, or with this prefix, are the kubelet's.
fn of_kubernetes(namespace: &str) -> bool {
    matches!(namespace, "k8s.io" | "cri-containerd" | "containerd" | "crio" | "kata" | "kata_overhead")
}

/// How many of the facts that the source has just brought are at odds with another source's.
pub(super) fn contradictions(shelves: &mut Shelves, source: Source) -> u64 {
    let pods = shelves.pods[source as usize].take_fresh();
    let containers = shelves.containers[source as usize].take_fresh();
    let mut found = 0;
    for other in Source::ALL.into_iter().filter(|other| *other != source) {
        for uid in &pods {
            let both = (shelves.pods[source as usize].get(uid), shelves.pods[other as usize].get(uid));
            if let (Some(one), Some(two)) = both {
                found += u64::from((&one.namespace, &one.name) != (&two.namespace, &two.name));
            }
        }
        for id in &containers {
            let uid_of = |source: Source| shelves.containers[source as usize].get(id)?.pod_uid.as_deref();
            if let (Some(one), Some(two)) = (uid_of(source), uid_of(other)) {
                found += u64::from(!shelves.same_pod(one, two));
            }
        }
    }
    found
}
