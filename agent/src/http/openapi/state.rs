//! What `/v1/containers` and `/v1/status` tell. A test on the live kernel compares it with what they do.

use serde_json::{Map, Value, json};

use crate::identity::Labels;

/// An object that has all of these and nothing else.
fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    let required = properties.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let required = json!(required);
    let properties: Map<_, _> = properties.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn by_name(of: Value) -> Value {
    json!({"type": "object", "additionalProperties": of})
}

fn many(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// What only grows.
fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

pub(super) fn containers() -> Value {
    let figures = object([
        ("syscalls", count()),
        ("syscall_errors", count()),
        ("io_uring", count()),
        ("tcp_connects", count()),
        ("tcp_connect_failures", count()),
        ("tcp_accepts", count()),
        ("tcp_closes", count()),
        ("tcp_sent_bytes", count()),
        ("tcp_received_bytes", count()),
        ("tcp_retransmits", count()),
        ("tcp_rtt", object([("seconds", json!({"type": "number", "minimum": 0})), ("count", count())])),
        ("processes_started", count()),
        ("process_exits", by_name(count())),
        ("oom_kills", count()),
        ("throttled", count()),
    ]);
    let mut container = object([
        ("alive", json!({"type": "boolean"})),
        ("cgroups", object([("alive", count()), ("dead", count())])),
        ("figures", figures),
        ("calls", by_name(count())),
        ("deaths", many(super::named("Death"))),
    ]);
    for name in Labels::NAMES {
        container["properties"][name] = text();
        if let Some(required) = container["required"].as_array_mut() {
            required.push(name.into());
        }
    }
    // Absent where no source of names tells it.
    container["properties"]["restart_count"] = count();
    // Absent where the memory controller's files can't be read.
    container["properties"]["memory"] = memory();
    object([("time", time()), ("containers", many(container))])
}

/// Without a limit there is neither that nor room below it.
fn memory() -> Value {
    let mut memory = object([("usage_bytes", count()), ("working_set_bytes", count())]);
    for name in ["limit_bytes", "headroom_bytes"] {
        memory["properties"][name] = count();
    }
    memory
}

pub(super) fn status() -> Value {
    let sensor = object([
        ("state", json!({"type": "string", "enum": ["active", "degraded", "unsupported", "disabled"]})),
        ("reason", text()),
        ("hooks", many(text())),
        ("lost", count()),
        ("throttled", count()),
        ("untracked", count()),
    ]);
    let source = object([("state", text()), ("failures", count())]);
    object([
        ("time", time()),
        ("version", text()),
        ("started", time()),
        ("node", text()),
        ("sensors", by_name(sensor)),
        ("sources", by_name(source)),
        ("cgroups", object([("alive", count()), ("dead", count()), ("pending", count())])),
        ("events", object([("delivered", count()), ("undecodable", count())])),
        (
            "live",
            object([
                ("readers", count()),
                ("sent", count()),
                ("lost", count()),
                ("refused", count()),
                ("kept", count()),
                ("deaths_dropped", count()),
            ]),
        ),
        ("memory", object([("kernel_bytes", count()), ("heap_bytes", count())])),
        ("limits", by_name(json!({"type": "number"}))),
    ])
}
