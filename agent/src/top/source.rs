//! Asking the agent. All that `top` knows of connections is here.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    sync::mpsc::Sender,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::told::Look;
use crate::{
    filter::Filter,
    identity::Labels,
    remote::{Remote, query},
};

/// An agent that takes longer is given up on, and asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent.
#[derive(Clone)]
pub(super) struct Source(Arc<Remote>);

/// What comes from the agent.
#[derive(Debug)]
pub(super) enum News {
    Looked(Box<Result<Look, String>>),
    /// The live events of a container, whole lines.
    Events(Labels, Vec<Value>),
    /// Why there are no live events of a container.
    Silent(Labels, String),
}

impl Source {
    pub(super) fn new(remote: Remote) -> Self {
        Self(Arc::new(remote))
    }

    /// What people call the agent.
    pub(super) fn name(&self) -> String {
        self.0.to_string()
    }

    /// Asks for the state of everything.
    pub(super) async fn look(&self) -> Result<Look> {
        let both = async {
            let status = self.read("/v1/status").await?;
            Ok(Look { status, containers: self.read("/v1/containers").await? })
        };
        let late = || anyhow!("{} gave no answer within {} s", self.0, PATIENCE.as_secs());
        timeout(PATIENCE, both).await.map_err(|_| late())?
    }

    /// Looks again and again, for as long as somebody listens.
    pub(super) async fn keep_looking(self, every: Duration, news: Sender<News>) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = self.look().await.map_err(|error| format!("{error:#}"));
            if news.send(News::Looked(Box::new(look))).await.is_err() {
                return;
            }
        }
    }

    /// Tells the live events of a container, for as long as somebody listens; begins again where that fails.
    pub(super) async fn follow(self, labels: Labels, pause: Duration, news: Sender<News>) {
        loop {
            let why = match self.events(&labels, &news).await {
                Ok(()) => "the stream of live events ended".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            if news.send(News::Silent(labels.clone(), why)).await.is_err() {
                return;
            }
            sleep(pause).await;
        }
    }

    async fn events(&self, labels: &Labels, news: &Sender<News>) -> Result<()> {
        let parameters = [("filter", Filter::container(labels).to_string()), ("format", "ndjson".to_owned())];
        let mut lines = self.0.lines(&format!("/v1/events?{}", query(&parameters)), &[]).await?;
        // That the stream has begun is worth telling, too.
        let mut batch = Vec::new();
        loop {
            let events =
                batch.iter().map(|line: &String| serde_json::from_str(line)).collect::<Result<_, _>>();
            let events = events.context("the agent said something that is no JSON")?;
            if news.send(News::Events(labels.clone(), events)).await.is_err() {
                return Ok(());
            }
            match lines.next().await? {
                Some(more) => batch = more,
                None => return Ok(()),
            }
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let told = self.0.json(path).await?;
        serde_json::from_value(told)
            .with_context(|| format!("{path} isn't what an agent tells: is it another version?"))
    }
}
