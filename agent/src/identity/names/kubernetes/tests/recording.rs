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

pub(super) const PODS: &str = "/api/v1/pods";
pub(in super::super) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub(in super::super) const SERVICES: &str = "/api/v1/services";
pub(in super::super) const NODES: &str = "/api/v1/nodes";
/// By path: a list, and a watch from before most of what is in it.
const RECORDINGS: [(&str, &str, &str); 4] = [
    (PODS, LIST, WATCH),
    (
        SLICES,
        include_str!("../testdata/endpointslices.list.json"),
        include_str!("../testdata/endpointslices.watch.jsonl"),
    ),
    (
        SERVICES,
        include_str!("../testdata/services.list.json"),
        include_str!("../testdata/services.watch.jsonl"),
    ),
    (NODES, include_str!("../testdata/nodes.list.json"), ""),
];

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

/// One kind of object.
struct Kind {
    path: &'static str,
    /// What was there before the watch began.
    before: BTreeMap<String, Value>,
    events: Vec<Recorded>,
}

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| RECORDINGS.map(kind).into());

fn kind((path, list, watch): (&'static str, &'static str, &'static str)) -> Kind {
    let recorded = watch.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let object = event["object"].take();
        let meta = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let (version, uid) = (meta("resourceVersion").parse().unwrap(), meta("uid").to_owned());
        Recorded { line, version, kind: event["type"].as_str().unwrap().to_owned(), uid, object }
    });
    let events: Vec<_> = recorded.collect();
    let mut list: Value = serde_json::from_str(list).unwrap();
    let items = list["items"].as_array_mut().unwrap().drain(..);
    let listed = items.map(|item| (item["metadata"]["uid"].as_str().unwrap().to_owned(), item));
    let before = listed.filter(|(uid, _)| events.iter().all(|event| event.uid != *uid)).collect();
    Kind { path, before, events }
}

/// The recording of the objects that are at the path.
fn recording(path: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.path == path).unwrap()
}

/// Whether there are such objects.
pub(super) fn is_recorded(path: &str) -> bool {
    KINDS.iter().any(|kind| kind.path == path)
}

/// The truth: the objects by uid, after all that has happened up to a version.
pub(in super::super) fn objects_at(path: &str, version: u64) -> BTreeMap<&'static str, &'static Value> {
    let Kind { before, events, .. } = recording(path);
    let mut objects: BTreeMap<_, _> = before.iter().map(|(uid, object)| (uid.as_str(), object)).collect();
    for event in events.iter().take_while(|event| event.version <= version) {
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => _ = objects.insert(event.uid.as_str(), &event.object),
            "DELETED" => _ = objects.remove(event.uid.as_str()),
            _ => {}
        }
    }
    objects
}

pub(super) fn pods_at(version: u64) -> BTreeMap<&'static str, &'static Value> {
    objects_at(PODS, version)
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
pub(super) fn script(path: &str, from: u64, to: u64, fault: Option<&Fault>) -> Vec<&'static str> {
    let events: Vec<_> = recording(path)
        .events
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
