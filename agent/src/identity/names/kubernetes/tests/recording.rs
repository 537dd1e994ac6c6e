//! What the recording says, read independently of the code that is tested.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::Value;

use super::server::Fault;

pub(super) const LIST: &str = include_str!("../testdata/pods.list.json");
pub(super) const WATCH: &str = include_str!("../testdata/pods.watch.jsonl");
pub(super) const OWNERS: &str = include_str!("../testdata/owners.jsonl");

pub(super) fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

struct Recorded {
    line: &'static str,
    version: u64,
    kind: String,
    uid: String,
    object: Value,
}

static EVENTS: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
    let recorded = WATCH.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let object = event["object"].take();
        let meta = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let (version, uid) = (meta("resourceVersion").parse().unwrap(), meta("uid").to_owned());
        Recorded { line, version, kind: event["type"].as_str().unwrap().to_owned(), uid, object }
    });
    recorded.collect()
});

/// The truth: the pods by uid, after all that has happened up to a version.
pub(super) fn pods_at(version: u64) -> BTreeMap<&'static str, &'static Value> {
    let mut pods = BTreeMap::new();
    for event in EVENTS.iter().take_while(|event| event.version <= version) {
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => _ = pods.insert(event.uid.as_str(), &event.object),
            "DELETED" => _ = pods.remove(event.uid.as_str()),
            _ => {}
        }
    }
    pods
}

/// All container ids that a pod's status names.
pub(super) fn container_ids(pod: &Value) -> BTreeSet<String> {
    let kinds = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    let statuses = kinds.iter().filter_map(|kind| pod["status"][kind].as_array()).flatten();
    let ids = statuses
        .flat_map(|status| [&status["containerID"], &status["lastState"]["terminated"]["containerID"]]);
    ids.filter_map(Value::as_str).map(|id| id.split_once("://").unwrap().1.to_owned()).collect()
}

/// The lines of a watch between two versions.
pub(super) fn script(from: u64, to: u64, fault: Option<&Fault>) -> Vec<&'static str> {
    let events: Vec<_> = EVENTS
        .iter()
        .filter(|event| (from + 1..=to).contains(&event.version))
        .map(|event| event.line)
        .collect();
    match fault {
        Some(Fault::Echo) => {
            let before = std::iter::once(None).chain(events.iter().map(Some));
            let thrice =
                events.iter().zip(before).flat_map(|(line, before)| [Some(line), before, Some(line)]);
            thrice.flatten().copied().collect()
        }
        Some(Fault::Swap) => events.chunks(2).flat_map(|pair| pair.iter().rev().copied()).collect(),
        _ => events,
    }
}
