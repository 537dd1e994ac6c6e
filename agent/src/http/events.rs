//! A live stream as the body of an answer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::time::timeout;

use super::{Shutdown, stopped};
use crate::live::{Format, Line, Notice, Subscription};

/// An idle stream says that it lives, so that neither a proxy in between nor the reader gives it up.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The answer that streams until the reader goes or the agent stops.
pub(super) fn response(reader: Reader) -> Response {
    let content_type = match reader.format {
        Format::Ndjson => "application/x-ndjson",
        Format::Sse => "text/event-stream",
    };
    let headers = [
        (header::CONTENT_TYPE.as_str(), content_type),
        (header::VARY.as_str(), "accept"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff"),
        // nginx and its kin hold back what they can otherwise.
        ("x-accel-buffering", "no"),
    ];
    let step: Step = Box::pin(reader.step());
    (headers, Body::new(Chunks { step: Some(step) })).into_response()
}

/// What the reader's program takes: server-sent events if it names them, as a browser's `EventSource` does.
pub(super) fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let names_sse = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("text/event-stream"))
            && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    };
    if accept.flat_map(|value| value.split(',')).any(names_sse) { Format::Sse } else { Format::Ndjson }
}

/// Makes chunks of whole lines of what a subscription gives.
pub(super) struct Reader {
    subscription: Subscription,
    shutdown: Shutdown,
    heartbeat: Duration,
    format: Format,
}

impl Reader {
    pub(super) fn new(subscription: Subscription, shutdown: Shutdown) -> Self {
        Self { subscription, shutdown, heartbeat: HEARTBEAT, format: Format::Ndjson }
    }

    pub(super) fn in_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    pub(super) fn limited(self, limit: Option<u64>) -> Self {
        Self { subscription: self.subscription.limited(limit), ..self }
    }

    /// The next chunk, and who makes the one after it.
    async fn step(mut self) -> (Bytes, Option<Self>) {
        let lines = tokio::select! {
            biased;
            () = stopped(&mut self.shutdown) => return (self.farewell(), None),
            lines = timeout(self.heartbeat, self.subscription.next()) => lines,
        };
        let lines = match lines {
            Ok(lines) => lines,
            Err(_idle) => vec![said_now(Notice::Heartbeat)],
        };
        let chunk = self.written(lines);
        (chunk, (!self.subscription.is_over()).then_some(self))
    }

    /// What has come in before the end, bounded by the reader's queue, and the word that it is the end.
    fn farewell(&mut self) -> Bytes {
        let mut lines = Vec::new();
        while let Some(more) = self.subscription.try_next() {
            lines.extend(more);
        }
        lines.push(said_now(Notice::End));
        self.written(lines)
    }

    fn written(&self, mut lines: Vec<Line>) -> Bytes {
        match self.format {
            Format::Ndjson if lines.len() == 1 => lines.remove(0).json,
            Format::Ndjson => lines.into_iter().map(|line| line.json).collect::<Vec<_>>().concat().into(),
            Format::Sse => lines.iter().fold(Vec::new(), server_sent).into(),
        }
    }
}

fn said_now(notice: Notice<'_>) -> Line {
    Line { id: None, json: notice.to_line(jiff::Timestamp::now()) }
}

/// The line as an event of its own; a browser says the last id again when it comes back.
fn server_sent(mut text: Vec<u8>, line: &Line) -> Vec<u8> {
    if let Some(id) = line.id {
        text.extend(format!("id: {id}\n").bytes());
    }
    text.extend(b"data: ");
    text.extend(&*line.json);
    text.push(b'\n');
    text
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

    use axum::http::{HeaderMap, HeaderValue, header::ACCEPT};

    use super::{Reader, accepted};
    use crate::{
        filter::Filter,
        live::{Format, Hub, testing::exec},
    };

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

    #[tokio::test]
    async fn a_browser_gets_each_line_with_its_id() {
        let hub = Arc::new(Hub::new(8, 1).remembering(8, 0));
        let (_stop, shutdown) = watch::channel(false);
        let reader = Reader::new(hub.subscribe(Filter::default()).unwrap(), shutdown).in_format(Format::Sse);
        hub.publish(exec(1, "sh"));
        hub.publish_loss("tcp", 1, 0);
        let (text, _) = reader.step().await;
        let text = std::str::from_utf8(&text).unwrap();
        let events: Vec<_> = text.split_terminator("\n\n").collect();
        let (id, data) = events[0].split_once('\n').unwrap();
        let json: serde_json::Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((id, &json["pid"]), (&*format!("id: {}", json["id"].as_str().unwrap()), &1.into()));
        assert!(events[1].starts_with("data: {") && events[1].contains("notice.lost") && events.len() == 2);
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_last_event() {
        let hub = Arc::new(Hub::new(8, 1));
        let (_stop, shutdown) = watch::channel(false);
        let reader = Reader::new(hub.subscribe(Filter::default()).unwrap(), shutdown).limited(Some(2));
        (1..=3).for_each(|pid| hub.publish(exec(pid, "sh")));
        let (lines, reader) = reader.step().await;
        assert_eq!(std::str::from_utf8(&lines).unwrap().lines().count(), 2);
        assert!(reader.is_none());
        assert_eq!(hub.events_sent(), 2, "what is beyond the limit isn't sent");
    }

    #[test]
    fn server_sent_events_are_for_those_who_name_them() {
        for (accept, expected) in [
            ("text/event-stream", Format::Sse),
            ("application/json, Text/Event-Stream;q=0.5", Format::Sse),
            ("text/event-stream;q=0", Format::Ndjson),
            ("*/*", Format::Ndjson),
            ("application/x-ndjson", Format::Ndjson),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(accepted(&headers), expected, "{accept}");
        }
    }
}
