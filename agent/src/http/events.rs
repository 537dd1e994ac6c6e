//! A live stream as the body of an answer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::time::timeout;

use super::{Shutdown, stopped};
use crate::live::{Notice, Subscription};

/// An idle stream says that it lives, so that neither a proxy in between nor the reader gives it up.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The answer that streams until the reader goes or the agent stops.
pub(super) fn response(reader: Reader) -> Response {
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/x-ndjson"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff"),
        // nginx and its kin hold back what they can otherwise.
        ("x-accel-buffering", "no"),
    ];
    let step: Step = Box::pin(reader.step());
    (headers, Body::new(Chunks { step: Some(step) })).into_response()
}

/// Makes chunks of whole lines of what a subscription gives.
pub(super) struct Reader {
    subscription: Subscription,
    shutdown: Shutdown,
    heartbeat: Duration,
}

impl Reader {
    pub(super) fn new(subscription: Subscription, shutdown: Shutdown) -> Self {
        Self { subscription, shutdown, heartbeat: HEARTBEAT }
    }

    /// The next chunk, and who makes the one after it.
    async fn step(mut self) -> (Bytes, Option<Self>) {
        let lines = tokio::select! {
            biased;
            () = stopped(&mut self.shutdown) => return (self.farewell(), None),
            lines = timeout(self.heartbeat, self.subscription.next()) => lines,
        };
        let chunk = match lines {
            Ok(lines) => concat(lines),
            Err(_idle) => Notice::Heartbeat.to_line(jiff::Timestamp::now()),
        };
        (chunk, Some(self))
    }

    /// What has come in before the end, bounded by the reader's queue, and the word that it is the end.
    fn farewell(&mut self) -> Bytes {
        let mut lines = Vec::new();
        while let Some(more) = self.subscription.try_next() {
            lines.extend(more);
        }
        lines.push(Notice::End.to_line(jiff::Timestamp::now()));
        concat(lines)
    }
}

fn concat(mut lines: Vec<Bytes>) -> Bytes {
    if lines.len() == 1 {
        return lines.remove(0);
    }
    lines.concat().into()
}

type Step = Pin<Box<dyn Future<Output = (Bytes, Option<Reader>)> + Send>>;

/// A body that asks for the next chunk when the last one has been taken. Dropping it, as hyper does when the
/// reader goes, ends the subscription.
struct Chunks {
    step: Option<Step>,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(step) = &mut self.step else {
            return Poll::Ready(None);
        };
        let (chunk, reader) = ready!(step.as_mut().poll(cx));
        self.step = reader.map(|reader| -> Step { Box::pin(reader.step()) });
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::watch;

    use super::Reader;
    use crate::{filter::Filter, live::Hub};

    #[tokio::test]
    async fn an_idle_stream_says_that_it_lives_and_goes_on() {
        let hub = Arc::new(Hub::new(8, 1));
        let (_stop, shutdown) = watch::channel(false);
        let mut reader = Reader::new(hub.subscribe(Filter::default()).unwrap(), shutdown);
        reader.heartbeat = Duration::from_millis(1);
        let (line, reader) = reader.step().await;
        assert!(line.ends_with(b"\"kind\":\"notice.heartbeat\"}\n"), "{line:?}");
        hub.publish_loss("tcp", 1, 0);
        let (line, _) = reader.unwrap().step().await;
        assert!(std::str::from_utf8(&line).unwrap().contains("notice.lost"), "{line:?}");
    }

    #[tokio::test]
    async fn the_end_comes_after_everything_else() {
        let hub = Arc::new(Hub::new(200, 1));
        let (stop, shutdown) = watch::channel(false);
        let reader = Reader::new(hub.subscribe(Filter::default()).unwrap(), shutdown);
        for lost in 1..=150 {
            hub.publish_loss("tcp", lost, 0);
        }
        stop.send_replace(true);
        let (lines, reader) = reader.step().await;
        let lines = std::str::from_utf8(&lines).unwrap();
        assert_eq!(lines.lines().count(), 151);
        assert!(lines.lines().last().unwrap().contains("notice.end") && reader.is_none());
    }
}
