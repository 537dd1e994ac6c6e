//! What is asked of one connected runtime, and when.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    CriError, api,
    api::{ListRequest, VersionResponse},
    client::Client,
    view::View,
};
use crate::identity::names::{Names, Source, SourceState};

/// Shortest pause after a search for those who wait for a name.
const SPACING: Duration = Duration::from_millis(10);
/// Searches at a time.
const AT_ONCE: usize = 16;
/// After so many in vain, the next list is waited for.
const TRIES: u32 = 4;
/// How long events have to name somebody before it is searched for.
const EVENT_DELAY: Duration = Duration::from_millis(250);
/// Intervals between two lists where events come.
const WITH_EVENTS: u32 = 6;
/// Events that wait to be taken in; then the runtime has to wait.
const EVENTS: usize = 64;

/// A session ends by an error only.
pub(super) enum Never {}

pub(super) struct Session<'a> {
    pub(super) socket: PathBuf,
    pub(super) version: VersionResponse,
    pub(super) client: Client,
    pub(super) names: &'a Names,
    pub(super) view: View,
    pub(super) interval: Duration,
    /// How often the runtime didn't know somebody who waits for a name, since the last list.
    pub(super) missed: HashMap<String, u32>,
}

impl Session<'_> {
    /// Lists at an interval, and when somebody waits for a name.
    pub(super) async fn poll(&mut self) -> Result<Never, CriError> {
        let mut wanted = self.names.wanted();
        loop {
            self.list().await?;
            let due = Instant::now() + self.interval;
            while Instant::now() < due {
                tokio::select! {
                    () = sleep_until(due) => {}
                    // The sender lives in the store.
                    _ = wanted.changed() => self.look_for(&mut wanted).await?,
                }
            }
        }
    }

    /// Takes in events, and lists now and then.
    pub(super) async fn listen(&mut self) -> Result<Never, CriError> {
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
        let regular = self.interval * WITH_EVENTS;
        let (mut due, mut asked) = (Instant::now() + regular, None);
        loop {
            tokio::select! {
                error = &mut pump => return Err(error),
                Some(event) = events.recv() => self.take(event),
                _ = wanted.changed() => {
                    asked.get_or_insert(Instant::now() + EVENT_DELAY);
                }
                () = sleep_until(asked.unwrap_or(due).min(due)) => {
                    match asked.take() {
                        Some(_) => self.look_for(&mut wanted).await?,
                        None => {
                            self.list().await?;
                            due = Instant::now() + regular;
                        }
                    }
                }
            }
        }
    }

    /// Asks for those who wait for a name, a few at a time and by their ids: a list is long, and who lives for a moment is
    /// soon gone from it. Of those who wait the youngest are asked for first, also if they come meanwhile. Whom the runtime
    /// doesn't know is gone, or not made yet: nobody else waits for that.
    async fn look_for(&mut self, wanted: &mut watch::Receiver<Vec<String>>) -> Result<(), CriError> {
        let mut asked = HashSet::new();
        loop {
            let ids: Vec<String> = {
                let wanted = wanted.borrow_and_update();
                self.missed.retain(|id, _| wanted.contains(id));
                let is_worth_it = |id: &&String| {
                    !asked.contains(*id) && self.missed.get(*id).is_none_or(|times| *times < TRIES)
                };
                wanted.iter().filter(is_worth_it).take(AT_ONCE).cloned().collect()
            };
            if ids.is_empty() {
                return Ok(());
            }
            asked.extend(ids.iter().cloned());
            let begin = Instant::now();
            let mut searches = JoinSet::new();
            for id in ids {
                searches.spawn(search(self.client.clone(), id));
            }
            while let Some(found) = searches.join_next().await {
                // A search neither panics nor is it aborted.
                let Ok(found) = found else { continue };
                let (id, containers, sandboxes) = found?;
                self.take_found(id, containers, sandboxes).await?;
            }
            sleep(SPACING.max(begin.elapsed())).await;
        }
    }

    async fn take_found(
        &mut self,
        id: String,
        containers: Vec<api::Container>,
        mut sandboxes: Vec<api::Sandbox>,
    ) -> Result<(), CriError> {
        match containers.first() {
            Some(container) if !self.view.knows(&container.sandbox_id) => {
                sandboxes = self.client.sandboxes(ListRequest::one(&container.sandbox_id)).await?;
            }
            None if sandboxes.is_empty() => *self.missed.entry(id).or_default() += 1,
            _ => {}
        }
        let (pods, containers) = self.view.add(sandboxes, containers);
        let now = std::time::Instant::now();
        for pod in pods {
            self.names.put_pod(Source::Cri, pod, now);
        }
        for container in containers {
            self.names.put_container(Source::Cri, container, now);
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<(), CriError> {
        self.missed.clear();
        // In this order: a container that is listed belongs to a sandbox that was there before.
        let sandboxes = self.client.sandboxes(ListRequest::default()).await?;
        let containers = self.client.containers(ListRequest::default()).await?;
        let (pods, containers) = self.view.list(sandboxes, containers);
        self.names.replace(Source::Cri, pods, containers, std::time::Instant::now());
        if self.names.state(Source::Cri) != SourceState::Connected {
            self.names.set_state(Source::Cri, SourceState::Connected);
            let VersionResponse { runtime_name, runtime_version } = &self.version;
            tracing::info!(
                socket = %self.socket.display(),
                runtime_name,
                runtime_version,
                "names from the container runtime"
            );
        }
        Ok(())
    }

    fn take(&mut self, event: api::Event) {
        let (change, now) = (self.view.event(event), std::time::Instant::now());
        if let Some(pod) = change.pod {
            self.names.put_pod(Source::Cri, pod, now);
        }
        for container in change.containers {
            self.names.put_container(Source::Cri, container, now);
        }
        if let Some(id) = change.gone_container {
            self.names.forget_container(Source::Cri, &id, now);
        }
        if let Some(uid) = change.gone_pod {
            self.names.forget_pod(Source::Cri, &uid, now);
        }
    }
}

/// A container by its id, or else a sandbox.
async fn search(
    mut client: Client,
    id: String,
) -> Result<(String, Vec<api::Container>, Vec<api::Sandbox>), CriError> {
    let containers = client.containers(ListRequest::one(&id)).await?;
    let sandboxes =
        if containers.is_empty() { client.sandboxes(ListRequest::one(&id)).await? } else { Vec::new() };
    Ok((id, containers, sandboxes))
}
