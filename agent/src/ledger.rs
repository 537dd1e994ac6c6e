//! The ledger: an account for every container, kept by cgroup id, shown by labels.
//!
//! Events are booked as they come; system calls are read out of the kernel's tables when somebody asks. When a
//! cgroup dies, its slot is read a last time and given back; when its identity is forgotten, its account is
//! closed, or carried on if others go by the same labels, so that no counter goes back while its series lives.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use agent_ebpf::contract::{event::EventKind, oom, slot::OVERFLOW};

use crate::{
    identity::{Labels, Registry, Resolution},
    kernel::Slots,
    sensor::{self, Record, process, syscalls, tcp},
};

/// OOM victims whose exit is still awaited.
const VICTIMS: usize = 256;

/// What was observed of one container.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub syscalls: Option<Box<syscalls::Counters>>,
    pub tcp: tcp::Counters,
    pub oom: sensor::oom::Counters,
    pub process: process::Counters,
}

impl Account {
    fn add(&mut self, other: &Self) {
        let Self { syscalls, tcp, oom, process } = other;
        if let Some(syscalls) = syscalls {
            self.syscalls.get_or_insert_default().add(syscalls);
        }
        self.tcp.add(tcp);
        self.oom.add(oom);
        self.process.add(process);
    }
}

/// What booking a record has found out.
#[derive(Clone, Debug)]
pub struct Booked {
    pub labels: Arc<Labels>,
    /// Of an OOM kill: whose memory was short.
    pub scope: &'static str,
    /// Of an exit: why.
    pub exit_reason: &'static str,
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
    slots: Slots,
    /// None where the `syscalls` sensor is off.
    tables: Option<syscalls::Tables>,
    accounts: HashMap<u64, Account>,
    /// Closed accounts whose labels live on.
    carried: HashMap<Arc<Labels>, Account>,
    victims: VecDeque<u32>,
    recycled: u64,
}

impl Ledger {
    pub fn new(registry: Arc<Registry>, slots: Slots, tables: Option<syscalls::Tables>) -> Self {
        Self {
            registry,
            slots,
            tables,
            accounts: HashMap::new(),
            carried: HashMap::new(),
            victims: VecDeque::new(),
            recycled: 0,
        }
    }

    /// Books a record and says what it belongs to.
    pub fn book(&mut self, record: &Record, now: Instant) -> Booked {
        let cgroup_id = record.header().cgroup_id;
        let resolution = self.registry.resolve(cgroup_id, now);
        let mut booked = Booked { labels: labels_of(&resolution), scope: "unknown", exit_reason: "" };
        if matches!(record, Record::Cgroup(..)) {
            return booked;
        }
        let account = self.accounts.entry(cgroup_id).or_default();
        match record {
            Record::Tcp(kind, event) => account.tcp.record(*kind, event),
            Record::Oom(event) => {
                booked.scope = scope(event, &resolution);
                account.oom.record(booked.scope);
                if self.victims.len() == VICTIMS {
                    self.victims.pop_front();
                }
                self.victims.push_back(event.header.pid);
            }
            Record::Exec(_) => account.process.record_exec(),
            Record::Exit(event) => {
                let victim = self.victims.iter().position(|pid| *pid == event.header.pid);
                booked.exit_reason = match victim {
                    Some(at) => {
                        self.victims.remove(at);
                        process::OOM_KILLED
                    }
                    None => process::reason(event),
                };
                account.process.record_exit(booked.exit_reason);
            }
            Record::Cgroup(..) => {}
        }
        booked
    }

    /// Takes back the slots of the dead and closes the accounts of the forgotten. Call it every second or so.
    pub fn tidy(&mut self, now: Instant) {
        let listed = self.registry.list();
        let dead: HashSet<u64> =
            listed.iter().filter(|listed| !listed.alive).map(|listed| listed.container.cgroup_id).collect();
        let retired: Vec<(u32, u64)> = self.slots.owners().filter(|(_, id)| dead.contains(id)).collect();
        if !retired.is_empty() {
            self.retire(&retired);
        }
        let forgotten = self.registry.expire(now);
        if forgotten.is_empty() {
            return;
        }
        let labels: HashMap<u64, Arc<Labels>> = listed
            .into_iter()
            .map(|listed| (listed.container.cgroup_id, Arc::clone(&listed.container.labels)))
            .collect();
        for id in forgotten {
            if let Some(account) = self.accounts.remove(&id) {
                let labels = labels.get(&id).map_or_else(|| Arc::new(Labels::unknown()), Arc::clone);
                self.carried.entry(labels).or_default().add(&account);
            }
        }
        let living: HashSet<Arc<Labels>> =
            self.registry.list().into_iter().map(|listed| Arc::clone(&listed.container.labels)).collect();
        let for_good = [Labels::unknown(), Labels::other()];
        self.carried.retain(|labels, _| living.contains(labels) || for_good.contains(labels));
    }

    /// All accounts by their labels. Containers whose identity isn't decided yet are left out.
    pub fn accounts(&self, now: Instant) -> BTreeMap<Arc<Labels>, Account> {
        let mut sums: BTreeMap<Arc<Labels>, Account> = BTreeMap::new();
        for (labels, account) in &self.carried {
            sums.entry(Arc::clone(labels)).or_default().add(account);
        }
        for (id, account) in &self.accounts {
            if let Some(labels) = self.decided(*id, now) {
                sums.entry(labels).or_default().add(account);
            }
        }
        if let Some(tables) = &self.tables {
            let mut errors = tables.read_errors();
            let overflow = (OVERFLOW, Some(Arc::new(Labels::other())));
            let owners = self.slots.owners().map(|(slot, id)| (slot, self.decided(id, now)));
            for (slot, labels) in owners.chain([overflow]) {
                let Some(labels) = labels else { continue };
                let mut counters = syscalls::Counters::default();
                tables.read(slot, &mut counters);
                counters.add_errors(&errors.remove(&slot).unwrap_or_default());
                if counters.total() > 0 {
                    sums.entry(labels).or_default().syscalls.get_or_insert_default().add(&counters);
                }
            }
        }
        sums
    }

    /// All system calls that were counted, whoever made them.
    pub fn syscalls(&self) -> syscalls::Counters {
        let mut sum = syscalls::Counters::default();
        let closed = self.accounts.values().chain(self.carried.values());
        for counters in closed.filter_map(|account| account.syscalls.as_deref()) {
            sum.add(counters);
        }
        if let Some(tables) = &self.tables {
            for slot in 0..self.slots.count() {
                tables.read(slot, &mut sum);
            }
        }
        sum
    }

    pub fn slot_use(&self) -> SlotUse {
        // The overflow slot is nobody's.
        let limit = u64::from(self.slots.count()) - 1;
        SlotUse { used: self.slots.owners().count() as u64, limit, recycled: self.recycled }
    }

    fn retire(&mut self, slots: &[(u32, u64)]) {
        let mut errors = self.tables.as_ref().map(syscalls::Tables::read_errors).unwrap_or_default();
        for (slot, id) in slots {
            self.slots.unbind(*slot, *id);
            if let Some(tables) = &self.tables {
                let mut counters = syscalls::Counters::default();
                tables.read(*slot, &mut counters);
                counters.add_errors(&errors.remove(slot).unwrap_or_default());
                self.accounts.entry(*id).or_default().syscalls.get_or_insert_default().add(&counters);
                tables.clear(*slot);
            }
            match self.slots.give_back(*slot) {
                Ok(()) => self.recycled += 1,
                Err(error) => tracing::warn!(slot, %error, "a container slot is lost until the next start"),
            }
        }
    }

    fn decided(&self, id: u64, now: Instant) -> Option<Arc<Labels>> {
        match self.registry.resolve(id, now) {
            Resolution::Pending => None,
            resolution => Some(labels_of(&resolution)),
        }
    }
}

fn labels_of(resolution: &Resolution) -> Arc<Labels> {
    match resolution {
        Resolution::Known(container) => Arc::clone(&container.labels),
        Resolution::Pending | Resolution::Unknown => Arc::new(Labels::unknown()),
        Resolution::Overflow => Arc::new(Labels::other()),
    }
}

/// Whose memory was short.
fn scope(event: &oom::OomEvent, resolution: &Resolution) -> &'static str {
    match (event.limit_level, resolution) {
        (oom::LIMIT_NODE, _) => "node",
        (level @ 0.., Resolution::Known(container)) => {
            let depth = u32::try_from(event.memcg_depth).unwrap_or(0);
            container.placement.scope_of(depth, level.unsigned_abs()).as_str()
        }
        _ => "unknown",
    }
}

/// The kinds that a `cgroup` record teaches the registry with.
pub fn learn(registry: &Registry, record: &Record, now: Instant) {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};
    let Record::Cgroup(kind, event) = record else { return };
    let id = event.header.cgroup_id;
    let path = sensor::cgroup::path(event).map(|bytes| Path::new(OsStr::from_bytes(bytes)));
    match (kind, path) {
        (EventKind::CgroupMkdir, Some(path)) => registry.born(id, path, now),
        (EventKind::CgroupRmdir, path) => registry.died(id, path, now),
        _ => {}
    }
}
