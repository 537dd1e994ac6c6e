//! Names: what the cluster and the runtimes call those that the kernel knows by cgroup.
//!
//! Sources fill the store, each its own shelf, in their own time; the registry asks it. What one source lacks
//! another fills. Where two disagree, the cgroup's own uid decides, then the order of [`Source`], and it is counted.
//! Facts about what is gone stay for a grace, because its events and counters arrive late. No function here reads
//! a clock.

mod answer;
pub mod cri;
pub mod docker;
mod fact;
mod image;
pub mod kubernetes;
mod lines;
mod metadata;
mod shelf;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::shelf::Shelf;
pub use self::{
    answer::{Details, Named},
    fact::{Container, Guess, Pod, Source, SourceState, Workload},
    metadata::{PodMetadata, WellKnown},
};

/// The annotation by which a pod asks to be observed, or not to be.
pub const OBSERVE: &str = "podwitness.dev/observe";

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct NameBounds {
    /// Most pods, and most containers, of each source, dead ones included (`limits.containers`).
    pub containers: usize,
    /// How long facts outlive what they are about.
    pub grace: Duration,
}

/// Thread-safe; questions take a shared lock only, and no lock is held beyond a call.
#[derive(Debug)]
pub struct Names {
    bounds: NameBounds,
    shelves: RwLock<Shelves>,
    generation: AtomicU64,
    contradictions: AtomicU64,
    /// Changes of what pods and namespaces say about being observed.
    choices: AtomicU64,
    /// Facts that a source has turned away by itself.
    refused: AtomicU64,
    /// By source: what failed, and what could not be read.
    failures: [AtomicU64; Source::ALL.len()],
    garbled: [AtomicU64; Source::ALL.len()],
    /// Sockets of a source that nobody listens to now, because they are too many.
    left_out: [AtomicU64; Source::ALL.len()],
    /// Facts by the place from which they were used: those of pods, then those of containers.
    used: [[AtomicU64; Source::ALL.len() + 1]; 2],
    /// The containers that wait for a name.
    waiting: watch::Sender<Vec<String>>,
}

#[derive(Debug)]
struct Shelves {
    pods: [Shelf<Pod>; Source::ALL.len()],
    containers: [Shelf<Container>; Source::ALL.len()],
    /// What Kubernetes' namespaces say for all their pods, where they say something.
    namespaces: HashMap<String, bool>,
    states: [SourceState; Source::ALL.len()],
}

/// Numbers about the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameStats {
    /// Containers and pods that were named, by the source of the pod's name and by the one of the container's;
    /// in the order of [`Source::ALL`], and last those that no source has named.
    pub pods_named: [u64; Source::ALL.len() + 1],
    pub containers_named: [u64; Source::ALL.len() + 1],
    pub contradictions: u64,
    /// Facts turned away because a shelf, or what one of its sources may take of it, was full of the living.
    pub refused: u64,
    /// Facts that are held now, about the living and the dead.
    pub facts: usize,
}

impl Names {
    /// Knows nothing, and no source is there.
    pub fn new(bounds: NameBounds) -> Self {
        let shelves = Shelves {
            pods: std::array::from_fn(|_| Shelf::new(bounds)),
            containers: std::array::from_fn(|_| Shelf::new(bounds)),
            namespaces: HashMap::new(),
            states: [SourceState::Absent; Source::ALL.len()],
        };
        Self {
            bounds,
            shelves: RwLock::new(shelves),
            generation: AtomicU64::new(0),
            contradictions: AtomicU64::new(0),
            choices: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failures: Default::default(),
            garbled: Default::default(),
            left_out: Default::default(),
            used: Default::default(),
            waiting: watch::Sender::new(Vec::new()),
        }
    }

    /// A pod is there, or has changed.
    pub fn put_pod(&self, source: Source, pod: Pod, now: Instant) {
        let mut shelves = self.write();
        let is_other_choice =
            shelves.pods[source as usize].get(&pod.uid).is_some_and(|known| known.observe != pod.observe);
        if shelves.pods[source as usize].put(pod, now) {
            self.changed(&mut shelves, source);
            self.choices.fetch_add(u64::from(is_other_choice), Ordering::Release);
        }
    }

    /// Whether a namespace wants its pods to be observed, where they don't say so themselves. None if it is gone, or
    /// says nothing.
    pub fn set_namespace(&self, name: String, observe: Option<bool>) {
        let mut shelves = self.write();
        let before = match observe {
            Some(_) if shelves.namespaces.len() >= self.room() && !shelves.namespaces.contains_key(&name) => {
                return self.refuse(1);
            }
            Some(observe) => shelves.namespaces.insert(name, observe),
            None => shelves.namespaces.remove(&name),
        };
        self.choices.fetch_add(u64::from(before != observe), Ordering::Release);
    }

    /// The same for all of them, after a list.
    pub fn replace_namespaces(&self, mut choices: HashMap<String, bool>) {
        while choices.len() > self.room() {
            let surplus = choices.keys().next().cloned().unwrap_or_default();
            choices.remove(&surplus);
            self.refuse(1);
        }
        let mut shelves = self.write();
        if std::mem::replace(&mut shelves.namespaces, choices) != shelves.namespaces {
            self.choices.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes whenever a container that is named may have to be observed, or left alone, from now on.
    pub fn choices(&self) -> u64 {
        self.choices.load(Ordering::Acquire)
    }

    /// A pod is gone: by its uid, not by an alias.
    pub fn forget_pod(&self, source: Source, uid: &str, now: Instant) {
        self.write().pods[source as usize].bury(uid, now);
    }

    /// A container or a sandbox is there, or has changed.
    pub fn put_container(&self, source: Source, container: Container, now: Instant) {
        let mut shelves = self.write();
        if shelves.containers[source as usize].put(container, now) {
            self.changed(&mut shelves, source);
        }
    }

    /// A container or a sandbox is gone.
    pub fn forget_container(&self, source: Source, id: &str, now: Instant) {
        self.write().containers[source as usize].bury(id, now);
    }

    /// All that the source knows, after a list: what isn't in it is gone.
    pub fn replace(&self, source: Source, pods: Vec<Pod>, containers: Vec<Container>, now: Instant) {
        let mut shelves = self.write();
        let is_other_choice = pods.iter().any(|pod| {
            shelves.pods[source as usize].get(&pod.uid).is_some_and(|known| known.observe != pod.observe)
        });
        self.choices.fetch_add(u64::from(is_other_choice), Ordering::Release);
        let changed = shelves.pods[source as usize].replace(pods, now);
        if shelves.containers[source as usize].replace(containers, now) || changed {
            self.changed(&mut shelves, source);
        }
    }

    /// Whether the source can be asked.
    pub fn set_state(&self, source: Source, state: SourceState) {
        let mut shelves = self.write();
        if std::mem::replace(&mut shelves.states[source as usize], state) != state {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// The state of every source, in the order of [`Source::ALL`].
    pub fn states(&self) -> [(Source, SourceState); Source::ALL.len()] {
        let shelves = self.read();
        Source::ALL.map(|source| (source, shelves.states[source as usize]))
    }

    pub fn state(&self, source: Source) -> SourceState {
        self.read().states[source as usize]
    }

    /// Changes whenever an answer may have changed: a fact came, or a source's state.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How often two sources, or a source and the kernel, have disagreed; once for each pair of facts.
    pub fn contradictions(&self) -> u64 {
        self.contradictions.load(Ordering::Relaxed)
    }

    /// Containers with these ids wait for a name, and sources should look for them now. A few are enough.
    pub fn want(&self, ids: Vec<String>) {
        self.waiting.send_replace(ids);
    }

    /// Nobody waits any more.
    pub fn satisfied(&self) {
        self.waiting.send_if_modified(|ids| {
            ids.clear();
            false
        });
    }

    /// Ids of containers that wait for a name; changes when sources should look for them. A source that isn't told
    /// of what is new does it then.
    pub fn wanted(&self) -> watch::Receiver<Vec<String>> {
        self.waiting.subscribe()
    }

    /// A session with the source, a list or a watch has failed.
    fn failed(&self, source: Source) {
        self.failures[source as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub fn failures(&self, source: Source) -> u64 {
        self.failures[source as usize].load(Ordering::Relaxed)
    }

    /// Something of what the source said could not be read.
    fn garbled(&self, source: Source, count: u64) {
        self.garbled[source as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// How much that was.
    pub fn garbled_by(&self, source: Source) -> u64 {
        self.garbled[source as usize].load(Ordering::Relaxed)
    }

    /// So many sockets of the source are too many now.
    fn leave_out(&self, source: Source, sockets: u64) {
        self.left_out[source as usize].store(sockets, Ordering::Relaxed);
    }

    /// How many they are.
    pub fn left_out(&self, source: Source) -> u64 {
        self.left_out[source as usize].load(Ordering::Relaxed)
    }

    /// Most containers of a source.
    fn room(&self) -> usize {
        self.bounds.containers
    }

    /// A source has turned away as many facts, because they were more than it may take.
    fn refuse(&self, facts: u64) {
        self.refused.fetch_add(facts, Ordering::Relaxed);
    }

    /// The answer has been put to use: counts where its parts came from.
    pub fn used(&self, named: &Named) {
        let place = |source: Option<Source>| source.map_or(Source::ALL.len(), |source| source as usize);
        for (counts, source) in self.used.iter().zip([named.pod_source, named.container_source]) {
            if let Some(source) = source {
                counts[place(source)].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Forgets who has been gone for the grace. Call it every few seconds.
    pub fn expire(&self, now: Instant) {
        let mut shelves = self.write();
        for shelf in &mut shelves.pods {
            shelf.expire(now);
            shelf.give_room_back();
        }
        for shelf in &mut shelves.containers {
            shelf.expire(now);
            shelf.give_room_back();
        }
    }

    pub fn stats(&self) -> NameStats {
        let shelves = self.read();
        let [pods_named, containers_named] =
            [0, 1].map(|of: usize| self.used[of].each_ref().map(|count| count.load(Ordering::Relaxed)));
        let sizes = shelves.pods.iter().map(Shelf::len).chain(shelves.containers.iter().map(Shelf::len));
        let refused =
            shelves.pods.iter().map(Shelf::refused).chain(shelves.containers.iter().map(Shelf::refused));
        NameStats {
            pods_named,
            containers_named,
            contradictions: self.contradictions(),
            refused: refused.sum::<u64>() + self.refused.load(Ordering::Relaxed),
            facts: sizes.sum(),
        }
    }

    /// Something new is on the shelves of the source: compares it with the others'.
    fn changed(&self, shelves: &mut Shelves, source: Source) {
        let found = answer::contradictions(shelves, source);
        self.contradictions.fetch_add(found, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
    }

    // A panic elsewhere leaves no half-done change behind that matters more than going on.
    fn read(&self) -> RwLockReadGuard<'_, Shelves> {
        self.shelves.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shelves> {
        self.shelves.write().unwrap_or_else(PoisonError::into_inner)
    }
}
