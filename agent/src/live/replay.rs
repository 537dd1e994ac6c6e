//! What was published a moment ago, for readers who come back.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    str::FromStr,
    sync::Arc,
};

use super::queue::Event;
use crate::identity::Renamed;

/// Names an event among all that any agent has published. A reader that lost its connection says the last one it has
/// seen, and goes on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// Of the agent: when it started, in milliseconds since 1970.
    pub(super) run: u64,
    pub(super) number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.run, self.number)
    }
}

/// Text that is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no id of an event")]
pub struct NoEventId;

impl FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let (run, number) = text.split_once('-').ok_or(NoEventId)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_plain(run) || !is_plain(number) {
            return Err(NoEventId);
        }
        let run = u64::from_str_radix(run, 16).map_err(|_| NoEventId)?;
        Ok(Self { run, number: number.parse().map_err(|_| NoEventId)? })
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    #[default]
    Now,
    /// Behind the last event that it has seen.
    After(EventId),
    /// With the first event at this time or later.
    Since(jiff::Timestamp),
}

/// The newest events, up to a bound.
pub(super) struct Replay {
    bound: usize,
    run: u64,
    next: u64,
    /// The first number that has been kept ever since.
    whole_from: u64,
    /// From when on all events have been kept, as far as the bound allows.
    since: jiff::Timestamp,
    events: VecDeque<Arc<Event>>,
}

/// What a reader missed before it came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Of all kinds and containers; not known if nobody counted.
    pub(super) missed: Option<u64>,
}

impl Replay {
    pub(super) fn new(bound: usize, now: jiff::Timestamp) -> Self {
        let run = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self { bound, run, next: 1, whole_from: 1, since: now, events: VecDeque::new() }
    }

    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn next_id(&mut self) -> EventId {
        let id = EventId { run: self.run, number: self.next };
        self.next += 1;
        id
    }

    pub(super) fn keep(&mut self, event: &Arc<Event>) {
        if self.bound == 0 {
            return;
        }
        if self.events.len() == self.bound {
            self.events.pop_front();
        }
        self.events.push_back(Arc::clone(event));
    }

    /// Containers go by other labels now, and with them what they did.
    pub(super) fn rename(&mut self, renamed: &[Renamed]) {
        let new: HashMap<_, _> = renamed.iter().map(|Renamed { from, to }| (from, to)).collect();
        for event in &mut self.events {
            if let Some(labels) = new.get(event.labels()) {
                *event = Arc::new(event.labelled(labels));
            }
        }
    }

    /// Nobody has read for a while, and what happens from now on isn't even looked at.
    pub(super) fn forget(&mut self) {
        self.events = VecDeque::new();
    }

    /// Somebody reads again after [`forget`](Self::forget): what happened in between has no number.
    pub(super) fn begin(&mut self, now: jiff::Timestamp) {
        self.next += 1;
        self.whole_from = self.next;
        self.since = now;
    }

    /// What a reader gets first, and what it has missed.
    pub(super) fn from(&self, start: Start) -> (Vec<Arc<Event>>, Option<Gap>) {
        let oldest = self.events.front().map_or(self.next, |event| event.id.number);
        match start {
            Start::Now => (Vec::new(), None),
            Start::After(id) if id.run != self.run => {
                (self.events.iter().cloned().collect(), Some(Gap { missed: None }))
            }
            Start::After(id) => {
                let events = self.events.iter().filter(|event| event.id > id).cloned().collect();
                let wanted = id.number.saturating_add(1);
                let gap = match wanted {
                    _ if wanted < self.whole_from => Some(Gap { missed: None }),
                    _ if wanted < oldest => Some(Gap { missed: Some(oldest - wanted) }),
                    _ => None,
                };
                (events, gap)
            }
            Start::Since(time) => {
                let events = self.events.iter().filter(|event| event.time() >= time).cloned().collect();
                // What has been pushed out may have been from before or after.
                let pushed_out =
                    oldest > self.whole_from && self.events.front().is_none_or(|event| event.time() >= time);
                let gap = (time < self.since || pushed_out).then_some(Gap { missed: None });
                (events, gap)
            }
        }
    }
}
