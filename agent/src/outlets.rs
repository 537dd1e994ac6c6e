//! Where observations go beside the live stream: to a collector, into a recording.

use crate::{
    exemplar::Sent,
    otlp::{Seen, Sink},
    recording::{RecordError, Recorder},
};

/// All of them are for the one thread that sees everything in its order.
#[derive(Default)]
pub struct Outlets {
    /// Where telemetry is sent from, if it is.
    pub sink: Option<Sink>,
    /// What is recorded, if something is.
    pub recorder: Option<Recorder>,
}

impl Outlets {
    /// Whether anybody wants observations.
    pub fn are_open(&self) -> bool {
        self.sink.is_some() || self.recorder.is_some()
    }

    /// Takes what was seen, in the order of its time. Returns what of the spans that are sent is counted, too.
    pub fn put(&mut self, seen: &[Seen]) -> &[Sent] {
        if let Some(recorder) = &mut self.recorder {
            recorder.put(seen);
        }
        self.sink.as_mut().map(|sink| sink.put(seen)).unwrap_or_default()
    }

    /// Nothing more will be seen.
    pub fn end(&mut self) -> Result<(), RecordError> {
        if let Some(sink) = &mut self.sink {
            sink.end();
        }
        self.recorder.take().map_or(Ok(()), Recorder::finish)
    }
}
