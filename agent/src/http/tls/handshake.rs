//! From a connection to one that is encrypted, within a time.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rustls::Error as TlsFault;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::Tls;

/// What a client hears that speaks plain HTTP.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\n\r\nthis listener speaks TLS: use https://\n";

/// Of a head in plain HTTP is read at most.
const HEAD: usize = 8 << 10;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Completed,
    /// Not done in time.
    TimedOut,
    /// The client spoke plain HTTP.
    Plain,
    /// No version, cipher or protocol that both know.
    NothingCommon,
    /// The client doesn't want the certificate, or has another complaint.
    Refused,
    /// What the client sent was no TLS, or against its rules.
    Invalid,
    /// The client went.
    BrokenOff,
}

impl Handshake {
    pub const ALL: [Self; 7] = [
        Self::Completed,
        Self::TimedOut,
        Self::Plain,
        Self::NothingCommon,
        Self::Refused,
        Self::Invalid,
        Self::BrokenOff,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TimedOut => "timed_out",
            Self::Plain => "plain_http",
            Self::NothingCommon => "nothing_common",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::BrokenOff => "broken_off",
        }
    }

    fn of(error: &io::Error) -> Self {
        let fault = error.get_ref().and_then(|inner| inner.downcast_ref());
        match fault {
            Some(TlsFault::AlertReceived(_)) => Self::Refused,
            Some(TlsFault::PeerIncompatible(_) | TlsFault::NoApplicationProtocol) => Self::NothingCommon,
            Some(_) => Self::Invalid,
            None => Self::BrokenOff,
        }
    }
}

impl Tls {
    /// The encrypted stream, or nothing; which of it is counted.
    pub(in crate::http) async fn shake_hands(
        self: &Arc<Self>,
        stream: TcpStream,
        patience: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let (outcome, stream) = match timeout(patience, self.accept(stream)).await {
            Ok(Ok(stream)) => (Handshake::Completed, Some(stream)),
            Ok(Err(outcome)) => (outcome, None),
            Err(_) => (Handshake::TimedOut, None),
        };
        self.handshakes[outcome as usize].fetch_add(1, Relaxed);
        stream
    }

    async fn accept(self: &Arc<Self>, mut stream: TcpStream) -> Result<TlsStream<TcpStream>, Handshake> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) if first[0].is_ascii_uppercase() => {
                // A method of HTTP; TLS begins with 22. What isn't read before would reset the connection under the
                // answer, or break it under a client that still asks.
                read_head(&mut stream).await;
                let _ = stream.write_all(PLAIN.as_bytes()).await;
                let _ = stream.shutdown().await;
                return Err(Handshake::Plain);
            }
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Handshake::BrokenOff),
        }
        let files = Arc::clone(self);
        let config = tokio::task::spawn_blocking(move || files.look()).await;
        let config = config.map_err(|_| Handshake::BrokenOff)?;
        TlsAcceptor::from(config).accept(stream).await.map_err(|error| Handshake::of(&error))
    }
}

/// Reads up to the empty line that ends a head, as far as there is one.
async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::with_capacity(HEAD);
    while head.len() < HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            break;
        }
    }
}
