//! What is asked of one engine, and when.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    DockerError,
    api::{self, Change, Lenient, VERSION, Version},
    client::Client,
};
use crate::identity::names::{Container, Names, Source, answer::key};

/// Time between two lists, for what no event told.
const RELIST: Duration = Duration::from_secs(60);
/// How long events have to name somebody before it is searched for.
const EVENT_DELAY: Duration = Duration::from_millis(250);
/// Events that wait to be taken in; then the engine has to wait.
const EVENTS: usize = 64;
/// Containers that are asked for in one request.
const AT_ONCE: usize = 64;

/// The facts that one socket has brought. They outlive a session.
#[derive(Debug, Default)]
pub(super) struct Held(HashSet<String>);

pub(super) struct Session<'a> {
    client: Client,
    version: Version,
    source: Source,
    names: &'a Names,
    held: &'a mut Held,
    /// Most facts of this socket.
    room: usize,
    /// podman's pods that have been listed: name by id.
    pods: HashMap<String, String>,
}

/// A session ends by an error only.
pub(super) enum Never {}

impl<'a> Session<'a> {
    /// Greets the engine, which has to be the expected one.
    pub(super) async fn open(
        client: Client,
        source: Source,
        names: &'a Names,
        held: &'a mut Held,
        room: usize,
    ) -> Result<Self, DockerError> {
        let version: Version = client.ask("version", VERSION).await?;
        if version.source() != source {
            return Err(DockerError::Another(version.source()));
        }
        Ok(Self { client, version, source, names, held, room, pods: HashMap::new() })
    }

    /// The engine's name and version.
    pub(super) fn peer(&self) -> String {
        format!("{} {}", self.source.name(), self.version.version)
    }

    /// Takes in events, and lists now and then. `listed` is called after the first list.
    pub(super) async fn listen(&mut self, listed: impl FnOnce(&str)) -> Result<Never, DockerError> {
        let (sender, mut events) = mpsc::channel(EVENTS);
        let pump = self.client.clone().pump(sender);
        tokio::pin!(pump);
        let mut wanted = self.names.wanted();
        // The stream is asked for before the list, so that nothing falls between them.
        tokio::select! {
            biased;
            error = &mut pump => return Err(error),
            listed = self.list() => listed?,
        }
        listed(&self.peer());
        let (mut due, mut asked) = (Instant::now() + RELIST, None);
        let mut changes = Vec::new();
        loop {
            tokio::select! {
                error = &mut pump => return Err(error),
                _ = events.recv_many(&mut changes, AT_ONCE) => self.take(std::mem::take(&mut changes)).await?,
                _ = wanted.changed() => {
                    asked.get_or_insert(Instant::now() + EVENT_DELAY);
                }
                () = sleep_until(asked.unwrap_or(due).min(due)) => {
                    let ids = wanted.borrow_and_update().clone();
                    if asked.take().is_some() {
                        self.look_for(&ids).await?;
                    } else {
                        self.list().await?;
                        due = Instant::now() + RELIST;
                    }
                }
            }
        }
    }

    async fn list(&mut self) -> Result<(), DockerError> {
        self.pods.clear();
        let containers = self.ask(&self.version.list()).await?;
        let listed: HashSet<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        let gone: Vec<String> =
            self.held.0.iter().filter(|id| !listed.contains(id.as_str())).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
        self.put(containers);
        Ok(())
    }

    async fn look_for(&mut self, ids: &[String]) -> Result<(), DockerError> {
        for ids in ids.chunks(AT_ONCE) {
            if let Some(only) = api::only(ids) {
                let found = self.ask(&format!("{}{only}", self.version.list())).await?;
                self.put(found);
            }
        }
        Ok(())
    }

    async fn take(&mut self, changes: Vec<Option<Change>>) -> Result<(), DockerError> {
        let user = self.client.user();
        let (mut asked, mut in_pods, mut is_garbled) = (Vec::new(), Vec::new(), false);
        for change in changes {
            match change {
                Some(Change::Here(listed)) if listed.pod.is_empty() => self.put(listed.fact(user)),
                Some(Change::Here(listed)) => {
                    asked.push(listed.id.clone());
                    in_pods.push(listed);
                }
                Some(Change::Renamed(id)) => asked.push(id),
                Some(Change::Gone(id)) => self.forget(&key(&id, user)),
                Some(Change::Other) => {}
                None => {
                    self.names.garbled(self.source, 1);
                    is_garbled = true;
                }
            }
        }
        // Whatever it was, a list has it.
        if is_garbled {
            self.list().await?;
        }
        self.look_for(&asked).await?;
        for mut listed in in_pods {
            // Who lives for a moment is gone before it can be asked for.
            if !self.held.0.contains(&key(&listed.id, user))
                && let Some(name) = self.pods.get(&listed.pod)
            {
                listed.pod_name.clone_from(name);
                self.put(listed.fact(user));
            }
        }
        Ok(())
    }

    /// What can't be read or has no name is left out.
    async fn ask(&mut self, path: &str) -> Result<Vec<Container>, DockerError> {
        let listed: Vec<Lenient> = self.client.ask("containers", path).await?;
        let mut facts = Vec::new();
        for listed in listed {
            let Lenient::Listed(listed) = listed else {
                self.names.garbled(self.source, 1);
                continue;
            };
            if !listed.pod.is_empty() && self.pods.len() < self.room {
                self.pods.insert(listed.pod.clone(), listed.pod_name.clone());
            }
            facts.extend(listed.fact(self.client.user()));
        }
        Ok(facts)
    }

    fn put(&mut self, containers: impl IntoIterator<Item = Container>) {
        let now = std::time::Instant::now();
        for container in containers {
            if self.held.0.len() >= self.room && !self.held.0.contains(&container.id) {
                self.names.refuse(1);
                continue;
            }
            self.held.0.insert(container.id.clone());
            self.names.put_container(self.source, container, now);
        }
    }

    fn forget(&mut self, key: &str) {
        self.held.0.remove(key);
        self.names.forget_container(self.source, key, std::time::Instant::now());
    }
}

impl Held {
    /// The socket is gone, and with it its containers.
    pub(super) fn forget_all(&mut self, source: Source, names: &Names) {
        for key in self.0.drain() {
            names.forget_container(source, &key, std::time::Instant::now());
        }
    }
}
