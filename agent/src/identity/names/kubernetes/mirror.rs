//! What is known about the node's pods, so that each event becomes the least change of the store.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use super::{
    super::{Container, Names, Pod, Source, Workload},
    object::PodObject,
    owners::{Belongs, Lookup, Middle, Owners},
    pod,
};

const SOURCE: Source = Source::Kubernetes;
/// Pods that are gone whose late events are recognized.
const REMEMBERED_DEAD: usize = 1024;

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Applied,
    /// Told before, or overtaken by something newer.
    Stale,
    /// Of another node.
    Foreign,
    /// No room.
    Refused,
}

/// An object's version. Numbers that grow, by
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>; where one is none, the events are
/// believed in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version(Option<u64>);

impl Version {
    fn of(object: &PodObject) -> Self {
        Self(object.metadata.resource_version.parse().ok())
    }

    fn is_after(self, other: Self) -> bool {
        match (self, other) {
            (Self(Some(one)), Self(Some(other))) => one > other,
            _ => true,
        }
    }

    fn is_before(self, other: Self) -> bool {
        matches!((self, other), (Self(Some(one)), Self(Some(other))) if one < other)
    }
}

#[derive(Debug)]
struct Known {
    version: Version,
    pod: Pod,
    /// Ids.
    containers: Vec<String>,
    /// The ReplicaSet or Job whose answer may change the workload: its kind and its uid.
    owner: Option<(Middle, String)>,
}

#[derive(Debug)]
pub(super) struct Mirror {
    node: String,
    pods: HashMap<String, Known>,
    dead: HashMap<String, Version>,
    /// The uids of those, the oldest first.
    dead_order: VecDeque<String>,
    owners: Owners,
    limit: usize,
}

impl Mirror {
    pub(super) fn new(node: String, limit: usize) -> Self {
        Self {
            node,
            pods: HashMap::new(),
            dead: HashMap::new(),
            dead_order: VecDeque::new(),
            owners: Owners::new(limit),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    pub(super) fn owners(&mut self) -> &mut Owners {
        &mut self.owners
    }

    /// After a list: this is all there is. Returns how many pods there was no room for.
    pub(super) fn replace(&mut self, objects: Vec<PodObject>, names: &Names, now: Instant) -> usize {
        // The list may be older than what is known, after a backup of the cluster has been restored.
        self.pods.clear();
        self.dead.clear();
        self.dead_order.clear();
        let mut containers = Vec::new();
        let mut refused = 0;
        for object in &objects {
            if !is_on(&self.node, object) {
                continue;
            }
            if self.pods.len() >= self.limit {
                refused += 1;
                continue;
            }
            let (known, its_containers) = self.known(object);
            containers.extend(its_containers);
            self.pods.insert(object.metadata.uid.clone(), known);
        }
        let pods = self.pods.values().map(|known| known.pod.clone()).collect();
        names.replace(SOURCE, pods, containers, now);
        refused
    }

    /// A pod is there, or has changed.
    pub(super) fn put(&mut self, object: &PodObject, names: &Names, now: Instant) -> Outcome {
        let uid = &object.metadata.uid;
        let version = Version::of(object);
        if !is_on(&self.node, object) {
            return Outcome::Foreign;
        }
        let before = self.pods.get(uid).map(|known| known.version).or_else(|| self.dead.get(uid).copied());
        if before.is_some_and(|before| !version.is_after(before)) {
            return Outcome::Stale;
        }
        if self.pods.len() >= self.limit && !self.pods.contains_key(uid) {
            return Outcome::Refused;
        }
        let (known, containers) = self.known(object);
        names.put_pod(SOURCE, known.pod.clone(), now);
        for container in containers {
            names.put_container(SOURCE, container, now);
        }
        let current: HashSet<String> = known.containers.iter().cloned().collect();
        if let Some(before) = self.pods.insert(uid.clone(), known) {
            for id in before.containers.iter().filter(|id| !current.contains(*id)) {
                names.forget_container(SOURCE, id, now);
            }
        }
        Outcome::Applied
    }

    /// A pod is gone.
    pub(super) fn remove(&mut self, object: &PodObject, names: &Names, now: Instant) -> Outcome {
        let uid = &object.metadata.uid;
        let version = Version::of(object);
        let before = self.pods.get(uid).map(|known| known.version);
        if before.is_some_and(|before| version.is_before(before)) {
            return Outcome::Stale;
        }
        if self.dead.insert(uid.clone(), version).is_none() {
            self.dead_order.push_back(uid.clone());
        }
        if self.dead_order.len() > REMEMBERED_DEAD
            && let Some(oldest) = self.dead_order.pop_front()
        {
            self.dead.remove(&oldest);
        }
        let Some(known) = self.pods.remove(uid) else { return Outcome::Stale };
        for id in &known.containers {
            names.forget_container(SOURCE, id, now);
        }
        names.forget_pod(SOURCE, uid, now);
        Outcome::Applied
    }

    /// The API has said what a ReplicaSet or a Job belongs to.
    pub(super) fn learn(&mut self, lookup: &Lookup, workload: Workload, names: &Names, now: Instant) {
        self.owners.learn(lookup, workload.clone());
        let is_owner = |owner: &(Middle, String)| owner.1 == lookup.uid;
        for known in self.pods.values_mut().filter(|known| known.owner.as_ref().is_some_and(is_owner)) {
            known.pod.workload = Some(workload.clone());
            known.pod.guess = None;
            names.put_pod(SOURCE, known.pod.clone(), now);
        }
    }

    /// By `Middle`: whether answers may be expected soon. Who waits for one that may not goes by the names for now.
    pub(super) fn expect(&mut self, hope: [bool; Middle::ALL.len()], names: &Names, now: Instant) {
        if !self.owners.expect(hope) {
            return;
        }
        for known in self.pods.values_mut().filter(|known| known.pod.guess.is_some()) {
            known.pod.guess = known.owner.as_ref().map(|(middle, _)| self.owners.guess(*middle));
            names.put_pod(SOURCE, known.pod.clone(), now);
        }
    }

    fn known(&mut self, object: &PodObject) -> (Known, Vec<Container>) {
        let Belongs { workload, guess, owner } = self.owners.workload(&object.metadata);
        let containers = pod::containers(object);
        let known = Known {
            version: Version::of(object),
            pod: pod::pod(object, workload, guess),
            containers: containers.iter().map(|container| container.id.clone()).collect(),
            owner,
        };
        (known, containers)
    }
}

/// The server has been asked for the pods of one node only; a proxy may forget that.
fn is_on(node: &str, object: &PodObject) -> bool {
    object.spec.node_name.as_deref() == Some(node)
}
