//! What is known of a container beside its labels, in a recording: with the first line of the container, and with the next
//! one after it has changed.

use std::{collections::HashMap, path::Path, sync::Arc};

use agent_ebpf::contract::event::EventKind;
use serde_json::{Map, Value};

use crate::{
    identity::{
        Container, Labels,
        names::{Details, PodMetadata},
    },
    otlp::Seen,
};

/// Containers whose details are remembered as told; then all are told anew.
const TOLD: usize = 4096;

/// What was told of those who live.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<u64, Arc<Details>>);

impl Told {
    /// What the line has to tell.
    pub(super) fn news(&mut self, seen: &Seen) -> Option<Value> {
        let details = seen.container.as_ref()?.details();
        let is_news = match self.0.get(&seen.cgroup_id) {
            Some(told) => *told != details,
            None => *details != Details::default(),
        };
        let news = is_news.then(|| written(&details));
        if seen.observation.kind == EventKind::CgroupRmdir {
            self.0.remove(&seen.cgroup_id);
        } else if is_news {
            if self.0.len() >= TOLD {
                self.0.clear();
            }
            self.0.insert(seen.cgroup_id, details);
        }
        news
    }
}

/// The containers of a recording, as they were at the line that is being read.
#[derive(Debug, Default)]
pub(super) struct Containers(HashMap<u64, Arc<Container>>);

impl Containers {
    /// The one that a line is about.
    pub(super) fn of(&mut self, id: u64, path: &str, labels: &Labels, line: &Value) -> Arc<Container> {
        let known = self.0.get(&id).filter(|known| known.path == Path::new(path));
        let details = match line.get("details") {
            Some(details) => read(details),
            None => known.map(|known| (*known.details()).clone()).unwrap_or_default(),
        };
        let container = known.cloned().unwrap_or_else(|| Container::new(id, Path::new(path)));
        container.name(labels.clone(), details);
        self.0.insert(id, Arc::clone(&container));
        container
    }
}

fn written(details: &Details) -> Value {
    let mut line = Map::new();
    if let Some(pod) = &details.pod {
        let annotations: Map<_, _> = pod.annotations().map(|(key, value)| (key, value.into())).collect();
        let labels: Map<_, _> = pod.labels().map(|(key, value)| (key.to_owned(), value.into())).collect();
        line.insert("annotations".into(), annotations.into());
        line.insert("labels".into(), labels.into());
    }
    line.insert("version".into(), details.version.clone().into());
    line.insert("restart_count".into(), details.restart_count.into());
    line.retain(|_, value| !value.is_null());
    line.into()
}

/// What isn't there, or is something else, was not said.
fn read(line: &Value) -> Details {
    let mut pod = PodMetadata::default();
    let pairs = |field: &str| {
        let pairs = line[field].as_object().into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key, value.as_str()?)))
    };
    pairs("annotations").for_each(|(key, value)| pod.annotate(key, value));
    pairs("labels").for_each(|(key, value)| pod.label(key, value));
    Details {
        pod: pod.shared(),
        version: line["version"].as_str().map(str::to_owned),
        restart_count: line["restart_count"].as_u64().and_then(|count| count.try_into().ok()),
    }
}
