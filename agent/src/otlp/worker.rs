//! One task for each signal: takes batches out of the queue and sees them through.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
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
    /// Until when the collector has asked to be left alone, whatever becomes of the request that it said so to.
    quiet_until: Option<Instant>,
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
        let (farewell, quiet_until, said) = (None, None, None);
        Self { signal, sender, retry_for: config.retry_for, figures, stopping, farewell, quiet_until, said }
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
        self.rest().await;
        let begin = Instant::now();
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        loop {
            if self.is_over() {
                return Err(self.lose(Loss::Shutdown, items, "the agent ends"));
            }
            let (asked, why) = match self.send(request).await {
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
                Outcome::Later { wait, why } => (wait, why),
            };
            if self.is_stopping() {
                return Err(self.lose(Loss::Shutdown, items, &why));
            }
            let wait = backoff.next(asked);
            let again = Instant::now() + wait;
            if begin.elapsed() + wait > self.retry_for {
                self.quiet_until = asked.map(|_| again);
                return Err(self.lose(Loss::RetriesExhausted, items, &why));
            }
            self.counts().retry();
            self.rest_until(again).await;
        }
    }

    /// Sends it once. Of what is under way when the agent is told to end, the end is waited for as long as for the rest.
    async fn send(&mut self, request: &Bytes) -> Outcome {
        let Self { sender, stopping, farewell, .. } = self;
        let mut sending = pin!(sender.send(request.clone()));
        if farewell.is_none() {
            tokio::select! {
                outcome = &mut sending => return outcome,
                () = told(stopping) => {}
            }
        }
        let farewell = *farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
        let outcome = timeout_at(farewell, sending).await;
        outcome.unwrap_or(Outcome::Unanswered { why: "the agent ends".to_owned() })
    }

    /// Waits for as long as the collector has asked for.
    pub(super) async fn rest(&mut self) {
        if let Some(quiet) = self.quiet_until.take() {
            self.rest_until(quiet).await;
        }
    }

    async fn rest_until(&mut self, time: Instant) {
        tokio::select! {
            () = sleep_until(time) => {}
            () = told(&mut self.stopping) => {}
        }
    }

    /// Whether the agent ends, and has no more time for this.
    pub(super) fn is_over(&mut self) -> bool {
        self.is_stopping();
        self.farewell.is_some_and(|farewell| Instant::now() >= farewell)
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

/// Waits until the agent is told to end.
pub(super) async fn told(stopping: &mut watch::Receiver<bool>) {
    // Whoever would have said so is gone, too, or it has been said.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
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
        if delivery.is_over() {
            return queue.close();
        }
    }
}
