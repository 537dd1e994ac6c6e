//! HTTP over the engine's socket, a connection for every request: every answer has a size that it may have and a
//! time in which it has to come.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    net::UnixStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::api::{Change, EVENTS, Event};
use crate::identity::names::{Source, lines::Lines};

/// The largest answer that is read: some ten thousand containers.
const ANSWER_MAX: usize = 16 << 20;
/// What is read of an answer that says no.
const REFUSAL_MAX: usize = 4 << 10;
/// Bytes of an event. It carries all labels of its container.
const EVENT_MAX: usize = 1 << 20;
/// Bytes of events that are read in a second; then the engine has to wait. Containers that come and go make far less.
const EVENTS_PER_SECOND: usize = 1 << 20;
/// As how many bytes a piece of the stream counts besides its own, and a line: small ones are dear.
const OVERHEAD: usize = 256;

/// Why there are no names from an engine.
#[derive(Debug, Error)]
pub enum DockerError {
    #[error("can't connect: is the engine running, and may the agent's user open its socket?")]
    Connect(#[source] io::Error),
    #[error("no answer to {call} within {} s: the engine hangs or is overloaded", .patience.as_secs())]
    Silent { call: &'static str, patience: Duration },
    #[error("the answer to {call} is no HTTP, or broke off")]
    Broken { call: &'static str, source: hyper::Error },
    #[error("{call} was refused with {status}: {message}")]
    Refused { call: &'static str, status: StatusCode, message: String },
    #[error("the answer to {call} is larger than {} MiB", ANSWER_MAX >> 20)]
    TooLarge { call: &'static str },
    #[error("the answer to {call} is not what the Docker Engine API promises")]
    Garbage { call: &'static str, source: serde_json::Error },
    #[error("{name} answers there: its socket is identity.{name}_socket", name = .0.name())]
    Another(Source),
    #[error("somebody else answers at the socket than before")]
    ChangedHands,
    #[error("the stream of events ended")]
    Ended,
}

/// One engine.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
    /// Whose process listens, as the kernel says.
    owner: u32,
    patience: Duration,
}

/// An answer that has begun to come. The connection ends with it.
struct Answer {
    status: StatusCode,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Client {
    pub(super) async fn connect(socket: &Path, patience: Duration) -> Result<Self, DockerError> {
        let stream = connect(socket, patience).await?;
        let owner = stream.peer_cred().map_err(DockerError::Connect)?.uid();
        Ok(Self { socket: socket.to_owned(), owner, patience })
    }

    /// The user as whom the engine runs; none for root.
    pub(super) fn user(&self) -> Option<u32> {
        Some(self.owner).filter(|user| *user != 0)
    }

    pub(super) async fn ask<A: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &str,
    ) -> Result<A, DockerError> {
        let patience = self.patience;
        let answer = async {
            let mut answer = self.open(call, path).await?;
            let bytes = answer.whole(call, ANSWER_MAX).await?;
            serde_json::from_slice(&bytes).map_err(|source| DockerError::Garbage { call, source })
        };
        timeout(patience, answer).await.map_err(|_| DockerError::Silent { call, patience })?
    }

    /// Passes on what happens until the stream fails: an error for what can't be read. A server may answer nothing
    /// at all before the first event.
    pub(super) async fn pump(self, into: mpsc::Sender<Option<Change>>) -> DockerError {
        const CALL: &str = "events";
        let mut answer = match self.open(CALL, EVENTS).await {
            Ok(answer) => answer,
            Err(error) => return error,
        };
        let mut lines = Lines::new(EVENT_MAX);
        let (mut second, mut read) = (Instant::now(), 0);
        while let Some(frame) = answer.body.frame().await {
            let piece = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(source) => return DockerError::Broken { call: CALL, source },
            };
            lines.push(&piece);
            read += piece.len() + OVERHEAD;
            while let Some(line) = lines.next() {
                read += OVERHEAD;
                let event = line.ok().and_then(|line| serde_json::from_slice::<Event>(line).ok());
                let change = event.map(Event::change);
                if change != Some(Change::Other) && into.send(change).await.is_err() {
                    return DockerError::Ended;
                }
            }
            if read > EVENTS_PER_SECOND {
                sleep_until(second + Duration::from_secs((read / EVENTS_PER_SECOND) as u64)).await;
            }
            if second.elapsed() >= Duration::from_secs(1) {
                (second, read) = (Instant::now(), 0);
            }
        }
        DockerError::Ended
    }

    #[expect(clippy::expect_used, reason = "paths are made of plain characters")]
    async fn open(&self, call: &'static str, path: &str) -> Result<Answer, DockerError> {
        let broken = |source| DockerError::Broken { call, source };
        let stream = connect(&self.socket, self.patience).await?;
        if stream.peer_cred().map_err(DockerError::Connect)?.uid() != self.owner {
            return Err(DockerError::ChangedHands);
        }
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Whoever reads the answer learns of the error.
            let _ = connection.await;
        });
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::USER_AGENT, concat!("podwitness/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .expect("a valid request");
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let mut answer = Answer { status: head.status, body, _connection: task };
        if answer.status != StatusCode::OK {
            let bytes = timeout(self.patience, answer.whole(call, REFUSAL_MAX)).await;
            let text = bytes.ok().and_then(Result::ok).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let message = text.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(DockerError::Refused { call, status: answer.status, message });
        }
        Ok(answer)
    }
}

impl Answer {
    async fn whole(&mut self, call: &'static str, largest: usize) -> Result<Vec<u8>, DockerError> {
        let mut bytes = Vec::new();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| DockerError::Broken { call, source })?;
            let piece = frame.into_data().unwrap_or_default();
            if bytes.len() + piece.len() > largest {
                return Err(DockerError::TooLarge { call });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

async fn connect(socket: &Path, patience: Duration) -> Result<UnixStream, DockerError> {
    timeout(patience, UnixStream::connect(socket))
        .await
        .map_err(|_| DockerError::Silent { call: "connect", patience })?
        .map_err(DockerError::Connect)
}
