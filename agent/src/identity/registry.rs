//! The cgroups that are known, and what becomes of the ids that are not.
//!
//! An id comes in by the kernel's event of its birth or by a scan of the tree. One that is asked for before is
//! pending; if nothing has named it within the hold, it is unknown for good, so that what has been counted for it
//! never moves from one series to another. The dead are remembered for a grace period, because their events and
//! their counters arrive late. No function here reads a clock.
//!
//! Names come from [`Names`], at the time when a cgroup becomes known. Where a source may still add one, the
//! container settles for up to the hold: nothing of it is shown yet. Then its labels are fixed with what there
//! is. Only a source that comes back later changes them, by [`Registry::rename`]: the container's counters then
//! go on under the new labels with all that they had counted, and their old series ends.

mod naming;
mod open;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use self::state::{State, Way};
use super::{
    Labels, Placement, Tree, TreeError,
    names::{Details, Names},
};

/// One cgroup: a container, or whatever else lives in a cgroup.
#[derive(Debug)]
pub struct Container {
    /// Id in the v2 hierarchy.
    pub cgroup_id: u64,
    /// From the root of the hierarchy.
    pub path: PathBuf,
    pub placement: Placement,
    /// What it is called, and what else was known when it was named.
    labels: RwLock<(Arc<Labels>, Arc<Details>)>,
    /// Whether its pod, or its namespace, asks not to be observed.
    declines: AtomicBool,
}

/// What is known about an id.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// Alive, or dead for less than the grace.
    Known(Arc<Container>),
    /// Known by its path, but a source may still name it: its labels are not to be shown. Becomes known within
    /// the hold.
    Settling(Arc<Container>),
    /// Not yet known: ask again after a scan. Becomes one of the others within the hold.
    Pending,
    /// Belongs to [`Labels::unknown`], for good.
    Unknown,
    /// Belongs to [`Labels::other`], for good: there was no room for one more.
    Overflow,
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most cgroups that are known at a time; the same again for ids that are not known (`limits.containers`).
    pub containers: usize,
    /// How long an unknown id may become known, and a known one a name (`identity.hold`).
    pub hold: Duration,
    /// How long the dead are remembered.
    pub grace: Duration,
}

/// What one scan of the tree changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Cgroups in the tree, as far as the walk got.
    pub found: usize,
    /// Of these, not known before and known now.
    pub added: usize,
    /// Known ones that are gone from the tree.
    pub died: usize,
    /// Not known, and there was no room for them.
    pub refused: usize,
    /// As in [`Walk`](super::Walk): directories left out because of the limit, and ones that can't be listed.
    pub cut: usize,
    pub unreadable: usize,
}

/// Numbers about the registry. Those of the first group only grow, and count an id once for as long
/// as it is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Ids that were known before they were asked for, by the event of their birth or death.
    pub kernel_event: u64,
    /// Ids that were known before they were asked for, by a scan.
    pub scan: u64,
    /// Ids that became known after they were asked for, by either.
    pub late: u64,
    /// Ids that were asked for and are unknown for good.
    pub never: u64,
    /// Ids turned away because a bound was reached. One that there was no room to remember either counts each
    /// time.
    pub refused: u64,
    /// Dead ones forgotten before their time, to make room.
    pub evicted: u64,

    /// Known and alive, now.
    pub alive: usize,
    /// Known and dead, now.
    pub dead: usize,
    /// Asked for and not yet decided, now.
    pub pending: usize,
    /// Decided to be unknown or overflow and still remembered, now.
    pub given_up: usize,
    /// Known and waiting for a name, now.
    pub settling: usize,
    /// Containers whose labels were changed for better ones.
    pub renamed: u64,
}

/// One that is not remembered any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    pub id: u64,
    /// Under which it was shown until then.
    pub labels: Arc<Labels>,
}

/// One line of [`Registry::list`].
#[derive(Clone, Debug)]
pub struct Listed {
    pub container: Arc<Container>,
    /// When it was heard of; where something that it did was there before, by as much as that may be earlier.
    pub since: Instant,
    /// It waits for a name, and is not shown before.
    pub is_settling: bool,
    /// When it was found dead; None while it lives.
    pub died: Option<Instant>,
}

impl Listed {
    pub fn is_alive(&self) -> bool {
        self.died.is_none()
    }
}

/// Thread-safe: [`resolve`](Self::resolve) of an id that is decided takes a shared lock only, and no lock is held while the
/// tree is read.
#[derive(Debug)]
pub struct Registry {
    tree: Tree,
    bounds: Bounds,
    names: Arc<Names>,
    state: RwLock<State>,
}

/// Labels that a container had, and those it has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    pub from: Arc<Labels>,
    pub to: Arc<Labels>,
}

impl Registry {
    /// Knows nothing yet: begin with a [`scan`](Self::scan).
    pub fn new(tree: Tree, bounds: Bounds, names: Arc<Names>) -> Self {
        let state = RwLock::new(State::new(bounds, Arc::clone(&names)));
        Self { tree, bounds, names, state }
    }

    /// The kernel made a cgroup. Without the whole path (the event's may be cut) leave it to the next scan.
    pub fn born(&self, id: u64, path: impl AsRef<Path>, now: Instant) {
        let container = Container::new(id, path.as_ref());
        self.write().learn(container, Way::Event, now);
    }

    /// The kernel removed a cgroup. With its path, one whose birth was missed becomes known at least now.
    pub fn died(&self, id: u64, path: Option<&Path>, now: Instant) {
        let container = path.map(|path| Container::new(id, path));
        self.write().died(id, container, now);
    }

    /// Reads the whole tree: learns what is new and marks dead what is gone. Takes some milliseconds per thousand
    /// cgroups. Worth it at the start, when there is something [`pending`](Self::pending), and now and then for
    /// events that were lost.
    pub fn scan(&self, now: Instant) -> Result<ScanReport, TreeError> {
        let generation = self.write().begin_scan();
        // Room for the living to be seen even when the registry itself is full.
        let walk = self.tree.walk(self.bounds.containers.saturating_mul(2))?;
        // Of what lies outside of the part that is mounted, a walk says nothing.
        let is_whole = self.tree.is_whole();
        let unseen = self.read().unseen(&walk.found, generation, is_whole);
        let gone: Vec<u64> = unseen
            .into_iter()
            .filter(|(id, path)| walk.is_complete() || self.tree.id_at(path) != Some(*id))
            .map(|(id, _)| id)
            .collect();
        // What the state needs is made outside of its lock: parsing paths takes longer than taking them in.
        let fresh = self.read().unknown_among(&walk.found);
        let fresh = fresh.into_iter().map(|(id, path)| Container::new(*id, path)).collect();
        let is_complete = walk.is_complete() && is_whole;
        let (added, died, refused) =
            self.write().end_scan(generation, &walk.found, fresh, &gone, is_complete, now);
        Ok(ScanReport {
            found: walk.found.len(),
            added,
            died,
            refused,
            cut: walk.cut,
            unreadable: walk.unreadable,
        })
    }

    /// Whom the cgroup belongs to. Called for every run of events.
    pub fn resolve(&self, id: u64, now: Instant) -> Resolution {
        let decided = self.read().get(id);
        decided.unwrap_or_else(|| self.write().ask(id, now))
    }

    /// Whether a scan now may resolve something: there are ids pending that no scan has looked for yet.
    pub fn pending(&self) -> bool {
        self.read().wants_scan()
    }

    /// Takes in names that have come for those that wait, and ends the wait of those who have waited for the hold.
    /// Costs next to nothing while nobody waits; call it after every look at the rings.
    pub fn settle(&self, now: Instant) {
        let waits = self.read().settling() > 0;
        if waits {
            self.write().settle(now);
        }
    }

    /// Gives better labels to those who were fixed without. All change at once, so that series that are sums over
    /// several containers move as a whole: hold off readers of [`resolve`](Self::resolve) meanwhile, and move what
    /// is kept by labels. Call it every second or so.
    pub fn rename(&self) -> Vec<Renamed> {
        let generation = self.names.generation();
        let has_news = self.read().has_news(generation);
        if has_news { self.write().rename(generation) } else { Vec::new() }
    }

    /// Takes in what pods and namespaces have come to say about being observed since they were named. Call it every
    /// second or so.
    pub fn choose(&self) {
        let has_choices = self.read().has_choices();
        if has_choices {
            self.write().choose();
        }
    }

    /// The names that were asked.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Forgets who has been dead for the grace, and gives up on what has been pending for the hold.
    ///
    /// Returns who was forgotten since the last call, evicted ones included: whatever is kept elsewhere under these
    /// ids (slots, series) can go. Call it every few seconds.
    pub fn expire(&self, now: Instant) -> Vec<Forgotten> {
        self.names.expire(now);
        self.write().expire(now)
    }

    /// Everything that is known, in no order.
    pub fn list(&self) -> Vec<Listed> {
        self.read().list()
    }

    /// Whether there may be cgroups alive that aren't listed, because they are unknown or there is no room for them.
    pub fn has_strangers(&self) -> bool {
        let stats = self.stats();
        stats.pending + stats.given_up > 0 || stats.alive >= self.bounds.containers
    }

    /// What is known of containers beside their labels, for whoever has series: of one container, or of all that have
    /// their labels, or are of their workload. Of several, that on which all agree.
    pub fn details(&self) -> HashMap<Labels, Details> {
        let mut all: HashMap<Labels, Details> = HashMap::new();
        for Listed { container, .. } in self.list() {
            let (labels, details) = (container.labels(), container.details());
            if labels.namespace.is_empty() {
                continue;
            }
            let own = (*labels).clone();
            // What only holds a pod's namespaces has an image of its own.
            let of_workload = Some(labels.of_workload()).filter(|_| !labels.container.is_empty());
            for labels in of_workload.into_iter().chain([own]) {
                match all.entry(labels) {
                    Entry::Vacant(place) => {
                        place.insert(details.lasting());
                    }
                    Entry::Occupied(mut known) => known.get_mut().agree(&details),
                }
            }
        }
        all
    }

    /// Those of whose labels one is an id, because nobody has named them, by these labels: what has them is of one
    /// container, or of one pod.
    pub fn nameless(&self) -> HashMap<Labels, Placement> {
        let mut all = HashMap::new();
        for Listed { container, .. } in self.list() {
            let (labels, placement) = (container.labels(), &container.placement);
            let (id, uid) = (placement.short_id(), placement.pod_uid());
            let is_id = |label: &str| !label.is_empty() && [id, uid].contains(&Some(label));
            if is_id(&labels.container) {
                all.entry((*labels).clone()).or_insert_with(|| placement.clone());
            } else if is_id(&labels.pod) {
                // A container that was started again has the same name.
                all.entry((*labels).clone()).or_insert_with(|| placement.without_container());
            }
            if is_id(&labels.workload) {
                all.entry(labels.of_workload()).or_insert_with(|| placement.without_container());
            }
        }
        all
    }

    pub fn stats(&self) -> Stats {
        self.read().stats()
    }

    /// The hierarchy that is scanned.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    // A panic elsewhere leaves no half-done change behind that matters more than going on.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Container {
    pub(crate) fn new(cgroup_id: u64, path: &Path) -> Arc<Self> {
        let placement = Placement::parse(path.as_os_str().as_encoded_bytes());
        let labels = RwLock::new((Arc::new(placement.labels()), Arc::default()));
        let declines = AtomicBool::new(false);
        Arc::new(Self { cgroup_id, path: path.to_owned(), placement, labels, declines })
    }

    /// What it is called now.
    pub fn labels(&self) -> Arc<Labels> {
        Arc::clone(&self.labels.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What else is known since it was named.
    pub fn details(&self) -> Arc<Details> {
        Arc::clone(&self.labels.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Whether its pod, or its namespace, asks not to be observed.
    pub fn declines(&self) -> bool {
        self.declines.load(Ordering::Relaxed)
    }

    /// Returns the former labels.
    pub(crate) fn name(&self, labels: Labels, details: Details) -> Arc<Labels> {
        let new = (Arc::new(labels), Arc::new(details));
        std::mem::replace(&mut *self.labels.write().unwrap_or_else(PoisonError::into_inner), new).0
    }
}
