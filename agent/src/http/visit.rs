//! What is known of a connection while it is served, and of all of a listener together.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Visit {
    has_asked: AtomicBool,
    may_be_slow: AtomicBool,
}

impl Visit {
    /// A whole head of a request has come.
    pub(super) fn ask(&self) {
        self.has_asked.store(true, Relaxed);
        self.may_be_slow.store(false, Relaxed);
    }

    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Relaxed)
    }

    /// The peer may take this answer as slowly as it likes: it has a bound of its own.
    pub(super) fn allow_slowness(&self) {
        self.may_be_slow.store(true, Relaxed);
    }

    pub(super) fn may_be_slow(&self) -> bool {
        self.may_be_slow.load(Relaxed)
    }
}

/// What became of the connections to one listener.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    admitted: AtomicU64,
    refused: AtomicU64,
    silent: AtomicU64,
}

impl Connections {
    /// Open now.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Those that were served.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Relaxed)
    }

    /// Those that were turned away because every place was taken.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Of those that were served, the ones that were closed because they asked for nothing.
    pub fn silent(&self) -> u64 {
        self.silent.load(Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn give_up(&self) {
        self.silent.fetch_add(1, Relaxed);
    }

    /// Counts as open until the guard goes.
    pub(super) fn admit(self: &Arc<Self>) -> Open {
        self.admitted.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }
}

/// A connection that is open.
pub(super) struct Open(Arc<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
