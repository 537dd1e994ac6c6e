//! The ledger: an account for every container, kept by cgroup id, shown by labels.
//!
//! Events are booked as they come; system calls are read out of the kernel's tables when somebody asks. When a
//! cgroup dies, its slot is read a last time and given back; when its identity is forgotten, its account is
//! closed, or carried on if others go by the same labels, so that no counter goes back while its series lives.
//! OOM kills and exits outlive their container for as long as its workload has another one here.

mod carried;
mod shown;
#[cfg(test)]
mod tests;
mod victims;

use carried::{Gone, bound, join, let_go};
pub use shown::Part;
use victims::Victims;

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_ebpf::contract::{event::EventKind, oom, slot::OVERFLOW, syscalls::Mode};

use crate::{
    config::ModeByNamespace,
    exemplar::Sent,
    identity::{
        Container, Forgotten, Labels, Listed, Registry, Renamed, Resolution, Selection,
        peers::{Peer, Peers},
    },
    kernel::Slots,
    mixer::Mixer,
    room::Table as _,
    sensor::{self, Record, cgroup::CgroupEvent, io_uring, process, syscalls, tcp},
};

/// The key of the account that all cgroups share for which the registry had no room; no cgroup's id.
const SHARED: u64 = u64::MAX;

/// How many pairs of call and error there is room for on average in the accounts of the dead. The kernel's table is
/// emptied for each of them, so that its bound is none for all of them together.
const ERRORS_PER_ACCOUNT: usize = 64;

/// How long after its cgroup was excluded a slot may still be written to: a run of a program takes microseconds.
const QUARANTINE: Duration = Duration::from_secs(1);

/// By the id of the cgroup, which the kernel has chosen.
type ByCgroup<T> = HashMap<u64, T, BuildHasherDefault<Mixer>>;

/// What was observed of one container.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub syscalls: Option<Box<syscalls::Counters>>,
    pub io_uring: Option<Box<io_uring::Counters>>,
    pub tcp: tcp::Counters,
    pub oom: sensor::oom::Counters,
    pub process: process::Counters,
    /// Events that the token bucket has refused.
    pub throttled: u64,
}

impl Account {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { syscalls, io_uring, tcp, oom, process, throttled } = other;
        if let Some(syscalls) = syscalls {
            self.syscalls.get_or_insert_default().add(syscalls);
        }
        if let Some(io_uring) = io_uring {
            self.io_uring.get_or_insert_default().add(io_uring);
        }
        self.tcp.add(tcp);
        self.oom.add(oom);
        self.process.add(process);
        self.throttled += throttled;
    }
}

/// Whose a record is: what the registry says of its cgroup, and whether anybody wants to observe that.
#[derive(Clone, Debug)]
pub struct Owner {
    resolution: Resolution,
    is_wanted: bool,
}

impl Owner {
    pub(crate) fn new(resolution: Resolution, is_wanted: bool) -> Self {
        Self { resolution, is_wanted }
    }

    /// Whether the registry may say something else soon.
    pub fn is_open(&self) -> bool {
        matches!(self.resolution, Resolution::Pending | Resolution::Settling(_))
    }

    /// None where nobody knows the cgroup.
    pub fn container(&self) -> Option<&Arc<Container>> {
        match &self.resolution {
            Resolution::Known(container) | Resolution::Settling(container) => Some(container),
            Resolution::Pending | Resolution::Unknown | Resolution::Overflow => None,
        }
    }

    pub fn labels(&self) -> Arc<Labels> {
        match &self.resolution {
            Resolution::Known(container) | Resolution::Settling(container) => container.labels(),
            Resolution::Pending | Resolution::Unknown => Arc::new(Labels::unknown()),
            Resolution::Overflow => Arc::new(Labels::other()),
        }
    }
}

/// What booking a record has found out.
#[derive(Clone, Debug)]
pub struct Booked {
    /// Of an OOM kill: whose memory was short.
    pub scope: &'static str,
    /// Of an exit: why.
    pub exit_reason: &'static str,
}

/// What was counted for cgroups before they were excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    pub syscalls: u64,
    pub io_uring: u64,
}

/// Slots by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotUse {
    pub used: u64,
    pub limit: u64,
    /// Slots that were taken back from the dead.
    pub recycled: u64,
}

pub struct Ledger {
    registry: Arc<Registry>,
    peers: Arc<Peers>,
    selection: Selection,
    /// How system calls are measured in single namespaces.
    modes: HashMap<String, Mode>,
    slots: Slots,
    /// None where the `syscalls` sensor is off.
    tables: Option<syscalls::Tables>,
    /// None where the `io_uring` sensor is off.
    requests: Option<io_uring::Tables>,
    accounts: ByCgroup<Account>,
    /// Closed accounts whose labels, or at least whose workload, live on.
    carried: HashMap<Arc<Labels>, Account>,
    gone: Gone,
    /// Cgroups that nobody wants to observe.
    excluded: HashSet<u64>,
    /// Slots of excluded cgroups, with the time since when no program should use them.
    quarantine: Vec<(u32, u64, Instant)>,
    discarded: Discarded,
    carried_limit: usize,
    /// Since somebody last asked.
    renamed: Vec<Renamed>,
    /// Whether nobody tells the containers of a workload apart, so that what one has counted outlives it.
    is_by_workload: bool,
    /// Carried accounts that were dropped because of the limit.
    dropped: u64,
    victims: Victims,
    recycled: u64,
    /// The labels of those whose identity is decided, so that a page needn't ask the registry for each.
    decided: ByCgroup<Arc<Labels>>,
    /// Made once, so that they are known again by where they lie.
    unknown: Arc<Labels>,
    other: Arc<Labels>,
}

impl Ledger {
    /// `carried_limit` bounds the closed accounts whose workload lives on.
    pub fn new(
        registry: Arc<Registry>,
        peers: Arc<Peers>,
        selection: Selection,
        slots: Slots,
        tables: Option<syscalls::Tables>,
        requests: Option<io_uring::Tables>,
        carried_limit: usize,
    ) -> Self {
        Self {
            registry,
            peers,
            selection,
            modes: HashMap::new(),
            slots,
            tables,
            requests,
            accounts: HashMap::default(),
            decided: HashMap::default(),
            carried: HashMap::new(),
            gone: Gone::default(),
            excluded: HashSet::new(),
            quarantine: Vec::new(),
            discarded: Discarded::default(),
            carried_limit,
            renamed: Vec::new(),
            is_by_workload: false,
            dropped: 0,
            victims: Victims::default(),
            recycled: 0,
            unknown: Arc::new(Labels::unknown()),
            other: Arc::new(Labels::other()),
        }
    }

    /// Measures the system calls of some namespaces in modes of their own.
    #[must_use]
    pub fn measuring(mut self, modes: impl IntoIterator<Item = ModeByNamespace>) -> Self {
        self.modes = modes.into_iter().collect();
        self
    }

    /// Keeps what was counted for as long as the workload has another container here.
    #[must_use]
    pub fn by_workload(mut self, is_by_workload: bool) -> Self {
        self.is_by_workload = is_by_workload;
        self
    }

    /// Whose the records of this cgroup are.
    pub fn owner(&self, cgroup_id: u64, now: Instant) -> Owner {
        let resolution = self.registry.resolve(cgroup_id, now);
        let is_wanted = match &resolution {
            Resolution::Known(container) | Resolution::Settling(container) => self.wants(container),
            Resolution::Pending | Resolution::Unknown | Resolution::Overflow => true,
        };
        Owner::new(resolution, is_wanted)
    }

    /// Books a record and says what that has found out; `None` if nobody wants to observe its owner.
    pub fn book(&mut self, record: Record<'_>, owner: &Owner, now: Instant) -> Option<Booked> {
        let cgroup_id = record.header().cgroup_id;
        if !owner.is_wanted {
            self.observe(cgroup_id, false, now);
            return None;
        }
        let mut booked = Booked { scope: "unknown", exit_reason: "" };
        if matches!(record, Record::Cgroup(..) | Record::Call(..)) {
            return Some(booked);
        }
        // Those that there is no room to tell apart share an account.
        let key = if matches!(owner.resolution, Resolution::Overflow) { SHARED } else { cgroup_id };
        let account = self.accounts.entry(key).or_default();
        match record {
            Record::Tcp(kind, event) => {
                let peers = &*self.peers;
                peers.with(tcp::remote(event), |peer| account.tcp.record(kind, event, peer, peers));
            }
            Record::Oom(event) => {
                booked.scope = scope(event, owner);
                account.oom.record(booked.scope);
                self.victims.add(&event.header);
            }
            Record::Exec(_) => account.process.record_exec(),
            Record::Exit(event) => {
                booked.exit_reason =
                    if self.victims.is_end(event) { process::OOM_KILLED } else { process::reason(event) };
                account.process.record_exit(booked.exit_reason);
            }
            Record::Cgroup(..) | Record::Call(..) => {}
        }
        Some(booked)
    }

    /// Who is at the other end of the connection that a record tells of.
    pub fn peer(&self, record: Record<'_>) -> Option<Arc<Peer>> {
        let Record::Tcp(_, event) = record else { return None };
        Some(self.peers.of(tcp::remote(event)))
    }

    /// A span that was sent is an example of what its container has counted.
    pub fn exemplify(&mut self, sent: &Sent, now: Instant) {
        let resolution = self.registry.resolve(sent.cgroup_id, now);
        let key = if matches!(resolution, Resolution::Overflow) { SHARED } else { sent.cgroup_id };
        let Some(account) = self.accounts.get_mut(&key) else { return };
        for counted in sent.counted.iter().flatten() {
            account.tcp.exemplify(counted, sent.exemplar, &self.peers);
            account.process.exemplify(counted, sent.exemplar);
        }
    }

    /// Observes a cgroup, or leaves it alone from now on: the programs pass over it, and what was counted for it
    /// is discarded.
    pub fn observe(&mut self, cgroup_id: u64, wanted: bool, now: Instant) {
        if wanted {
            if self.excluded.remove(&cgroup_id) {
                self.slots.include(cgroup_id);
            }
        } else if self.excluded.insert(cgroup_id) {
            match self.slots.exclude(cgroup_id) {
                Ok(slot) => self.quarantine.extend(slot.map(|slot| (slot, cgroup_id, now))),
                Err(error) => {
                    tracing::warn!(%error, "a container can't be excluded in the kernel, only in the output");
                }
            }
            if let Some(account) = self.accounts.remove(&cgroup_id) {
                self.gone.take_in(&account);
            }
            self.decided.remove(&cgroup_id);
        }
    }

    /// Cgroups that are excluded now.
    pub fn excluded(&self) -> usize {
        self.excluded.len()
    }

    /// What of excluded cgroups was counted all the same, before it was known.
    pub fn discarded(&self) -> Discarded {
        self.discarded
    }

    /// Takes back the slots of the dead and closes the accounts of the forgotten. Call it every second or so. Returns whose
    /// labels have changed.
    pub fn tidy(&mut self, now: Instant) -> Vec<Renamed> {
        self.accounts.give_room_back();
        self.decided.give_room_back();
        self.carried.give_room_back();
        self.excluded.give_room_back();
        self.registry.choose();
        let listed = self.registry.list();
        let dead: HashSet<u64> = listed
            .iter()
            .filter(|listed| !listed.is_alive())
            .map(|listed| listed.container.cgroup_id)
            .collect();
        for listed in listed.iter().filter(|listed| listed.is_alive()) {
            // What has a name by now, or asks for something else than before.
            self.observe(listed.container.cgroup_id, self.wants(&listed.container), now);
        }
        self.choose_modes(&listed);
        let retired: Vec<(u32, u64)> = self.slots.owners().filter(|(_, id)| dead.contains(id)).collect();
        self.retire(&retired);
        let gone: Vec<u64> = self.excluded.intersection(&dead).copied().collect();
        for id in gone {
            self.observe(id, true, now);
        }
        self.release_quarantine(now);
        let renamed = self.rename();
        let forgotten = self.registry.expire(now);
        if forgotten.is_empty() {
            return renamed;
        }
        // Those that never became known have kept their slots until now.
        let ids: HashSet<u64> = forgotten.iter().map(|forgotten| forgotten.id).collect();
        let left: Vec<(u32, u64)> = self.slots.owners().filter(|(_, owner)| ids.contains(owner)).collect();
        self.retire(&left);
        for Forgotten { id, labels } in forgotten {
            self.decided.remove(&id);
            if let Some(account) = self.accounts.remove(&id) {
                self.carry(labels, &account);
            }
        }
        let living = self.registry.list().into_iter().map(|listed| listed.container.labels()).collect();
        let (carried, gone) = (&mut self.carried, &mut self.gone);
        if self.is_by_workload {
            join(carried, &living, gone);
        } else {
            let_go(carried, &living, gone);
        }
        self.dropped += bound(carried, self.carried_limit, &living, gone);
        renamed
    }

    /// Containers whose namespace is known by now are measured as it says.
    fn choose_modes(&self, listed: &[Listed]) {
        if self.modes.is_empty() {
            return;
        }
        let wanted: HashMap<u64, Mode> = listed
            .iter()
            .filter_map(|listed| {
                let mode = self.modes.get(&listed.container.labels().namespace)?;
                Some((listed.container.cgroup_id, *mode))
            })
            .collect();
        for (slot, id) in self.slots.owners() {
            if let Some(mode) = wanted.get(&id) {
                self.slots.set_mode(slot, *mode);
            }
        }
    }

    fn release_quarantine(&mut self, now: Instant) {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            self.quarantine.drain(..).partition(|(_, _, since)| now.duration_since(*since) >= QUARANTINE);
        self.quarantine = waiting;
        for (slot, id, _) in ready {
            // A program that was under way may have put it there once more.
            self.slots.forget_cached(id);
            if let Some(tables) = &self.tables {
                let mut counters = syscalls::Counters::default();
                tables.read(slot, &mut counters);
                self.discarded.syscalls += counters.total();
            }
            if let Some(requests) = &self.requests {
                let mut counters = io_uring::Counters::default();
                requests.read(slot, &mut counters);
                self.discarded.io_uring += counters.total();
            }
            self.give_back(slot);
        }
    }

    /// Slots behind which something may have been counted.
    fn open_slots(&self) -> impl Iterator<Item = u32> {
        let owned = self.slots.owners().map(|(slot, _)| slot);
        let quarantined = self.quarantine.iter().map(|(slot, _, _)| *slot);
        [OVERFLOW].into_iter().chain(owned).chain(quarantined)
    }

    /// All system calls that were counted, whoever made them.
    pub fn syscalls(&self) -> syscalls::Counters {
        let mut sum = self.gone.syscalls.clone();
        let closed = self.accounts.values().chain(self.carried.values());
        for counters in closed.filter_map(|account| account.syscalls.as_deref()) {
            sum.add(counters);
        }
        if let Some(tables) = &self.tables {
            self.open_slots().for_each(|slot| tables.read(slot, &mut sum));
        }
        sum
    }

    /// All rings and requests that were counted, whoever made them.
    pub fn io_uring(&self) -> io_uring::Counters {
        let mut sum = self.gone.io_uring.clone();
        let closed = self.accounts.values().chain(self.carried.values());
        for counters in closed.filter_map(|account| account.io_uring.as_deref()) {
            sum.add(counters);
        }
        if let Some(requests) = &self.requests {
            self.open_slots().for_each(|slot| requests.read(slot, &mut sum));
        }
        sum
    }

    /// Closed accounts that were dropped, although their workload lives on, because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn slot_use(&self) -> SlotUse {
        // The overflow slot is nobody's.
        let limit = u64::from(self.slots.count()) - 1;
        SlotUse { used: self.slots.owners().count() as u64, limit, recycled: self.recycled }
    }

    /// What the programs have counted for a slot; `errors` are those of all slots.
    fn read_slot(&self, slot: u32, errors: &mut syscalls::ErrorsBySlot) -> Account {
        let syscalls = self.tables.as_ref().and_then(|tables| {
            let mut counters = Box::<syscalls::Counters>::default();
            tables.read(slot, &mut counters);
            counters.add_errors(&errors.remove(&slot).unwrap_or_default());
            (counters.total() > 0).then_some(counters)
        });
        let io_uring = self.requests.as_ref().and_then(|requests| {
            let mut counters = Box::<io_uring::Counters>::default();
            requests.read(slot, &mut counters);
            (counters.total() > 0).then_some(counters)
        });
        Account { syscalls, io_uring, throttled: self.slots.throttled(slot), ..Account::default() }
    }

    /// Containers with better labels take along what was carried under the old ones: nobody who is left has them.
    fn rename(&mut self) -> Vec<Renamed> {
        let renamed = self.registry.rename();
        if !renamed.is_empty() {
            self.decided.clear();
        }
        for Renamed { from, to } in &renamed {
            if let Some(account) = self.carried.remove(from) {
                self.carry(Arc::clone(to), &account);
            }
            // Where nobody asks, nothing depends on it.
            if self.renamed.len() < self.carried_limit {
                self.renamed.push(Renamed { from: Arc::clone(from), to: Arc::clone(to) });
            }
        }
        renamed
    }

    /// Whose labels have changed since this was asked last.
    pub fn take_renamed(&mut self) -> Vec<Renamed> {
        std::mem::take(&mut self.renamed)
    }

    fn carry(&mut self, labels: Arc<Labels>, account: &Account) {
        let carried = self.carried.entry(labels).or_default();
        carried.add(account);
        carried.tcp.fold(&self.peers);
    }

    fn retire(&mut self, slots: &[(u32, u64)]) {
        if slots.is_empty() {
            return;
        }
        let mut errors = self.tables.as_ref().map(syscalls::Tables::read_errors).unwrap_or_default();
        let closed = self.accounts.values().chain(self.carried.values());
        let told =
            closed.filter_map(|account| account.syscalls.as_deref()).map(syscalls::Counters::told_errors);
        let mut room = (self.carried_limit * ERRORS_PER_ACCOUNT).saturating_sub(told.sum());
        for (slot, id) in slots {
            self.slots.unbind(*slot, *id);
            let mut counted = self.read_slot(*slot, &mut errors);
            if let Some(syscalls) = &mut counted.syscalls {
                syscalls.fold_errors_beyond(room);
                room -= syscalls.told_errors();
            }
            self.accounts.entry(*id).or_default().add(&counted);
            self.give_back(*slot);
        }
    }

    /// Zeroes a slot and offers it to others. One that can't be zeroed is kept: what was counted is nobody else's.
    fn give_back(&mut self, slot: u32) {
        let is_clear = self.tables.as_ref().is_none_or(|tables| tables.clear(slot))
            && self.requests.as_ref().is_none_or(|requests| requests.clear(slot));
        if !is_clear {
            return tracing::warn!(slot, "a container slot is lost until the next start: it can't be zeroed");
        }
        match self.slots.give_back(slot) {
            Ok(()) => self.recycled += 1,
            Err(error) => tracing::warn!(slot, %error, "a container slot is lost until the next start"),
        }
    }

    fn wants(&self, container: &Container) -> bool {
        self.selection.wants(&container.labels().namespace, container.declines())
    }
}

/// Whose memory was short.
fn scope(event: &oom::OomEvent, owner: &Owner) -> &'static str {
    match (event.limit_level, owner.container()) {
        (oom::LIMIT_NODE, _) => "node",
        (level @ 0.., Some(container)) => {
            let depth = u32::try_from(event.memcg_depth).unwrap_or(0);
            container.placement.scope_of(depth, level.unsigned_abs()).as_str()
        }
        _ => "unknown",
    }
}

/// What a `cgroup` record teaches the registry.
pub fn learn(registry: &Registry, kind: EventKind, event: &CgroupEvent, now: Instant) {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};
    let id = event.header.cgroup_id;
    let path = sensor::cgroup::path(event).map(|bytes| Path::new(OsStr::from_bytes(bytes)));
    match (kind, path) {
        (EventKind::CgroupMkdir, Some(path)) => registry.born(id, path, now),
        (EventKind::CgroupRmdir, path) => registry.died(id, path, now),
        _ => {}
    }
}
