//! What became of what was to be sent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::sampling::Decision;

/// What is sent, each by a request of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Logs,
    Traces,
    Metrics,
}

impl Signal {
    pub const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Metrics];

    /// Its name in metrics, and the last part of its path over HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// The gRPC method that takes it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// Why something was not sent, or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The queue was full (otlp.queue).
    QueueFull,
    /// The collector could not be reached, or was busy, for too long (otlp.retry_for).
    RetriesExhausted,
    /// The collector wants none of the request.
    Refused,
    /// The collector took the request, but not these of it.
    Rejected,
    /// The request was sent, and no answer came. It may have arrived: sent once more, it might arrive twice.
    Unanswered,
    /// The agent ended.
    Shutdown,
}

impl Loss {
    pub const ALL: [Self; 6] = [
        Self::QueueFull,
        Self::RetriesExhausted,
        Self::Refused,
        Self::Rejected,
        Self::Unanswered,
        Self::Shutdown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unanswered => "unanswered",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Counts of one signal: produced = sent + dropped + those that wait.
#[derive(Debug, Default)]
pub struct Counts {
    produced: AtomicU64,
    sent: AtomicU64,
    dropped: [AtomicU64; Loss::ALL.len()],
    retries: AtomicU64,
}

impl Counts {
    pub(super) fn produce(&self, items: u64) {
        self.produced.fetch_add(items, Relaxed);
    }

    pub(super) fn send(&self, items: u64) {
        self.sent.fetch_add(items, Relaxed);
    }

    pub(super) fn drop(&self, why: Loss, items: u64) {
        self.dropped[why as usize].fetch_add(items, Relaxed);
    }

    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub fn produced(&self) -> u64 {
        self.produced.load(Relaxed)
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub fn dropped(&self, why: Loss) -> u64 {
        self.dropped[why as usize].load(Relaxed)
    }

    pub fn all_dropped(&self) -> u64 {
        Loss::ALL.into_iter().map(|why| self.dropped(why)).sum()
    }

    /// Requests that were sent once more.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }
}

/// What the sampling has decided.
#[derive(Debug, Default)]
pub struct SpanFigures {
    pub(super) decided: [AtomicU64; Decision::ALL.len()],
    pub(super) left_out: AtomicU64,
    pub(super) forgotten: AtomicU64,
}

impl SpanFigures {
    /// Spans that are sent, for this reason.
    pub fn decided(&self, decision: Decision) -> u64 {
        self.decided[decision as usize].load(Relaxed)
    }

    /// Spans that are not sent.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }

    /// Beginnings that were forgotten for others (otlp.tracked, limits.containers).
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }
}

/// All figures of the exporter.
#[derive(Debug, Default)]
pub struct Figures {
    counts: [Counts; Signal::ALL.len()],
    pub spans: std::sync::Arc<SpanFigures>,
}

impl Figures {
    pub fn of(&self, signal: Signal) -> &Counts {
        &self.counts[signal as usize]
    }
}
