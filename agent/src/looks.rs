//! Looks at the rings for those who ask. The reader rests for as long as it can; what is shown is of now all the same.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::kernel::Bell;

/// How long somebody waits for a look; then what is known must do.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shared by the reader and those who ask.
#[derive(Debug)]
pub struct Looks {
    bell: Arc<Bell>,
    counted: Mutex<Counted>,
    ended: Condvar,
}

/// Looks of the reader so far.
#[derive(Debug, Default)]
struct Counted {
    begun: u64,
    ended: u64,
}

impl Looks {
    /// The bell is the one that the reader hears.
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { bell, counted: Mutex::default(), ended: Condvar::new() }
    }

    /// The reader begins to look.
    pub fn begin(&self) {
        self.lock().begun += 1;
    }

    /// What it has found is booked, and the rings are empty. A look may take several batches.
    pub fn end(&self) {
        let mut counted = self.lock();
        counted.ended = counted.begun;
        self.ended.notify_all();
    }

    /// Makes the reader look soon.
    pub fn ask(&self) {
        self.bell.ring();
    }

    /// Makes the reader look, and waits until it has. Blocks, for a second at most.
    pub fn wait(&self) {
        if !self.wait_at_most(PATIENCE) {
            tracing::debug!("the reader of the rings is busy; what is shown may lack the latest events");
        }
    }

    fn wait_at_most(&self, patience: Duration) -> bool {
        let counted = self.lock();
        // The look that is under way may have passed by already.
        let next = counted.begun + 1;
        self.ask();
        let waited = self.ended.wait_timeout_while(counted, patience, |counted| counted.ended < next);
        let (counted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        counted.ended >= next
    }

    /// Makes the reader look when readers of the live stream come or go: it rests differently then.
    pub async fn follow(self: Arc<Self>, mut watchers: watch::Receiver<usize>) {
        while watchers.changed().await.is_ok() {
            self.ask();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn looks() -> Arc<Looks> {
        Arc::new(Looks::new(Arc::new(Bell::new().unwrap())))
    }

    #[test]
    fn who_asks_waits_for_a_look() {
        let looks = looks();
        let asking = {
            let looks = Arc::clone(&looks);
            thread::spawn(move || looks.wait_at_most(Duration::MAX))
        };
        while !asking.is_finished() {
            looks.begin();
            looks.end();
        }
        assert!(asking.join().unwrap());
    }

    #[test]
    fn a_look_that_was_under_way_is_none() {
        let looks = looks();
        looks.begin();
        let (end, ended) = (Arc::clone(&looks), looks);
        let waiting = thread::spawn(move || ended.wait_at_most(Duration::from_millis(20)));
        end.end();
        assert!(!waiting.join().unwrap());
    }
}
