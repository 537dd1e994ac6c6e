//! A stream, line by line.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{connection::Connection, error::RemoteError};

/// Bytes of a line that has no end yet; no event is that long.
const LONGEST: usize = 1 << 20;
/// An agent with nothing to tell says so every 15 seconds. A connection may be dead without anybody having said so.
const SILENCE: Duration = Duration::from_secs(60);

/// The lines of a stream.
pub struct Lines {
    body: Incoming,
    connection: Connection,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn new(body: Incoming, connection: Connection) -> Self {
        Self { body, connection, rest: Vec::new() }
    }

    /// What people call the agent that they come from.
    pub fn whose(&self) -> String {
        self.connection.to_string()
    }

    /// What has come in whole since the last call; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, RemoteError> {
        loop {
            let frame = timeout(SILENCE, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| RemoteError::Silent(SILENCE))? else { return Ok(None) };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    let word = self.connection.last_word().await;
                    return Err(RemoteError::BrokeOff(
                        word.unwrap_or_else(|| crate::causes::with_causes(&error)),
                    ));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            self.rest.extend(&data);
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()));
            }
            if self.rest.len() > LONGEST {
                return Err(RemoteError::LongLine);
            }
        }
    }
}
