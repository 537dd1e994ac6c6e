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
use crate::identity::{
    cgroup_path::fold::{NAME_MAX, text},
    names::{Container, Names, Source, answer::key},
};

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
    /// Shortest pause after requests.
    spacing: Duration,
    /// podman's pods that have been listed: name by id.
    pods: HashMap<String, String>,
}

/// What events leave open until the engine may be asked again.
#[derive(Debug, Default)]
struct Open {
    /// Something could not be read: whatever it was, a list has it.
    is_garbled: bool,
    /// Ids to search for.
    asked: Vec<String>,
    /// Those of them that are in a podman pod, by its id: as much as is kept of a container, not all that was said of it.
    in_pods: Vec<(String, Container)>,
    /// Those of these that have ended already, by their keys.
    gone: Vec<String>,
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
        spacing: Duration,
    ) -> Result<Self, DockerError> {
        let version: Version = client.ask("version", VERSION).await?;
        if version.source() != source {
            return Err(DockerError::Another(version.source()));
        }
        Ok(Self { client, version, source, names, held, room, spacing, pods: HashMap::new() })
    }

    /// The engine's name and version.
    pub(super) fn peer(&self) -> String {
        format!("{} {}", self.source.name(), self.version.version)
    }

    /// Takes in events, and lists now and then. `listed` is called after the first list. However much an engine has to
    /// say, it is asked during half of the time at most, and seldom: any user may offer a socket that says anything.
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
        let mut rest = Instant::now() + self.spacing;
        let (mut changes, mut open) = (Vec::new(), Open::default());
        loop {
            let next = if open.is_empty() { asked.unwrap_or(due).min(due) } else { rest };
            tokio::select! {
                error = &mut pump => return Err(error),
                _ = events.recv_many(&mut changes, AT_ONCE), if open.asked.len() < AT_ONCE => {
                    self.take(std::mem::take(&mut changes), &mut open);
                }
                _ = wanted.changed() => {
                    asked.get_or_insert(Instant::now() + EVENT_DELAY);
                }
                () = sleep_until(next.max(rest)) => {
                    let begin = Instant::now();
                    if open.is_garbled || due <= begin {
                        self.list().await?;
                        due = Instant::now() + RELIST;
                    }
                    self.close(std::mem::take(&mut open)).await?;
                    if asked.take_if(|at| *at <= begin).is_some() {
                        let ids = wanted.borrow_and_update().clone();
                        self.look_for(&ids).await?;
                    }
                    rest = Instant::now() + self.spacing.max(begin.elapsed());
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

    fn take(&mut self, changes: Vec<Option<Change>>, open: &mut Open) {
        let user = self.client.user();
        for change in changes {
            match change {
                Some(Change::Here(listed)) if listed.pod.is_empty() => self.put(listed.fact(user)),
                Some(Change::Here(listed)) => {
                    // It may have been gone, and is here again.
                    let key = key(&listed.id, user);
                    open.gone.retain(|gone| *gone != key);
                    open.asked.push(listed.id.clone());
                    let pod = Some(listed.pod.clone()).filter(|pod| pod.len() <= NAME_MAX);
                    open.in_pods.extend(pod.zip(listed.fact(user)));
                }
                Some(Change::Renamed(id)) => open.asked.push(id),
                Some(Change::Gone(id)) => {
                    let key = key(&id, user);
                    self.forget(&key);
                    if open.in_pods.iter().any(|(_, container)| container.id == key) {
                        open.gone.push(key);
                    }
                }
                Some(Change::Other) => {}
                None => {
                    self.names.garbled(self.source, 1);
                    open.is_garbled = true;
                }
            }
        }
    }

    /// Asks for what events have left open.
    async fn close(&mut self, open: Open) -> Result<(), DockerError> {
        self.look_for(&open.asked).await?;
        for (pod, container) in open.in_pods {
            // Who lives for a moment is gone before it can be asked for.
            if !self.held.0.contains(&container.id)
                && let Some(name) = self.pods.get(&pod)
            {
                let pod_name = Some(text(name, NAME_MAX));
                self.put(Some(Container { pod_name, ..container }));
            }
        }
        // They have had their name; what they did may still be told.
        for key in open.gone {
            self.forget(&key);
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

impl Open {
    fn is_empty(&self) -> bool {
        !self.is_garbled && self.asked.is_empty()
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
