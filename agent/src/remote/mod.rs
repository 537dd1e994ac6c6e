//! The way to an agent, for the commands that ask one: by its address, or through the API server of its cluster.

mod address;
pub mod cluster;
mod connection;
mod error;
mod lines;
mod place;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use self::{
    address::Address,
    cluster::{Cluster, PodName},
    connection::Connection,
    tls::Tls,
};
pub use self::{
    error::RemoteError,
    lines::Lines,
    place::{InCluster, PORT, Place, SELECTOR, Which},
};
use crate::config::Config;

/// What the head of an answer may take, and all of one that isn't a stream.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an answer that is read as a whole: a node with thousands of containers has some megabytes.
const LONGEST: usize = 256 << 20;
/// Bytes of an answer that says no.
const COMPLAINT: usize = 64 << 10;

/// An agent, and the way to it. Nothing is connected before the first request.
pub struct Remote {
    way: Way,
    tls: Option<Tls>,
    token_file: Option<PathBuf>,
    /// Left over from the last request.
    idle: Mutex<Option<Connection>>,
}

enum Way {
    Direct(Address),
    Cluster(Box<Cluster>),
}

impl Remote {
    /// The agent that `place` names. Files are read; the configuration says where the local agent is.
    pub async fn new(place: &Place, config: &Config) -> Result<Self, RemoteError> {
        let mut token_file = place.token_file.clone();
        let of_this_machine = || config.debug.token_file.clone().map(PathBuf::from);
        let (way, is_secure, host) = match &place.which {
            Which::Pod { .. } | Which::Node(_) => {
                let cluster = Box::new(Cluster::new(&place.which, &place.cluster).await?);
                // Who forwards is the API server, over its own TLS: another one within is for who asks for it.
                (Way::Cluster(cluster), place.ca_file.is_some(), "localhost".to_owned())
            }
            which => {
                let of_file = place.ca_file.is_some();
                let (address, is_secure) = match which {
                    Which::Address(address) => (address.clone(), of_file),
                    _ => {
                        let is_secure = config.debug.tls_certificate_file.is_some();
                        (local(config.debug.listen).to_string(), of_file || is_secure)
                    }
                };
                let address = Address::parse(&address, is_secure)?;
                token_file = token_file.or_else(of_this_machine);
                let (is_secure, host) = (address.is_secure, address.host().to_owned());
                (Way::Direct(address), is_secure, host)
            }
        };
        let name = place.server_name.as_deref().unwrap_or(&host);
        let tls = is_secure.then(|| Tls::new(place.ca_file.as_deref(), name)).transpose()?;
        Ok(Self { way, tls, token_file, idle: Mutex::new(None) })
    }

    /// The pod that the agent was asked for, if any: what others do is of no interest.
    pub fn pod(&self) -> Option<&PodName> {
        match &self.way {
            Way::Cluster(cluster) => cluster.pod(),
            Way::Direct(_) => None,
        }
    }

    /// Whether another agent comes where this one has stopped, as a DaemonSet sees to it.
    pub fn is_replaced(&self) -> bool {
        matches!(self.way, Way::Cluster(_))
    }

    /// The lines of a stream, on a connection of its own.
    pub async fn lines(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Lines, RemoteError> {
        let mut connection = self.connect().await?;
        match self.ask(&mut connection, path, headers).await {
            Ok(body) => Ok(Lines::new(body, connection)),
            Err(error) => Err(self.explained(error).await),
        }
    }

    /// A whole answer.
    pub async fn json(&self, path: &str) -> Result<Value, RemoteError> {
        let kept = self.lock().take();
        if let Some(mut connection) = kept {
            match self.whole(&mut connection, path).await {
                // It may have been closed since, or the forward be gone.
                Err(error) if error.is_of_connection() => {}
                answer => return self.keep(connection, answer),
            }
        }
        let mut connection = self.connect().await?;
        match self.whole(&mut connection, path).await {
            Ok(answer) => self.keep(connection, Ok(answer)),
            Err(error) => Err(self.explained(error).await),
        }
    }

    /// Who forwards may have said why, and the word got lost: a connection that is closed upon a request is reset, and what
    /// was on its way is gone. It is said again to one who asks for nothing.
    async fn explained(&self, error: RemoteError) -> RemoteError {
        match (&self.way, error) {
            (Way::Cluster(cluster), RemoteError::NoAnswer { at, why }) => {
                let word = match cluster.forward().await {
                    Ok(stream) => connection::last_word(stream.word).await,
                    Err(error) => return error.into(),
                };
                RemoteError::NoAnswer { at, why: word.unwrap_or(why) }
            }
            (_, error) => error,
        }
    }

    fn keep(&self, connection: Connection, answer: Result<Value, RemoteError>) -> Result<Value, RemoteError> {
        if answer.is_ok() {
            *self.lock() = Some(connection);
        }
        answer
    }

    async fn whole(&self, connection: &mut Connection, path: &str) -> Result<Value, RemoteError> {
        let at = connection.to_string();
        let body = self.ask(connection, path, &[]).await?;
        let body = timeout(PATIENCE, Limited::new(body, LONGEST).collect()).await;
        let body = body.map_err(|_| RemoteError::Slow { at: at.clone(), patience: PATIENCE })?;
        let body = body.map_err(|error| RemoteError::BrokeOff(error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map_err(|_| RemoteError::NoJson { at })
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Incoming, RemoteError> {
        let mut request = Request::get(path).header(header::HOST, connection.host());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(path) = &self.token_file {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token(path)?));
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| RemoteError::Request(error.to_string()))?;
        let answer = timeout(PATIENCE, connection.send(request)).await;
        let at = connection.to_string();
        let answer = answer.map_err(|_| RemoteError::Slow { at: at.clone(), patience: PATIENCE })??;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let said = match timeout(PATIENCE, Limited::new(body, COMPLAINT).collect()).await {
            Ok(Ok(body)) => complaint(&body.to_bytes()),
            _ => String::new(),
        };
        let path = path.split('?').next().unwrap_or_default().to_owned();
        Err(match head.status {
            StatusCode::UNAUTHORIZED => RemoteError::Unauthorized { at },
            StatusCode::NOT_FOUND => RemoteError::NotFound { at, path },
            status => RemoteError::Refused { at, status: status.as_u16(), said },
        })
    }

    async fn connect(&self) -> Result<Connection, RemoteError> {
        let stream = match &self.way {
            Way::Direct(address) => address.connect().await?,
            Way::Cluster(cluster) => cluster.forward().await?,
        };
        let stream = match &self.tls {
            Some(tls) => tls.over(stream).await?,
            None => stream,
        };
        Connection::over(stream, self.tls.is_some()).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Direct(address) => address.fmt(f),
            Way::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

/// Read for each request, as the agent does: whoever replaces the file need tell nobody.
fn token(path: &Path) -> Result<String, RemoteError> {
    let read = fs::read_to_string(path);
    let text = read.map_err(|source| RemoteError::Token { path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// What an agent says in place of an answer.
fn complaint(said: &[u8]) -> String {
    let json = serde_json::from_slice(said).ok();
    let error = json.as_ref().and_then(|json: &Value| json["error"].as_str());
    error.map_or_else(|| String::from_utf8_lossy(said).trim().to_owned(), str::to_owned)
}

/// An address that a client on this machine can use.
fn local(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

/// The query string of pairs.
pub fn query(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}
