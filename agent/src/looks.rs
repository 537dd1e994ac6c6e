//! Looks at the rings for those who ask. The reader rests for as long as it can; what is shown is of now all the same.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::kernel::Bell;

/// Shared by the reader and those who ask.
#[derive(Debug)]
pub struct Looks {
    bell: Arc<Bell>,
    /// How long somebody waits for a look; then what is known must do.
    timeout: Duration,
    late: AtomicU64,
    counted: Mutex<Counted>,
    ended: Condvar,
}

/// Looks of the reader so far.
#[derive(Debug, Default)]
struct Counted {
    begun: u64,
    ended: u64,
    /// The last one has ended.
    are_over: bool,
}

impl Looks {
    /// The bell is the one that the reader hears. Nobody waits for longer than `timeout`.
    pub fn new(bell: Arc<Bell>, timeout: Duration) -> Self {
        let (late, counted, ended) = (AtomicU64::new(0), Mutex::default(), Condvar::new());
        Self { bell, timeout, late, counted, ended }
    }

    /// How often somebody waited in vain.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
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

    /// Nobody will look again: what is known is all.
    pub fn close(&self) {
        self.lock().are_over = true;
        self.ended.notify_all();
    }

    /// Makes the reader look soon.
    pub fn ask(&self) {
        self.bell.ring();
    }

    /// Makes the reader look, and waits until it has: blocks. If that takes too long, it is counted, and what is shown
    /// may lack the latest events.
    pub fn wait(&self) {
        let counted = self.lock();
        // The look that is under way may have passed by already.
        let next = counted.begun + 1;
        self.ask();
        let lacks = |counted: &mut Counted| counted.ended < next && !counted.are_over;
        let waited = self.ended.wait_timeout_while(counted, self.timeout, lacks);
        let (mut counted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if lacks(&mut counted) {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
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

    fn looks(timeout: Duration) -> Arc<Looks> {
        Arc::new(Looks::new(Arc::new(Bell::new().unwrap()), timeout))
    }

    #[test]
    fn who_asks_waits_for_a_look() {
        let looks = looks(Duration::MAX);
        let asking = {
            let looks = Arc::clone(&looks);
            thread::spawn(move || looks.wait())
        };
        while !asking.is_finished() {
            looks.begin();
            looks.end();
        }
        asking.join().unwrap();
        assert_eq!(looks.late(), 0);
    }

    #[test]
    fn nobody_waits_for_looks_that_are_over() {
        let looks = looks(Duration::MAX);
        let asking = {
            let looks = Arc::clone(&looks);
            thread::spawn(move || looks.wait())
        };
        looks.begin();
        looks.close();
        asking.join().unwrap();
        looks.wait();
        assert_eq!(looks.late(), 0);
    }

    #[test]
    fn a_look_that_was_under_way_is_none() {
        let looks = looks(Duration::from_millis(20));
        looks.begin();
        let waiting = {
            let looks = Arc::clone(&looks);
            thread::spawn(move || looks.wait())
        };
        looks.end();
        waiting.join().unwrap();
        assert_eq!(looks.late(), 1);
    }
}
