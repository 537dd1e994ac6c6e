//! HTTP over whatever leads to an agent.

use std::{fmt, pin::Pin, time::Duration};

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::error::RemoteError;

/// For the word of who forwards, once the connection is gone: it comes before the end, or not at all.
const LAST_WORD: Duration = Duration::from_secs(2);

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What the forwarder says in place of the agent, if it says something.
pub(super) type Word = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Bytes to and from an agent.
pub(super) struct Stream {
    pub(super) io: Box<dyn Io>,
    /// What the agent is to be called in `Host`.
    pub(super) host: String,
    /// What people call it.
    pub(super) at: String,
    pub(super) word: Option<Word>,
}

impl Stream {
    pub(super) fn new(io: impl Io + 'static, host: String, at: String) -> Self {
        Self { io: Box::new(io), host, at, word: None }
    }
}

/// A connection that takes one request after the other.
pub(super) struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    host: String,
    at: String,
    word: Option<Word>,
    is_secure: bool,
}

impl Connection {
    pub(super) async fn over(stream: Stream, is_secure: bool) -> Result<Self, RemoteError> {
        let Stream { io, host, at, word } = stream;
        let made = http1::handshake(TokioIo::new(io)).await;
        let (sender, connection) =
            made.map_err(|error| RemoteError::NoAnswer { at: at.clone(), why: error.to_string() })?;
        tokio::spawn(connection);
        Ok(Self { sender, host, at, word, is_secure })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, RemoteError> {
        let answer = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_parse() && !self.is_secure => {
                Err(RemoteError::NoHttp { at: self.at.clone() })
            }
            Err(error) => {
                let word = self.last_word().await;
                let why = word.unwrap_or_else(|| crate::causes::with_causes(&error));
                Err(RemoteError::NoAnswer { at: self.at.clone(), why })
            }
        }
    }

    /// Why the forwarder gave up, if it says so.
    pub(super) async fn last_word(&mut self) -> Option<String> {
        last_word(self.word.take()).await
    }
}

pub(super) async fn last_word(word: Option<Word>) -> Option<String> {
    timeout(LAST_WORD, word?).await.ok().flatten()
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at)
    }
}
