//! How long to wait before the next try.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Doubles with every failure, and strays so that the agents of a thousand nodes don't come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

/// However long a server asks to be left alone.
const PATIENCE: Duration = Duration::from_secs(300);

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, failures: 0 }
    }

    /// It works again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It has failed once more: the wait, not shorter than the server asks for (`Retry-After`).
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.shortest.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let half = wait / 2;
        asked.map_or(half, |asked| asked.min(PATIENCE).max(half)) + half.mul_f64(random())
    }
}

/// From 0 to 1. Every `RandomState` has keys of its own.
pub(crate) fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn waits_grow_stray_and_end_at_the_longest() {
        let mut backoff = Backoff::new(MS(100), MS(1000));
        for wait in [100, 200, 400, 800, 1000, 1000] {
            let next = backoff.next(None);
            assert!(MS(wait / 2) <= next && next <= MS(wait), "{next:?} for {wait}");
        }
        for _ in 0..1000 {
            assert!(backoff.next(None) <= MS(1000));
        }
        backoff.reset();
        assert!(backoff.next(None) <= MS(100));
        let waits: std::collections::BTreeSet<_> =
            (0..20).map(|_| Backoff::new(MS(100), MS(1000)).next(None)).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }

    #[test]
    fn a_server_is_left_alone_as_long_as_it_asks_for() {
        let mut backoff = Backoff::new(MS(100), MS(1000));
        let next = backoff.next(Some(MS(7000)));
        assert!(MS(7000) <= next && next <= MS(7050), "{next:?}");
        assert!(backoff.next(Some(Duration::MAX)) <= PATIENCE + MS(1000));
    }
}
