//! Names from Docker and from podman, by the Docker Engine API that both serve. Read-only: nothing is asked but the
//! version, lists of containers and the stream of events.
//!
//! Each may run several times on a node: once for root, and once for every user who runs it without. An engine is
//! listened to, listed now and then for what was missed, and asked by id for those who wait for a name. Whatever goes
//! wrong ends the session with that engine alone, and a new one is tried, less and less often. What was known stays.
//!
//! A user's engine is believed about this user's containers only, which are those in the user's slice: anybody can
//! make a socket at its usual place.

mod api;
mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod session;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

pub use self::client::DockerError;
use self::{
    client::Client,
    session::{Held, Never, Session},
};
use super::{Names, Source, SourceState};
use crate::config::SocketChoice;

/// What an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time until the next session, after the first failure and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Shortest pause after an engine was asked for something; longer if the answer took longer.
const SPACING: Duration = Duration::from_secs(1);
/// Time between two looks for sockets, which come with users.
const LOOK: Duration = Duration::from_secs(30);
/// Where the engines of root have their sockets, and where every user who is logged in has a directory.
const RUN: &str = "/run";
const USERS: &str = "/run/user";

/// The source: one kind of engine.
#[derive(Debug)]
pub struct Docker {
    source: Source,
    /// None to look at the usual places.
    socket: Option<PathBuf>,
    /// Sockets listened to at a time (`limits.engine_sockets`).
    sockets: usize,
    run: PathBuf,
    patience: Duration,
    retry: (Duration, Duration),
    spacing: Duration,
    look: Duration,
    names: Arc<Names>,
    /// By socket.
    states: Mutex<HashMap<PathBuf, SourceState>>,
}

impl Docker {
    /// Of `source`, which is Docker or podman. None if it is switched off. From here on names are worth waiting for,
    /// if there is a socket.
    pub fn new(source: Source, socket: &SocketChoice, sockets: usize, names: Arc<Names>) -> Option<Self> {
        let socket = match socket {
            SocketChoice::Off => return None,
            SocketChoice::Auto => None,
            SocketChoice::Path(path) => Some(path.clone()),
        };
        let docker = Self {
            source,
            socket,
            sockets,
            run: RUN.into(),
            patience: PATIENCE,
            retry: RETRY,
            spacing: SPACING,
            look: LOOK,
            names,
            states: Mutex::default(),
        };
        for socket in docker.candidates().into_iter().take(sockets) {
            docker.report(&socket, Some(SourceState::Connecting));
        }
        Some(docker)
    }

    /// Fills the store for as long as it is polled.
    pub async fn run(self) {
        let docker = Arc::new(self);
        let mut tasks = JoinSet::new();
        let mut served = HashSet::new();
        let mut is_told = false;
        loop {
            let mut left_out = 0;
            for socket in docker.candidates() {
                if served.contains(&socket) {
                    continue;
                }
                if served.len() < docker.sockets {
                    served.insert(socket.clone());
                    tasks.spawn(Arc::clone(&docker).serve(socket));
                    continue;
                }
                left_out += 1;
                if !std::mem::replace(&mut is_told, true) {
                    let (source, socket) = (docker.source.name(), socket.display());
                    tracing::warn!(
                        %socket,
                        "{source} has more sockets than limits.engine_sockets: some are not asked for names"
                    );
                }
            }
            docker.names.leave_out(docker.source, left_out);
            tokio::select! {
                () = sleep(docker.look) => {}
                Some(Ok(gone)) = tasks.join_next() => {
                    served.remove(&gone);
                }
            }
        }
    }

    /// Asks every engine once, for `doctor`: each socket and who answers there, or why nobody does.
    pub async fn probe(&self) -> Vec<(PathBuf, Result<String, DockerError>)> {
        let mut found = Vec::new();
        for socket in self.candidates() {
            let mut held = Held::default();
            match self.open(&socket, &mut held).await {
                Err(DockerError::Another(_)) if self.socket.is_none() => {}
                Ok(session) => found.push((socket, Ok(session.peer()))),
                Err(error) => found.push((socket, Err(error))),
            }
        }
        found
    }

    /// One socket, until it is gone from its usual place.
    async fn serve(self: Arc<Self>, socket: PathBuf) -> PathBuf {
        let mut held = Held::default();
        let mut pause = self.retry.0;
        let mut told = String::new();
        loop {
            let mut is_connected = false;
            let Err(error) = self.session(&socket, &mut held, &mut is_connected).await;
            if self.socket.is_none() && !socket.exists() {
                held.forget_all(self.source, &self.names);
                self.report(&socket, None);
                return socket;
            }
            if is_connected {
                pause = self.retry.0;
                told.clear();
            }
            // The other source has it.
            let is_others = matches!(error, DockerError::Another(_)) && self.socket.is_none();
            self.report(&socket, (!is_others).then_some(SourceState::Failed));
            // Each reason once, however often it is tried.
            let text = format!("{:#}", anyhow::Error::new(error));
            if !is_others {
                self.names.failed(self.source);
            }
            if !is_others && text != told {
                let (source, socket) = (self.source.name(), socket.display());
                tracing::warn!("no names from {source} at {socket}: {text}; it is tried again");
                told = text;
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.retry.1);
        }
    }

    async fn session(
        &self,
        socket: &Path,
        held: &mut Held,
        is_connected: &mut bool,
    ) -> Result<Never, DockerError> {
        let mut session = self.open(socket, held).await?;
        let connected = |peer: &str| {
            *is_connected = true;
            self.report(socket, Some(SourceState::Connected));
            tracing::info!(socket = %socket.display(), "names from {peer}");
        };
        session.listen(connected).await
    }

    async fn open<'a>(&'a self, socket: &Path, held: &'a mut Held) -> Result<Session<'a>, DockerError> {
        let client = Client::connect(socket, self.patience).await?;
        // All users together leave half of the shelf to root.
        let room = match client.user() {
            None => self.names.room(),
            Some(_) => self.names.room() / (2 * self.sockets),
        };
        Session::open(client, self.source, &self.names, held, room, self.spacing).await
    }

    /// The source is as well as the best of its sockets.
    fn report(&self, socket: &Path, state: Option<SourceState>) {
        const BEST_FIRST: [SourceState; 3] =
            [SourceState::Connected, SourceState::Connecting, SourceState::Failed];
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => states.insert(socket.to_owned(), state),
            None => states.remove(socket),
        };
        let best = BEST_FIRST.into_iter().find(|one| states.values().any(|state| state == one));
        self.names.set_state(self.source, best.unwrap_or(SourceState::Absent));
    }

    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(path) = &self.socket {
            return vec![path.clone()];
        }
        let of_users = match self.source {
            Source::Podman => "podman/podman.sock",
            _ => "docker.sock",
        };
        let users = fs::read_dir(self.run.join("user")).into_iter().flatten().flatten();
        let users = users.map(|entry| entry.path());
        let own = env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && !path.starts_with(USERS));
        // That of root first: it has the most to tell.
        let directories = std::iter::once(self.run.clone()).chain(users).chain(own);
        let mut sockets: Vec<PathBuf> = directories.map(|directory| directory.join(of_users)).collect();
        sockets.retain(|socket| socket.exists());
        sockets
    }
}
