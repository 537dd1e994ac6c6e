//! The hub: one publisher, few readers.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use super::{
    Demand, EventId, Notice, Start,
    deaths::Deaths,
    queue::{Batch, Entry, Event, Loss, Queue},
    replay::{Gap, Replay},
};
use crate::{filter::Filter, identity::Renamed, observation::Observation};

/// Entries that a reader takes at once: enough to share a write, too few to hold a worker for long.
const BATCH: usize = 64;

/// How long events are kept on after the last reader has gone: it may have lost its connection only.
const HOLD: Duration = Duration::from_secs(60);

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
    replay: Mutex<Replay>,
    /// Events are kept: somebody reads, or did a moment ago.
    is_recording: AtomicBool,
    deserted: Mutex<Option<Instant>>,
    deaths: Mutex<Deaths>,
    /// Why the kernel can't be made to watch what readers ask for.
    unwatched: Mutex<Option<Arc<str>>>,
    events_sent: AtomicU64,
    events_lost: AtomicU64,
    clients_refused: AtomicU64,
}

/// One reader's end of a [`Hub`]; dropping it unsubscribes.
pub struct Subscription {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    gap: Option<Gap>,
    /// Why it does not get what it asks for, as it was told.
    unwatched: Option<Arc<str>>,
    /// From before it subscribed.
    backlog: VecDeque<Arc<Event>>,
    /// Events that are still to come; no end if there is none.
    left: Option<u64>,
}

/// A line for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of an event; a notice has none.
    pub id: Option<EventId>,
    /// Newline included.
    pub json: Bytes,
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
            replay: Mutex::new(Replay::new(0, jiff::Timestamp::now())),
            is_recording: AtomicBool::new(false),
            deserted: Mutex::new(None),
            deaths: Mutex::default(),
            unwatched: Mutex::default(),
            events_sent: AtomicU64::new(0),
            events_lost: AtomicU64::new(0),
            clients_refused: AtomicU64::new(0),
        }
    }

    /// Keeps up to `replay` events for readers who come back, and the last `deaths` on this node.
    #[must_use]
    pub fn remembering(mut self, replay: usize, deaths: usize) -> Self {
        self.replay = Mutex::new(Replay::new(replay, jiff::Timestamp::now()));
        self.deaths = Mutex::new(Deaths::new(deaths));
        self
    }

    /// Whether anybody reads.
    pub fn has_watchers(&self) -> bool {
        self.clients.load(Relaxed) > 0
    }

    /// Whether an observation is wanted for the stream: by a reader, or by one who may come back for it. Ask before
    /// building it.
    pub fn wants_observations(&self) -> bool {
        self.has_watchers() || self.is_recording.load(Relaxed) && !self.is_over(Instant::now())
    }

    /// Nobody has come back; what was kept is dropped.
    fn is_over(&self, now: Instant) -> bool {
        let mut deserted = lock(&self.deserted);
        if !deserted.is_some_and(|since| now.duration_since(since) >= HOLD) {
            return false;
        }
        *deserted = None;
        self.is_recording.store(false, Relaxed);
        self.lock_replay().forget();
        true
    }

    /// Hands an observation to every reader whose filter wants it.
    pub fn publish(&self, observation: Arc<Observation>) {
        self.publish_all(&[observation]);
    }

    /// The same for several in their order, for less: a reader's queue is locked, and the reader woken, for a batch of
    /// them. No batch is so large that it fills a queue by itself.
    pub fn publish_all(&self, observations: &[Arc<Observation>]) {
        if !self.wants_observations() {
            return;
        }
        for observations in observations.chunks(BATCH.min(self.buffer)) {
            // Who subscribes meanwhile waits until the events are in the queues and in the replay.
            let readers = self.readers.read().unwrap_or_else(PoisonError::into_inner);
            let mut replay = self.lock_replay();
            let numbered = observations.iter().map(|observation| {
                let event = Arc::new(Event::new(replay.next_id(), Arc::clone(observation)));
                replay.keep(&event);
                event
            });
            let events: Vec<_> = numbered.collect();
            drop(replay);
            for reader in readers.iter() {
                self.count_lost(reader.push_wanted(&events));
            }
        }
    }

    /// Remembers a [death](super::is_death).
    pub fn remember(&self, observation: Arc<Observation>) {
        lock(&self.deaths).keep(observation);
    }

    /// Containers have got other labels.
    pub fn rename(&self, renamed: &[Renamed]) {
        if renamed.is_empty() {
            return;
        }
        lock(&self.deaths).rename(renamed);
        self.lock_replay().rename(renamed);
    }

    /// The last deaths, the newest last.
    pub fn deaths(&self) -> Vec<Arc<Observation>> {
        lock(&self.deaths).all()
    }

    pub fn deaths_kept(&self) -> usize {
        lock(&self.deaths).len()
    }

    /// Deaths that are not remembered: others took their room, or there is none.
    pub fn deaths_dropped(&self) -> u64 {
        lock(&self.deaths).dropped()
    }

    /// The most deaths that are remembered.
    pub fn max_deaths(&self) -> usize {
        lock(&self.deaths).bound()
    }

    /// Events that are kept for readers who come back: how many there are, and the most.
    pub fn replay(&self) -> (usize, usize) {
        let replay = self.lock_replay();
        (replay.len(), replay.bound())
    }

    /// Tells every reader, among the events, how many more events of a sensor have not left the kernel.
    pub fn publish_loss(&self, sensor: &'static str, lost: u64, throttled: u64) {
        if !self.has_watchers() || lost == 0 && throttled == 0 {
            return;
        }
        let loss = Loss { time: jiff::Timestamp::now(), sensor, lost, throttled };
        for reader in self.readers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            self.count_lost(reader.push(Entry::Loss(Box::new(loss))));
        }
    }

    /// Adds a reader, from now on.
    pub fn subscribe(self: &Arc<Self>, filter: Filter) -> Result<Subscription, TooManyClients> {
        self.subscribe_from(filter, Start::Now, false)
    }

    /// Adds a reader, which first gets what is kept from before, and may want the paths in calls that it asks for.
    pub fn subscribe_from(
        self: &Arc<Self>,
        filter: Filter,
        start: Start,
        paths: bool,
    ) -> Result<Subscription, TooManyClients> {
        let demand = Demand::of(&filter, paths);
        let mut readers = self.readers.write().unwrap_or_else(PoisonError::into_inner);
        if readers.len() >= self.max_clients {
            self.clients_refused.fetch_add(1, Relaxed);
            return Err(TooManyClients { max_clients: self.max_clients });
        }
        {
            let mut deserted = lock(&self.deserted);
            *deserted = None;
            if !self.is_recording.swap(true, Relaxed) {
                self.lock_replay().begin(jiff::Timestamp::now());
            }
        }
        let (kept, gap) = self.lock_replay().from(start);
        let backlog = kept.into_iter().filter(|event| event.is_wanted_by(&filter)).collect();
        let queue = Arc::new(Queue::new(filter, demand, self.buffer));
        readers.push(Arc::clone(&queue));
        self.set_clients(readers.len());
        Ok(Subscription { hub: Arc::clone(self), queue, gap, unwatched: None, backlog, left: None })
    }

    /// The number of readers as it changes: 0 → 1 switches on what only a reader needs, 1 → 0 switches it off.
    pub fn watchers(&self) -> watch::Receiver<usize> {
        self.watchers.subscribe()
    }

    /// What readers want of the kernel besides what it tells anyway.
    pub fn demands(&self) -> Vec<Arc<Demand>> {
        let readers = self.readers.read().unwrap_or_else(PoisonError::into_inner);
        readers.iter().filter_map(|reader| reader.demand.clone()).collect()
    }

    /// Tells each reader that demands something of the kernel, and each that will, why it doesn't get that; nothing more
    /// from when it does.
    pub fn set_unwatched(&self, reason: Option<&str>) {
        *lock(&self.unwatched) = reason.map(Arc::from);
        let readers = self.readers.read().unwrap_or_else(PoisonError::into_inner);
        readers.iter().filter(|reader| reader.demand.is_some()).for_each(|reader| reader.wake());
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

    fn count_lost(&self, evicted: u64) {
        if evicted > 0 {
            self.events_lost.fetch_add(evicted, Relaxed);
        }
    }

    fn unsubscribe(&self, queue: &Arc<Queue>) {
        let mut readers = self.readers.write().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| !Arc::ptr_eq(reader, queue));
        if readers.is_empty() {
            *lock(&self.deserted) = Some(Instant::now());
        }
        self.set_clients(readers.len());
    }

    fn lock_replay(&self) -> MutexGuard<'_, Replay> {
        lock(&self.replay)
    }

    /// To be called with `readers` locked for writing, so that no older number overtakes a newer one.
    fn set_clients(&self, clients: usize) {
        self.clients.store(clients, Relaxed);
        self.watchers.send_replace(clients);
    }
}

impl Subscription {
    /// Ends after so many events.
    #[must_use]
    pub fn limited(mut self, limit: Option<u64>) -> Self {
        self.left = limit;
        self
    }

    /// Whether as many have come as it was to get.
    pub fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// Waits for something to read. Cancelling loses nothing.
    pub async fn next(&mut self) -> Vec<Line> {
        loop {
            if let Some(lines) = self.try_next() {
                return lines;
            }
            self.queue.filled().await;
        }
    }

    /// The same without waiting.
    pub fn try_next(&mut self) -> Option<Vec<Line>> {
        let lines = self.unwatched().or_else(|| self.earlier()).or_else(|| self.present())?;
        let lines = self.within_limit(lines);
        let events = lines.iter().filter(|line| line.id.is_some()).count();
        self.hub.events_sent.fetch_add(events as u64, Relaxed);
        Some(lines)
    }

    /// Drops what is beyond the limit.
    fn within_limit(&mut self, mut lines: Vec<Line>) -> Vec<Line> {
        let Some(left) = &mut self.left else { return lines };
        let is_beyond = |line: &Line| {
            let is_beyond = *left == 0;
            *left -= u64::from(line.id.is_some() && !is_beyond);
            is_beyond
        };
        let end = lines.iter().position(is_beyond).unwrap_or(lines.len());
        lines.truncate(end);
        lines
    }

    /// Why what it demands won't come, once.
    fn unwatched(&mut self) -> Option<Vec<Line>> {
        self.queue.demand.as_ref()?;
        let reason = lock(&self.hub.unwatched).clone();
        if reason == self.unwatched {
            return None;
        }
        self.unwatched = reason;
        let reason = self.unwatched.as_deref()?;
        Some(vec![said_now(Notice::Unwatched { reason })])
    }

    /// What happened before it subscribed.
    fn earlier(&mut self) -> Option<Vec<Line>> {
        let gap = self.gap.take().map(|Gap { missed }| Notice::Gap { missed });
        let events = self.backlog.drain(..BATCH.min(self.backlog.len()));
        let events: Vec<_> = events.map(|event| event.line()).collect();
        let lines: Vec<_> = gap.map(said_now).into_iter().chain(events).collect();
        (!lines.is_empty()).then_some(lines)
    }

    fn present(&mut self) -> Option<Vec<Line>> {
        let Batch { lagged, losses, entries } = self.queue.take(BATCH)?;
        let mut lines = Vec::with_capacity(entries.len() + 1);
        if lagged > 0 {
            lines.push(said_now(Notice::Lagged { lost: lagged }));
        }
        lines.extend(losses.into_iter().flat_map(Loss::lines));
        for entry in entries {
            match entry {
                Entry::Event(event) => lines.push(event.line()),
                Entry::Loss(loss) => lines.extend(loss.lines()),
            }
        }
        Some(lines)
    }
}

fn said_now(notice: Notice<'_>) -> Line {
    Line { id: None, json: notice.to_line(jiff::Timestamp::now()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.queue);
    }
}

#[cfg(test)]
mod tests;
