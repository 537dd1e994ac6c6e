//! What waits to be sent: bounded, and nobody who puts something in ever waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::figures::{Counts, Figures, Loss, Signal};

#[derive(Debug)]
pub(super) struct Queue<T> {
    bound: usize,
    /// A batch.
    most: usize,
    signal: Signal,
    figures: Arc<Figures>,
    items: Mutex<VecDeque<T>>,
    filled: Notify,
}

impl<T> Queue<T> {
    /// With room for `bound`, in batches of `most`.
    pub(super) fn new(signal: Signal, bound: usize, most: usize, figures: Arc<Figures>) -> Self {
        let (bound, most) = (bound.max(1), most.max(1));
        Self { bound, most, signal, figures, items: Mutex::default(), filled: Notify::new() }
    }

    pub(super) fn counts(&self) -> &Counts {
        self.figures.of(self.signal)
    }

    /// Items of a full batch.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Appends all of them that there is room for, and counts the others. Returns how many those are, from the first on.
    pub(super) fn push(&self, new: impl ExactSizeIterator<Item = T>) -> usize {
        let mut items = self.items();
        let produced = new.len();
        let before = items.len();
        let room = self.bound.saturating_sub(before).min(produced);
        // Those without room aren't even made.
        items.extend(new.take(room));
        let after = items.len();
        drop(items);
        self.counts().produce(produced as u64);
        if room < produced {
            self.counts().drop(Loss::QueueFull, (produced - room) as u64);
        }
        // Whoever waits for a batch has nothing to do before it is begun, and then until it is full.
        if (before == 0 && after > 0) || (before < self.most && after >= self.most) {
            self.filled.notify_one();
        }
        room
    }

    /// Waits for the first item, then until there are enough or `delay` is over. Nothing when the agent ends and
    /// nothing is left.
    pub(super) async fn batch(&self, delay: Duration, stopping: &mut watch::Receiver<bool>) -> Vec<T> {
        let most = self.most;
        let mut due = None;
        loop {
            let (waiting, is_stopping) = (self.items().len(), *stopping.borrow());
            if waiting >= most || is_stopping || due.is_some_and(|due| Instant::now() >= due) {
                break;
            }
            if waiting > 0 && due.is_none() {
                due = Some(Instant::now() + delay);
            }
            let timer = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.filled.notified() => {}
                () = timer => {}
                changed = stopping.changed() => if changed.is_err() { break },
            }
        }
        let mut items = self.items();
        let count = most.min(items.len());
        let batch = items.drain(..count).collect();
        if items.is_empty() && items.capacity() > 2 * most {
            items.shrink_to(most);
        }
        batch
    }

    /// Drops what is left.
    pub(super) fn close(&self) {
        let left = std::mem::take(&mut *self.items()).len();
        self.counts().drop(Loss::Shutdown, left as u64);
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn queue(bound: usize, most: usize) -> Queue<u32> {
        Queue::new(Signal::Logs, bound, most, Arc::default())
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted() {
        let (_stop, mut stopping) = watch::channel(false);
        let queue = queue(5, 3);
        queue.push([0, 1, 2, 3, 4, 5, 6, 7].into_iter());
        assert_eq!((queue.counts().produced(), queue.counts().dropped(Loss::QueueFull)), (8, 3));
        assert_eq!(queue.batch(LONG, &mut stopping).await, [0, 1, 2]);
        queue.push([8, 9].into_iter());
        assert_eq!(queue.batch(LONG, &mut stopping).await, [3, 4, 8]);
        queue.close();
        assert_eq!(queue.counts().dropped(Loss::Shutdown), 1);
    }

    #[tokio::test]
    async fn a_batch_comes_when_it_is_full_or_old() {
        let (_stop, mut stopping) = watch::channel(false);
        let queue = Arc::new(queue(100, 6));
        queue.push([1, 2].into_iter());
        assert_eq!(queue.batch(Duration::from_millis(1), &mut stopping).await, [1, 2]);
        let other = Arc::clone(&queue);
        let pushing = tokio::spawn(async move {
            for item in 3..9 {
                other.push([item].into_iter());
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(queue.batch(LONG, &mut stopping).await, [3, 4, 5, 6, 7, 8]);
        pushing.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_takes_what_is_there() {
        let (stop, mut stopping) = watch::channel(false);
        let queue = queue(100, 5);
        queue.push([1].into_iter());
        stop.send(true).unwrap();
        assert_eq!(queue.batch(LONG, &mut stopping).await, [1]);
        assert!(queue.batch(LONG, &mut stopping).await.is_empty());
    }

    #[test]
    fn nobody_is_woken_for_nothing() {
        let queue = queue(100, 3);
        let wakes = |items: &[u32]| {
            queue.push(items.iter().copied());
            let mut context = Context::from_waker(Waker::noop());
            pin!(queue.filled.notified()).poll(&mut context).is_ready()
        };
        let woken = [[].as_slice(), &[1], &[2], &[3], &[4]].map(wakes);
        assert_eq!(woken, [false, true, false, true, false]);
    }
}
