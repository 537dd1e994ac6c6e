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
    pub fn shown(&self, now: Instant) -> Vec<(Arc<Labels>, Part<'_>)> {
        let mut shown = Vec::with_capacity(self.carried.len() + self.accounts.len());
        for (labels, account) in &self.carried {
            shown.push((Arc::clone(labels), Part::Kept(account)));
        }
        for (id, account) in &self.accounts {
            if let Some(labels) = self.decided(*id, now) {
                shown.push((labels, Part::Kept(account)));
            }
        }
        let mut errors = self.tables.as_ref().map(syscalls::Tables::read_errors).unwrap_or_default();
        let overflow = (OVERFLOW, Some(Arc::clone(&self.other)));
        let owners = self.slots.owners().map(|(slot, id)| (slot, self.decided(id, now)));
        for (slot, labels) in owners.chain([overflow]) {
            let Some(labels) = labels else { continue };
            let counted = self.read_slot(slot, &mut errors);
            if counted.syscalls.is_some() || counted.io_uring.is_some() || counted.throttled > 0 {
                shown.push((labels, Part::Made(Box::new(counted))));
            }
        }
        shown
    }

    fn decided(&self, id: u64, now: Instant) -> Option<Arc<Labels>> {
        if id == SHARED {
            return Some(Arc::clone(&self.other));
        }
        match self.registry.resolve(id, now) {
            Resolution::Pending | Resolution::Settling(_) => None,
            Resolution::Unknown => Some(Arc::clone(&self.unknown)),
            Resolution::Overflow => Some(Arc::clone(&self.other)),
            Resolution::Known(container) => {
                let labels = container.labels();
                self.selection.wants(&labels.namespace, container.declines()).then_some(labels)
            }
        }
    }
}
