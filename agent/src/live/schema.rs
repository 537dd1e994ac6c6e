//! What the lines of a stream look like, as JSON Schema. Made of the same table as the filter language.

use agent_ebpf::contract::event::EventKind;
use serde_json::{Map, Value, json};

use crate::{
    filter::{FIELDS, Field, Type},
    identity::Labels,
};

/// What the id of an event looks like.
pub(super) const ID: &str = "^[0-9a-f]+-[0-9]+$";

/// The schema of a line of `/v1/events`.
pub fn schema() -> Value {
    let events = EventKind::ALL.map(|kind| event(kind, true));
    let notices = [
        ("notice.lost", "events of a sensor that found no room in the kernel's ring"),
        ("notice.throttled", "events of a sensor that exceeded their container's share"),
        ("notice.lagged", "events that this reader was too slow for"),
        ("notice.gap", "events from before the reader came back that are not kept"),
        ("notice.unwatched", "the system calls that this reader asks for can't be watched"),
        ("notice.heartbeat", "nothing has happened for a while"),
        ("notice.end", "the agent stops"),
    ]
    .map(|(kind, what)| notice(kind, what));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of /v1/events",
        "oneOf": events.into_iter().chain(notices).collect::<Vec<_>>(),
    })
}

/// The schema of a death in `/v1/containers`: an event that has no place in a stream.
pub fn deaths() -> Value {
    let kinds = [EventKind::OomKill, EventKind::ProcessExit].map(|kind| event(kind, false));
    json!({"title": "A death in /v1/containers", "oneOf": kinds})
}

fn event(kind: EventKind, has_id: bool) -> Value {
    let mut properties = Map::new();
    properties.insert("time".into(), json!({"type": "string", "format": "date-time"}));
    if has_id {
        properties.insert("id".into(), json!({"type": "string", "pattern": ID}));
    }
    // `peer` is for filters only: it is made of the two others.
    for field in FIELDS.iter().filter(|field| field.is_of(kind) && field.name != "peer") {
        properties.insert(field.name.into(), property(field));
    }
    if matches!(kind, EventKind::SyscallSlow | EventKind::SyscallFailed | EventKind::SyscallCall) {
        properties.insert("arguments".into(), arguments());
    }
    properties.insert("kind".into(), json!({"const": kind.name()}));
    let id = has_id.then_some("id");
    let required: Vec<_> = ["time"].into_iter().chain(id).chain(["kind"]).chain(Labels::NAMES).collect();
    json!({
        "title": kind.name(),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Of a system call, by the names of its manual page. No filter looks at them.
fn arguments() -> Value {
    json!({
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "description": "arguments of the system call",
    })
}

fn property(field: &Field) -> Value {
    let mut property = match field.kind {
        Type::Text | Type::Kind | Type::Syscall => json!({"type": "string"}),
        // Errors that have no name are numbers.
        Type::Errno => json!({"type": "string", "pattern": "^(E[A-Z0-9_]+|[0-9]+)$"}),
        Type::Number | Type::Signal => json!({"type": "integer"}),
        Type::Bytes => json!({"type": "integer", "minimum": 0}),
        Type::Duration => json!({"type": "number", "minimum": 0, "description": "seconds"}),
        Type::Address => json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
        Type::Flag => json!({"type": "boolean"}),
    };
    if property.get("description").is_none() {
        property["description"] = field.doc.into();
    }
    property
}

fn notice(kind: &str, what: &str) -> Value {
    json!({
        "title": kind,
        "description": what,
        "type": "object",
        "properties": {
            "time": {"type": "string", "format": "date-time"},
            "kind": {"const": kind},
            "sensor": {"type": "string"},
            "lost": {"type": "integer", "minimum": 0},
            "throttled": {"type": "integer", "minimum": 0},
            "message": {"type": "string"},
        },
        "required": ["time", "kind"],
        "additionalProperties": false,
    })
}
