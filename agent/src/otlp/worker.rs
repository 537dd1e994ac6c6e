//! One task for each signal: takes batches out of the queue and sees them through.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{
    assemble::Item,
    encode::request,
    figures::{Counts, Figures, Loss, Signal},
    queue::Queue,
    send::{Outcome, Sender},
};
use crate::{backoff::Backoff, config::OtlpConfig};

/// The first wait before a request is sent once more, and the longest.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// What the last requests may take together when the agent ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two lines about what fails.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Sends what others have made, and counts what becomes of it.
#[derive(Debug)]
pub(super) struct Delivery {
    signal: Signal,
    sender: Sender,
    retry_for: Duration,
    figures: Arc<Figures>,
    stopping: watch::Receiver<bool>,
    /// When the agent has to be gone.
    farewell: Option<Instant>,
    said: Option<Instant>,
}

impl Delivery {
    pub(super) fn new(
        signal: Signal,
        sender: Sender,
        config: &OtlpConfig,
        figures: Arc<Figures>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { signal, sender, retry_for: config.retry_for, figures, stopping, farewell: None, said: None }
    }

    fn counts(&self) -> &Counts {
        self.figures.of(self.signal)
    }

    fn is_stopping(&mut self) -> bool {
        let is_stopping = *self.stopping.borrow() || self.stopping.has_changed().is_err();
        if is_stopping {
            self.farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
        }
        is_stopping
    }

    /// Sends a request with so many items, again and again where that is right. Counts what becomes of them.
    pub(super) async fn deliver(&mut self, request: &Bytes, items: u64) -> Result<(), Loss> {
        let begin = Instant::now();
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        loop {
            self.is_stopping();
            let sending = self.sender.send(request.clone());
            let outcome = match self.farewell {
                Some(farewell) => timeout_at(farewell, sending)
                    .await
                    .unwrap_or(Outcome::Unanswered { why: "the agent ends".to_owned() }),
                None => sending.await,
            };
            let (wait, why) = match outcome {
                Outcome::Taken { rejected, message } => {
                    let rejected = rejected.min(items);
                    self.counts().send(items - rejected);
                    if rejected > 0 {
                        self.lose(Loss::Rejected, rejected, &message);
                    }
                    return Ok(());
                }
                Outcome::Refused { why } => return Err(self.lose(Loss::Refused, items, &why)),
                Outcome::Unanswered { why } => return Err(self.lose(Loss::Unanswered, items, &why)),
                Outcome::Later { wait, why } => (backoff.next(wait), why),
            };
            if self.is_stopping() {
                return Err(self.lose(Loss::Shutdown, items, &why));
            }
            if begin.elapsed() + wait > self.retry_for {
                return Err(self.lose(Loss::RetriesExhausted, items, &why));
            }
            self.counts().retry();
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.stopping.changed() => {}
            }
        }
    }

    fn lose(&mut self, why: Loss, items: u64, details: &str) -> Loss {
        self.counts().drop(why, items);
        let now = Instant::now();
        if self.said.is_none_or(|said| now - said >= SAY_AGAIN) {
            self.said = Some(now);
            let (signal, reason) = (self.signal.name(), why.name());
            let lost = self.counts().all_dropped();
            tracing::warn!(signal, reason, lost, "telemetry was not taken by the collector: {details}");
        }
        why
    }
}

/// Sends what comes into the queue until the agent ends.
pub(super) async fn run(queue: Arc<Queue<Item>>, mut delivery: Delivery, delay: Duration) {
    let mut stopping = delivery.stopping.clone();
    let mut memory = Vec::new();
    loop {
        let batch = queue.batch(delay, &mut stopping).await;
        if batch.is_empty() {
            if delivery.is_stopping() {
                return;
            }
            continue;
        }
        let (request, items) = (request(&batch, memory), batch.len());
        drop(batch);
        // What was lost is counted; the next batch may have more luck.
        let _ = delivery.deliver(&request, items as u64).await;
        // Behind a full batch there is another one, which is written in the same memory.
        memory = match items < queue.most() {
            true => Vec::new(),
            false => request.try_into_mut().map(Vec::from).unwrap_or_default(),
        };
        if delivery.farewell.is_some_and(|farewell| Instant::now() >= farewell) {
            return queue.close();
        }
    }
}
