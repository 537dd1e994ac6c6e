//! What the accounts are shown as: by labels, and those that aren't decided yet left out.

use std::{ops::Deref, sync::Arc, time::Instant};

use agent_ebpf::contract::slot::OVERFLOW;

use super::{Account, Ledger, SHARED};
use crate::{
    identity::{Labels, Resolution},
    sensor::syscalls,
};

/// A part of what is shown under some labels: an account as it stands in the ledger, or one that was made to be shown.
pub enum Part<'a> {
    Kept(&'a Account),
    Made(Box<Account>),
}

impl Deref for Part<'_> {
    type Target = Account;

    fn deref(&self) -> &Account {
        match self {
            Self::Kept(account) => account,
            Self::Made(account) => account,
        }
    }
}

impl Part<'_> {
    /// The sum of this one and another one.
    pub fn add(&mut self, other: Self) {
        match (&mut *self, &other) {
            (Self::Made(sum), other) => sum.add(other),
            (Self::Kept(_), Self::Made(_)) => {
                let kept = std::mem::replace(self, other);
                self.add(kept);
            }
            (Self::Kept(one), Self::Kept(other)) => {
                let mut sum = Box::new(Account::clone(one));
                sum.add(other);
                *self = Self::Made(sum);
            }
        }
    }
}

impl Ledger {
    /// Everything with its labels, in no order; the same labels may come several times. Containers whose identity isn't
    /// decided yet are left out.
    pub fn shown(&mut self, now: Instant) -> Vec<(&Arc<Labels>, Part<'_>)> {
        self.decide(now);
        let mut shown = Vec::with_capacity(self.carried.len() + self.accounts.len());
        for (labels, account) in &self.carried {
            shown.push((labels, Part::Kept(account)));
        }
        for (id, account) in &self.accounts {
            if let Some(labels) = self.decided.get(id) {
                shown.push((labels, Part::Kept(account)));
            }
        }
        let mut errors = self.tables.as_ref().map(syscalls::Tables::read_errors).unwrap_or_default();
        for (slot, id) in self.slots.owners().chain([(OVERFLOW, SHARED)]) {
            let Some(labels) = self.decided.get(&id) else { continue };
            let counted = self.read_slot(slot, &mut errors);
            if counted.syscalls.is_some() || counted.io_uring.is_some() || counted.throttled > 0 {
                shown.push((labels, Part::Made(Box::new(counted))));
            }
        }
        shown
    }

    /// Asks the registry about those who weren't decided upon when this was done last.
    fn decide(&mut self, now: Instant) {
        let Self { registry, selection, accounts, slots, decided, unknown, other, .. } = self;
        decided.insert(SHARED, Arc::clone(other));
        for id in accounts.keys().copied().chain(slots.owners().map(|(_, id)| id)) {
            if decided.contains_key(&id) {
                continue;
            }
            let labels = match registry.resolve(id, now) {
                Resolution::Pending | Resolution::Settling(_) => continue,
                Resolution::Unknown => Arc::clone(unknown),
                Resolution::Overflow => Arc::clone(other),
                Resolution::Known(container) => {
                    let labels = container.labels();
                    if !selection.wants(&labels.namespace, container.declines()) {
                        continue;
                    }
                    labels
                }
            };
            decided.insert(id, labels);
        }
    }
}
