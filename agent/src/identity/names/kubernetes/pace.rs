//! How patient the sources are.

use std::time::Duration;

use crate::backoff::{Backoff, random};

/// Times that tests shorten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// For an answer.
    pub answer: Duration,
    /// Without a sign of life in a watch. Servers send a bookmark about once a minute.
    pub silence: Duration,
    /// How long the server may keep a watch; half of it at the least.
    pub watch: Duration,
    /// Between tries.
    pub shortest_wait: Duration,
    pub longest_wait: Duration,
    /// Until something forbidden is tried again.
    pub forbidden: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(200),
            watch: Duration::from_secs(600),
            shortest_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            forbidden: Duration::from_secs(600),
        }
    }
}

impl Pace {
    /// How long the next watch may last: not the same for all agents.
    pub(super) fn watch_seconds(&self) -> u64 {
        self.watch.mul_f64(0.5 + random() / 2.0).as_secs().max(1)
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.shortest_wait, self.longest_wait)
    }
}
