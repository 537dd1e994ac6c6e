//! The hub: one publisher, few readers.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use super::{
    Notice,
    queue::{Batch, Entry, Event, Loss, Queue},
};
use crate::{filter::Filter, observation::Observation};

/// Entries that a reader takes at once: enough to share a write, too few to hold a worker for long.
const BATCH: usize = 64;

/// Hands observations to live readers. Publishing costs one atomic load while nobody reads, and never waits for
/// a reader.
pub struct Hub {
    buffer: usize,
    max_clients: usize,
    readers: RwLock<Vec<Arc<Queue>>>,
    /// The number of readers, for the publisher: no lock, no fence.
    clients: AtomicUsize,
    /// The same, for those who wait for a change.
    watchers: watch::Sender<usize>,
    events_sent: AtomicU64,
    events_lost: AtomicU64,
    clients_refused: AtomicU64,
}

/// One reader's end of a [`Hub`]; dropping it unsubscribes.
pub struct Subscription {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
}

/// Every place is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{max_clients} live readers are connected, as many as allowed: end one of them, or raise the limit")]
pub struct TooManyClients {
    pub max_clients: usize,
}

impl Hub {
    /// A hub for up to `max_clients` readers, each of which may be `buffer` events behind.
    pub fn new(buffer: usize, max_clients: usize) -> Self {
        Self {
            buffer: buffer.max(1),
            max_clients,
            readers: RwLock::default(),
            clients: AtomicUsize::new(0),
            watchers: watch::Sender::new(0),
            events_sent: AtomicU64::new(0),
            events_lost: AtomicU64::new(0),
            clients_refused: AtomicU64::new(0),
        }
    }

    /// Whether anybody reads; ask before building an observation for the stream alone.
    pub fn has_watchers(&self) -> bool {
        self.clients.load(Relaxed) > 0
    }

    /// Hands an observation to every reader whose filter wants it.
    pub fn publish(&self, observation: Arc<Observation>) {
        if !self.has_watchers() {
            return;
        }
        let mut event = None;
        for reader in self.readers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if reader.filter.matches(&observation) {
                let event = event.get_or_insert_with(|| Arc::new(Event::new(Arc::clone(&observation))));
                self.push(reader, Entry::Event(Arc::clone(event)));
            }
        }
    }

    /// Tells every reader, among the events, how many more events of a sensor have not left the kernel.
    pub fn publish_loss(&self, sensor: &'static str, lost: u64, throttled: u64) {
        if !self.has_watchers() || lost == 0 && throttled == 0 {
            return;
        }
        let loss = Loss { time: jiff::Timestamp::now(), sensor, lost, throttled };
        for reader in self.readers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            self.push(reader, Entry::Loss(loss));
        }
    }

    /// Adds a reader, from now on.
    pub fn subscribe(self: &Arc<Self>, filter: Filter) -> Result<Subscription, TooManyClients> {
        let mut readers = self.readers.write().unwrap_or_else(PoisonError::into_inner);
        if readers.len() >= self.max_clients {
            self.clients_refused.fetch_add(1, Relaxed);
            return Err(TooManyClients { max_clients: self.max_clients });
        }
        let queue = Arc::new(Queue::new(filter, self.buffer));
        readers.push(Arc::clone(&queue));
        self.set_clients(readers.len());
        Ok(Subscription { hub: Arc::clone(self), queue })
    }

    /// The number of readers as it changes: 0 → 1 switches on what only a reader needs, 1 → 0 switches it off.
    pub fn watchers(&self) -> watch::Receiver<usize> {
        self.watchers.subscribe()
    }

    /// Readers connected now.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// The most readers at a time.
    pub fn max_clients(&self) -> usize {
        self.max_clients
    }

    /// Events handed to readers; one that three readers get counts three times.
    pub fn events_sent(&self) -> u64 {
        self.events_sent.load(Relaxed)
    }

    /// Events dropped because a reader was too slow; one that three readers miss counts three times.
    pub fn lost_to_slow_readers(&self) -> u64 {
        self.events_lost.load(Relaxed)
    }

    /// Readers turned away because every place was taken.
    pub fn clients_refused(&self) -> u64 {
        self.clients_refused.load(Relaxed)
    }

    fn push(&self, reader: &Queue, entry: Entry) {
        let evicted = reader.push(entry);
        if evicted > 0 {
            self.events_lost.fetch_add(evicted, Relaxed);
        }
    }

    fn unsubscribe(&self, queue: &Arc<Queue>) {
        let mut readers = self.readers.write().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| !Arc::ptr_eq(reader, queue));
        self.set_clients(readers.len());
    }

    /// To be called with `readers` locked for writing, so that no older number overtakes a newer one.
    fn set_clients(&self, clients: usize) {
        self.clients.store(clients, Relaxed);
        self.watchers.send_replace(clients);
    }
}

impl Subscription {
    /// Waits for something to read; whole lines, newlines included. Cancelling loses nothing.
    pub async fn next(&mut self) -> Vec<Bytes> {
        loop {
            if let Some(lines) = self.try_next() {
                return lines;
            }
            self.queue.filled().await;
        }
    }

    /// The same without waiting.
    pub fn try_next(&mut self) -> Option<Vec<Bytes>> {
        let Batch { lagged, losses, entries } = self.queue.take(BATCH)?;
        let mut lines = Vec::with_capacity(entries.len() + 1);
        if lagged > 0 {
            lines.push(Notice::Lagged { lost: lagged }.to_line(jiff::Timestamp::now()));
        }
        lines.extend(losses.into_iter().flat_map(Loss::lines));
        let mut events = 0;
        for entry in entries {
            match entry {
                Entry::Event(event) => {
                    events += 1;
                    lines.push(event.line());
                }
                Entry::Loss(loss) => lines.extend(loss.lines()),
            }
        }
        self.hub.events_sent.fetch_add(events, Relaxed);
        Some(lines)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.queue);
    }
}

#[cfg(test)]
mod tests;
