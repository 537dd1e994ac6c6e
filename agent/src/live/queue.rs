//! What waits for one reader, and the rule of what goes when it doesn't keep up.

use std::{
    collections::VecDeque,
    iter, mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Demand, EventId, Line, Notice, to_line};
use crate::{filter::Filter, identity::Labels, observation::Observation};

/// Entries that an empty queue keeps its room for. What a slow moment has needed beyond that is given back.
const KEPT: usize = 128;

/// A bounded queue between the thread that publishes and one reader. When it is full, the oldest entry goes:
/// events are counted, and what a notice of loss said is kept until the reader comes.
pub(super) struct Queue {
    pub(super) filter: Filter,
    /// What it wants of the kernel.
    pub(super) demand: Option<Arc<Demand>>,
    bound: usize,
    state: Mutex<State>,
    filled: Notify,
}

/// What a reader takes away at once. The order of the fields is the order in which it happened.
#[derive(Default)]
pub(super) struct Batch {
    /// Events dropped because the reader was too slow.
    pub(super) lagged: u64,
    /// What notices that were dropped with them said.
    pub(super) losses: Vec<Loss>,
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone)]
pub(super) enum Entry {
    Event(Arc<Event>),
    /// Apart, since it is rare and large: many queues hold thousands of entries.
    Loss(Box<Loss>),
}

/// An observation and its line, made by the first of its readers: not on the thread that publishes, and once.
pub(super) struct Event {
    pub(super) id: EventId,
    observation: Arc<Observation>,
    line: OnceLock<Bytes>,
}

/// Events of a sensor that never left the kernel.
#[derive(Clone, Copy)]
pub(super) struct Loss {
    pub(super) time: jiff::Timestamp,
    pub(super) sensor: &'static str,
    pub(super) lost: u64,
    pub(super) throttled: u64,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    lagged: u64,
    /// At most one for each sensor.
    losses: Vec<Loss>,
}

impl Queue {
    pub(super) fn new(filter: Filter, demand: Option<Demand>, bound: usize) -> Self {
        // It grows with what waits: a ring as large as its bound would be in memory as a whole before long.
        Self { filter, demand: demand.map(Arc::new), bound, state: Mutex::default(), filled: Notify::new() }
    }

    /// Appends an entry; returns how many events had to go for it.
    pub(super) fn push(&self, entry: Entry) -> u64 {
        self.push_all(iter::once(entry))
    }

    /// Appends the events that the reader's filter wants; returns how many had to go for them.
    pub(super) fn push_wanted(&self, events: &[Arc<Event>]) -> u64 {
        // Most filters want nothing of most batches: then the queue needn't even be locked.
        let is_wanted = |event: &&Arc<Event>| event.is_wanted_by(&self.filter);
        let Some(first) = events.iter().position(|event| is_wanted(&event)) else { return 0 };
        let (first, rest) = (&events[first], &events[first + 1..]);
        let wanted = iter::once(first).chain(rest.iter().filter(is_wanted));
        self.push_all(wanted.map(|event| Entry::Event(Arc::clone(event))))
    }

    fn push_all(&self, entries: impl Iterator<Item = Entry>) -> u64 {
        let mut state = self.state();
        let was_empty = state.entries.is_empty();
        let mut evicted = 0;
        for entry in entries {
            if state.entries.len() >= self.bound {
                evicted += state.evict();
            }
            state.entries.push_back(entry);
        }
        drop(state);
        // A reader waits only after it has found the queue empty, so it need not be woken for every entry.
        if was_empty {
            self.filled.notify_one();
        }
        evicted
    }

    /// Takes up to `most` entries, or nothing when there is nothing.
    pub(super) fn take(&self, most: usize) -> Option<Batch> {
        let mut state = self.state();
        if state.entries.is_empty() {
            return None;
        }
        let count = most.min(state.entries.len());
        let batch = Batch {
            lagged: mem::take(&mut state.lagged),
            losses: mem::take(&mut state.losses),
            entries: state.entries.drain(..count).collect(),
        };
        if state.entries.is_empty() && state.entries.capacity() > 2 * KEPT {
            state.entries.shrink_to(KEPT);
        }
        Some(batch)
    }

    /// Waits until there may be something to take.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Has the reader look again.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn evict(&mut self) -> u64 {
        match self.entries.pop_front() {
            Some(Entry::Event(_)) => {
                self.lagged += 1;
                1
            }
            Some(Entry::Loss(loss)) => {
                self.keep(*loss);
                0
            }
            None => 0,
        }
    }

    fn keep(&mut self, loss: Loss) {
        match self.losses.iter_mut().find(|kept| kept.sensor == loss.sensor) {
            Some(kept) => {
                kept.time = loss.time;
                kept.lost += loss.lost;
                kept.throttled += loss.throttled;
            }
            None => self.losses.push(loss),
        }
    }
}

impl Event {
    pub(super) fn new(id: EventId, observation: Arc<Observation>) -> Self {
        Self { id, observation, line: OnceLock::new() }
    }

    pub(super) fn time(&self) -> jiff::Timestamp {
        self.observation.time
    }

    pub(super) fn labels(&self) -> &Arc<Labels> {
        &self.observation.labels
    }

    /// The same event of a container that goes by these labels.
    pub(super) fn labelled(&self, labels: &Arc<Labels>) -> Self {
        Self::new(self.id, Arc::new(self.observation.labelled(labels)))
    }

    pub(super) fn is_wanted_by(&self, filter: &Filter) -> bool {
        filter.matches(&self.observation)
    }

    pub(super) fn line(&self) -> Line {
        let json = self.line.get_or_init(|| {
            let json = to_line(&*self.observation).unwrap_or_else(|error| {
                // Unreachable as long as an observation is made of strings and numbers.
                tracing::error!(%error, kind = self.observation.kind.name(), "an event can't be said in JSON");
                Bytes::new()
            });
            numbered(&json, self.id)
        });
        Line { id: Some(self.id), json: json.clone() }
    }
}

/// The object with one more field at its end.
fn numbered(json: &Bytes, id: EventId) -> Bytes {
    match json.strip_suffix(b"}\n") {
        Some(open) => [open, format!(",\"id\":\"{id}\"}}\n").as_bytes()].concat().into(),
        None => json.clone(),
    }
}

impl Loss {
    pub(super) fn lines(self) -> impl Iterator<Item = Line> {
        let Self { time, sensor, lost, throttled } = self;
        let lost = (lost > 0).then_some(Notice::Lost { sensor, lost });
        let throttled = (throttled > 0).then_some(Notice::Throttled { sensor, throttled });
        lost.into_iter().chain(throttled).map(move |notice| Line { id: None, json: notice.to_line(time) })
    }
}
