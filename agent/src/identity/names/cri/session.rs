//! What is asked of one connected runtime, and when.

use std::{path::PathBuf, time::Duration};

use tokio::{
    sync::mpsc,
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
                    _ = wanted.changed() => {
                        let ids = wanted.borrow_and_update().clone();
                        self.look_for(ids).await?;
                    }
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
                    let ids = wanted.borrow_and_update().clone();
                    match asked.take() {
                        Some(_) => self.look_for(ids).await?,
                        None => {
                            self.list().await?;
                            due = Instant::now() + regular;
                        }
                    }
                }
            }
        }
    }

    /// Asks for those who wait for a name, one by one: a list is long, and who lives for a moment is soon gone
    /// from it.
    async fn look_for(&mut self, ids: Vec<String>) -> Result<(), CriError> {
        let begin = Instant::now();
        for id in ids {
            let containers = self.client.containers(ListRequest::one(&id)).await?;
            let sandbox = match containers.first() {
                None => Some(id),
                Some(container) if self.view.knows(&container.sandbox_id) => None,
                Some(container) => Some(container.sandbox_id.clone()),
            };
            let sandboxes = match sandbox {
                Some(id) => self.client.sandboxes(ListRequest::one(&id)).await?,
                None => Vec::new(),
            };
            let (pods, containers) = self.view.add(sandboxes, containers);
            let now = std::time::Instant::now();
            for pod in pods {
                self.names.put_pod(Source::Cri, pod, now);
            }
            for container in containers {
                self.names.put_container(Source::Cri, container, now);
            }
        }
        sleep(SPACING.max(begin.elapsed() * 3)).await;
        Ok(())
    }

    async fn list(&mut self) -> Result<(), CriError> {
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
