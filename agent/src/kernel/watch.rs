//! Which system calls become events, told to the programs: at start, and while somebody watches.

use std::mem::offset_of;

use agent_ebpf::contract::{
    calls::{CallSet, ERRNO_WORDS, Rule, Watch},
    syscalls::NUMBERS,
};
use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};

use super::{
    LoadError, Running, Table,
    object::{table, take},
    program,
};
use crate::sensor::calls::{ENTER, EXIT, Plan};

/// What makes a call an event by itself.
#[derive(Clone, Debug)]
pub struct CallSettings {
    /// Nanoseconds from which on a call is slow, by number; 0: never.
    pub slow_ns: [u64; NUMBERS],
    /// Errnos.
    pub failed: Vec<u32>,
    /// Whether the paths in their arguments are told.
    pub paths: bool,
    /// Such events per second and container, and at once.
    pub rate: u64,
    pub burst: u64,
    /// Which argument of a call is a path and which a descriptor, by number: one more than its index, or 0.
    pub places: [(u32, u32); NUMBERS],
}

impl CallSettings {
    /// The shortest time that makes any call a slow one.
    pub(super) fn slow_least(&self) -> u64 {
        self.slow_ns.iter().copied().filter(|ns| *ns != 0).min().unwrap_or(u64::MAX)
    }

    /// Whether any call can become an event by itself.
    pub(super) fn are_told(&self) -> bool {
        self.slow_least() != u64::MAX || !self.failed.is_empty()
    }

    /// Fills the tables that don't change any more.
    pub(super) fn fill(&self, ebpf: &mut Ebpf) -> Result<(), LoadError> {
        let rules: Table<Rule> = table(ebpf, "RULES", NUMBERS as u32)?;
        for ((number, slow_ns), (path, file)) in (0u32..).zip(self.slow_ns).zip(self.places) {
            rules.store(number, offset_of!(Rule, slow_ns) / 8, slow_ns);
            let places = u64::from(path) | u64::from(file) << 32;
            rules.store(number, offset_of!(Rule, path) / 8, places);
        }
        let failures: Table<u64> = table(ebpf, "FAILURES", ERRNO_WORDS as u32)?;
        for errno in &self.failed {
            failures.store(errno / 64, 0, failures.load(errno / 64, 0) | 1 << (errno % 64));
        }
        Ok(())
    }
}

/// What the programs that watch are told.
pub(super) struct Watching {
    watch: Table<Watch>,
    watched: HashMap<MapData, u64, CallSet>,
}

impl Watching {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { watch: table(ebpf, "WATCH", 1)?, watched: take(ebpf, "WATCHED")?.try_into()? })
    }

    fn tell(&mut self, plan: &Plan) {
        let stale: Vec<u64> =
            self.watched.keys().flatten().filter(|id| !plan.containers.contains_key(id)).collect();
        for id in stale {
            let _ = self.watched.remove(&id);
        }
        for (id, calls) in &plan.containers {
            if let Err(error) = self.watched.insert(id, calls, 0) {
                tracing::warn!(%error, "a container's system calls can't be watched");
            }
        }
        self.store(offset_of!(Watch, everywhere), &plan.everywhere);
        self.store(offset_of!(Watch, any), &plan.any());
        self.watch.store(0, offset_of!(Watch, paths) / 8, plan.paths.into());
    }

    fn store(&self, at: usize, set: &CallSet) {
        for (word, bits) in set.iter().enumerate() {
            self.watch.store(0, at / 8 + word, *bits);
        }
    }

    /// What began before is of no interest any more.
    fn begin(&self) {
        const EPOCH: usize = offset_of!(Watch, epoch) / 8;
        // Half a word of it is kept with a task: 4 billion watches.
        self.watch.store(0, EPOCH, (self.watch.load(0, EPOCH) + 1) & u64::from(u32::MAX));
    }
}

impl Running {
    /// Watches what the plan says from now on: attaches the programs for it, or detaches them if it is empty.
    ///
    /// # Errors
    ///
    /// Why they can't be attached; nothing is watched then.
    pub fn watch(&mut self, plan: &Plan) -> Result<(), String> {
        if plan.is_empty() {
            self.unwatch();
        }
        self.watching.tell(plan);
        let [enter, exit] = [ENTER, EXIT].map(|name| self.attached.get(name).copied());
        let (Some(enter), Some(exit)) = (enter, exit) else {
            return Err("the sensor calls is off or doesn't work on this kernel".to_owned());
        };
        if plan.is_empty() || self.links.contains_key(ENTER) {
            return Ok(());
        }
        self.watching.begin();
        // What begins must not end unseen, only because the hooks come one after the other.
        for (name, attached) in [(EXIT, exit), (ENTER, enter)] {
            match program::attach(&mut self.ebpf, &attached) {
                Ok(link) => drop(self.links.insert(name, link)),
                Err(reason) => {
                    self.unwatch();
                    return Err(format!("{}: {reason}", attached.name()));
                }
            }
        }
        Ok(())
    }

    fn unwatch(&mut self) {
        for name in [ENTER, EXIT] {
            if let (Some(attached), Some(link)) = (self.attached.get(name), self.links.remove(name)) {
                program::detach(&mut self.ebpf, attached, link);
            }
        }
    }
}
