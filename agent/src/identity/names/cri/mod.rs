//! Names from the container runtime, by the socket over which the kubelet speaks to it (CRI). Read-only: nothing is
//! asked but the version, two lists and the stream of events.
//!
//! A runtime that reports to every listener is listened to, and listed now and then for what was missed. Any other
//! is listed at an interval. When somebody waits for a name, either is asked for it by its id, at most so often that
//! this takes half of the time. Whatever goes wrong ends the session: the source has failed, and a new session is tried, less and less
//! often. What was known stays.

mod api;
mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod session;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

pub use self::client::CriError;
use self::{
    api::VersionResponse,
    client::Client,
    session::{Never, Session},
    view::View,
};
use super::{Names, Source, SourceState};
use crate::config::SocketChoice;

/// Where runtimes have their sockets.
const USUAL: [&str; 7] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
];
/// What an answer may take. A runtime under load has been seen to need seconds for a list.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time until the next session, after the first failure and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The source.
#[derive(Debug)]
pub struct Cri {
    /// None to look at the usual places.
    socket: Option<PathBuf>,
    interval: Duration,
    patience: Duration,
    retry: (Duration, Duration),
    names: Arc<Names>,
}

/// A runtime that answers.
struct Open {
    socket: PathBuf,
    client: Client,
    version: VersionResponse,
}

impl Cri {
    /// None if it is switched off. From here on names are worth waiting for, if there is a socket.
    pub fn new(socket: &SocketChoice, interval: Duration, names: Arc<Names>) -> Option<Self> {
        let socket = match socket {
            SocketChoice::Off => return None,
            SocketChoice::Auto => None,
            SocketChoice::Path(path) => Some(path.clone()),
        };
        let cri = Self { socket, interval, patience: PATIENCE, retry: RETRY, names };
        if !cri.candidates().is_empty() {
            cri.names.set_state(Source::Cri, SourceState::Connecting);
        }
        Some(cri)
    }

    /// Fills the store for as long as it is polled.
    pub async fn run(self) {
        let mut pause = self.retry.0;
        let mut told = String::new();
        loop {
            let Err(error) = self.session().await;
            if self.names.state(Source::Cri) == SourceState::Connected {
                pause = self.retry.0;
                told.clear();
            }
            let is_absent = matches!(error, CriError::NoSocket);
            let state = if is_absent { SourceState::Absent } else { SourceState::Failed };
            self.names.set_state(Source::Cri, state);
            if !is_absent {
                self.names.failed(Source::Cri);
            }
            // Each reason once, however often it is tried.
            let text = format!("{:#}", anyhow::Error::new(error));
            if !is_absent && text != told {
                tracing::warn!("no names from the container runtime: {text}; it is tried again");
                told = text;
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.retry.1);
        }
    }

    /// Asks once, for `doctor`: the socket and who answers there.
    pub async fn probe(&self) -> Result<String, CriError> {
        let Open { socket, version, .. } = self.open().await?;
        Ok(format!("{} {} at {}", version.runtime_name, version.runtime_version, socket.display()))
    }

    async fn session(&self) -> Result<Never, CriError> {
        let Open { socket, client, version } = self.open().await?;
        let reports = reports_to_everyone(&version);
        let (names, view, interval) = (&*self.names, View::default(), self.interval);
        let missed = HashMap::new();
        let mut session = Session { socket, version, client, names, view, interval, missed };
        if !reports {
            return session.poll().await;
        }
        match session.listen().await {
            Err(error) if error.is_unimplemented() => session.poll().await,
            ended => ended,
        }
    }

    fn candidates(&self) -> Vec<&Path> {
        match &self.socket {
            Some(path) => vec![path],
            None => USUAL.iter().map(Path::new).filter(|path| path.exists()).collect(),
        }
    }

    /// The first that answers. Docker's containerd may have no CRI at all.
    async fn open(&self) -> Result<Open, CriError> {
        let mut first = Err(CriError::NoSocket);
        for socket in self.candidates() {
            match self.greet(socket).await {
                Ok(open) => return Ok(open),
                Err(error) if first.as_ref().is_err_and(|first| matches!(first, CriError::NoSocket)) => {
                    first = Err(error);
                }
                Err(_) => {}
            }
        }
        first
    }

    async fn greet(&self, socket: &Path) -> Result<Open, CriError> {
        let mut client = Client::connect(socket, self.patience).await?;
        let version = client.version().await?;
        Ok(Open { socket: socket.to_owned(), client, version })
    }
}

/// Whether a listener to this runtime's events takes none from another one. Up to 1.7 containerd hands each event
/// to one listener only, and that has to be the kubelet.
fn reports_to_everyone(version: &VersionResponse) -> bool {
    let number = version.runtime_version.trim_start_matches('v');
    let major = number.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    match version.runtime_name.as_str() {
        "containerd" => major >= 2,
        "cri-o" => true,
        _ => false,
    }
}
