//! What a stream says about itself, between the events.

use agent_ebpf::contract::stats::SensorId;
use bytes::Bytes;
use serde::Serialize;

use super::to_line;

/// A line of a live stream that is no event. No filter holds it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// Events of a sensor that found no room in the kernel's ring.
    Lost { sensor: &'static str, lost: u64 },
    /// Events of a sensor that exceeded their container's share.
    Throttled { sensor: &'static str, throttled: u64 },
    /// Events that this reader was too slow for.
    Lagged { lost: u64 },
    /// Events that happened before this reader came back, and that are not kept any more.
    Gap { missed: Option<u64> },
    /// The system calls that this reader asks for won't come: they can't be watched.
    Unwatched { reason: &'a str },
    /// Nothing has happened for a while; the stream is alive.
    Heartbeat,
    /// The agent stops: nothing more will come.
    End,
}

impl Notice<'_> {
    /// The notice as a line of JSON, newline included.
    pub fn to_line(self, time: jiff::Timestamp) -> Bytes {
        let line = Line {
            time,
            kind: self.kind(),
            sensor: self.sensor(),
            lost: self.lost(),
            throttled: self.throttled(),
            message: self.message(),
        };
        // Strings, numbers and a time: nothing that JSON can't say. An empty chunk is no line at all.
        to_line(&line).unwrap_or_default()
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Lost { .. } => "notice.lost",
            Self::Throttled { .. } => "notice.throttled",
            Self::Lagged { .. } => "notice.lagged",
            Self::Gap { .. } => "notice.gap",
            Self::Unwatched { .. } => "notice.unwatched",
            Self::Heartbeat => "notice.heartbeat",
            Self::End => "notice.end",
        }
    }

    fn sensor(self) -> Option<&'static str> {
        match self {
            Self::Lost { sensor, .. } | Self::Throttled { sensor, .. } => Some(sensor),
            Self::Unwatched { .. } => Some(SensorId::Calls.name()),
            Self::Lagged { .. } | Self::Gap { .. } | Self::Heartbeat | Self::End => None,
        }
    }

    fn lost(self) -> Option<u64> {
        match self {
            Self::Lost { lost, .. } | Self::Lagged { lost } => Some(lost),
            Self::Gap { missed } => missed,
            Self::Throttled { .. } | Self::Unwatched { .. } | Self::Heartbeat | Self::End => None,
        }
    }

    fn throttled(self) -> Option<u64> {
        match self {
            Self::Throttled { throttled, .. } => Some(throttled),
            Self::Lost { .. }
            | Self::Lagged { .. }
            | Self::Gap { .. }
            | Self::Unwatched { .. }
            | Self::Heartbeat
            | Self::End => None,
        }
    }

    fn message(self) -> Option<String> {
        match self {
            Self::Lost { sensor, lost } => Some(format!(
                "{lost} {sensor} events were lost in the kernel: ring.size is too small or the reader was stalled"
            )),
            Self::Throttled { sensor, throttled } => Some(format!(
                "{throttled} {sensor} events were withheld in the kernel: their containers exceeded their share"
            )),
            Self::Lagged { lost } => Some(format!(
                "{lost} events were dropped because this reader was too slow: read faster or filter more"
            )),
            Self::Gap { missed: Some(missed) } => Some(format!(
                "{missed} events of all kinds and containers are not kept any more: a larger debug.replay keeps more"
            )),
            Self::Gap { missed: None } => Some(
                "what happened before is kept in part only, or not at all: the agent was restarted, \
                      nobody was reading, or debug.replay is too small"
                    .into(),
            ),
            Self::Unwatched { reason } => Some(format!(
                "the system calls that you ask for won't come, they can't be watched: {reason}; \
                 `podwitness doctor` says more"
            )),
            Self::Heartbeat => None,
            Self::End => Some("the agent stops".into()),
        }
    }
}

#[derive(Serialize)]
struct Line {
    time: jiff::Timestamp,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Notice;

    #[test]
    fn a_notice_is_a_line_of_json() {
        let cases = [
            (
                Notice::Lost { sensor: "tcp", lost: 123 },
                r#"{"time":"1970-01-01T00:00:00Z","kind":"notice.lost","sensor":"tcp","lost":123,"message":"123 tcp events were lost in the kernel: ring.size is too small or the reader was stalled"}"#,
            ),
            (Notice::Heartbeat, r#"{"time":"1970-01-01T00:00:00Z","kind":"notice.heartbeat"}"#),
        ];
        for (notice, expected) in cases {
            assert_eq!(notice.to_line(jiff::Timestamp::UNIX_EPOCH), format!("{expected}\n"));
        }
    }
}
