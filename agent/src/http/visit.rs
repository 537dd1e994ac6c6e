//! What is known of a connection while it is served, and of all of a listener together.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;

/// One connection.
#[derive(Debug)]
pub(super) struct Visit {
    has_asked: AtomicBool,
    may_be_slow: AtomicBool,
    /// What was written last has not gone.
    is_stalled: AtomicBool,
    /// Since when there is nothing to answer, while there is nothing.
    idle: Mutex<Option<Instant>>,
    dismissal: Notify,
}

impl Default for Visit {
    /// It begins.
    fn default() -> Self {
        Self {
            has_asked: AtomicBool::default(),
            may_be_slow: AtomicBool::default(),
            is_stalled: AtomicBool::default(),
            idle: Mutex::new(Some(Instant::now())),
            dismissal: Notify::default(),
        }
    }
}

impl Visit {
    /// A whole head of a request has come.
    pub(super) fn ask(&self) {
        self.has_asked.store(true, Relaxed);
        self.may_be_slow.store(false, Relaxed);
        *self.idle() = None;
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

    pub(super) fn stall(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Relaxed);
    }

    /// Since when it has been waiting for a request, the first or another one; none while there is something to answer.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.idle().filter(|_| !self.is_stalled.load(Relaxed))
    }

    /// Somebody else needs the place.
    pub(super) fn dismiss(&self) {
        self.dismissal.notify_one();
    }

    pub(super) async fn dismissed(&self) {
        self.dismissal.notified().await;
    }

    // Nothing is half done while it is locked.
    fn idle(&self) -> MutexGuard<'_, Option<Instant>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an answer, after which the connection is idle.
pub(super) struct Answer {
    body: Body,
    visit: Arc<Visit>,
}

impl Answer {
    pub(super) fn new(body: Body, visit: Arc<Visit>) -> Self {
        Self { body, visit }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        *self.visit.idle() = Some(Instant::now());
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What became of the connections to one listener.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    admitted: AtomicU64,
    refused: AtomicU64,
    silent: AtomicU64,
    displaced: AtomicU64,
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

    /// Those that were turned away because every place was taken by somebody who is served.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Of those that were served, the ones that were closed because they asked for nothing.
    pub fn silent(&self) -> u64 {
        self.silent.load(Relaxed)
    }

    /// Of those that were served, the idle ones that were closed for the sake of new ones.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Relaxed)
    }

    pub(super) fn displace(&self) {
        self.displaced.fetch_add(1, Relaxed);
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
