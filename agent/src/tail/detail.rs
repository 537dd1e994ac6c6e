//! What is particular to an event, in words.

use serde_json::Value;

use crate::{filter::signal_name, harmless::Harmless};

/// What other columns show.
const SHOWN: [&str; 12] = [
    "time",
    "kind",
    "id",
    "namespace",
    "workload_kind",
    "workload",
    "pod",
    "container",
    "pid",
    "tid",
    "comm",
    "netns",
];

pub(crate) fn detail(event: &Value, is_wide: bool) -> String {
    let told = match event["kind"].as_str().unwrap_or_default() {
        "tcp.connect" | "tcp.close" => tcp(event, "→"),
        "tcp.accept" => tcp(event, "←"),
        "oom.kill" => oom(event),
        "process.exec" => text(event, "executable"),
        "process.exit" => exit(event),
        "syscall.slow" | "syscall.failed" | "syscall.call" => call(event),
        "cgroup.mkdir" | "cgroup.rmdir" => text(event, "cgroup"),
        // Kinds of an agent that is newer, or that need no words of their own.
        _ => return fields(event, &SHOWN),
    };
    if is_wide { format!("{told}  {}", fields(event, &SHOWN[..8])) } else { told }
}

fn tcp(event: &Value, arrow: &str) -> String {
    let mut parts = vec![format!("{arrow} {}", end(event, "remote_address", "remote_port"))];
    let peer = [text(event, "peer_namespace"), text(event, "peer_workload")];
    let peer: Vec<_> = peer.into_iter().filter(|part| !part.is_empty()).collect();
    if !peer.is_empty() {
        parts.push(format!("({})", peer.join("/")));
    }
    let reason = text(event, "reason");
    let errno = text(event, "errno");
    if !reason.is_empty() {
        parts.push(reason);
    }
    if !errno.is_empty() {
        parts.push(errno);
    }
    if let Some(seconds) = event["duration"].as_f64() {
        parts.push(duration(seconds));
    }
    if let Some(sent) = event["sent_bytes"].as_u64() {
        let received = event["received_bytes"].as_u64().unwrap_or(0);
        parts.push(format!("sent {}, received {}", bytes(sent), bytes(received)));
    }
    if let Some(count) = event["retransmits"].as_u64().filter(|count| *count > 0) {
        parts.push(format!("{count} retransmits"));
    }
    if let Some(seconds) = event["rtt"].as_f64() {
        parts.push(format!("rtt {}", duration(seconds)));
    }
    parts.join(" ")
}

fn end(event: &Value, address: &str, port: &str) -> String {
    let address = text(event, address);
    let port = event[port].as_u64().unwrap_or(0);
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn oom(event: &Value) -> String {
    let size = |name: &str| bytes(event[name].as_u64().unwrap_or(0));
    format!(
        "killed: memory of the {} was short; anon {}, file {}, shmem {}; asked by {}[{}]",
        text(event, "scope"),
        size("anon_rss_bytes"),
        size("file_rss_bytes"),
        size("shmem_rss_bytes"),
        text(event, "trigger_comm"),
        event["trigger_pid"].as_u64().unwrap_or(0),
    )
}

fn exit(event: &Value) -> String {
    let mut parts = vec![text(event, "reason")];
    if let Some(code) = event["exit_code"].as_u64().filter(|code| *code != 0) {
        parts.push(format!("code {code}"));
    }
    if let Some(signal) = event["signal"].as_i64() {
        let name = i32::try_from(signal).ok().and_then(signal_name);
        parts.push(name.map_or_else(|| format!("signal {signal}"), str::to_owned));
    }
    if event["core_dumped"] == true {
        parts.push("core dumped".into());
    }
    if let Some(seconds) = event["duration"].as_f64() {
        parts.push(format!("after {}", duration(seconds)));
    }
    parts.join(" ")
}

/// As strace writes it.
fn call(event: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => Harmless(text).to_string(),
        value => Harmless(&value.to_string()).to_string(),
    };
    let arguments = event["arguments"].as_object().into_iter().flatten();
    let arguments: Vec<_> =
        arguments.map(|(name, value)| format!("{}={}", Harmless(name), shown(value))).collect();
    let mut parts = vec![format!("{}({})", text(event, "syscall"), arguments.join(", "))];
    let outcome = match &event["result"] {
        Value::Number(result) => result.to_string(),
        _ => text(event, "errno"),
    };
    if !outcome.is_empty() {
        parts.push(format!("= {outcome}"));
    }
    parts.extend(
        ["file", "protocol"].map(|name| text(event, name)).into_iter().filter(|text| !text.is_empty()),
    );
    if event["remote_address"].is_string() {
        parts.push(end(event, "remote_address", "remote_port"));
    }
    parts.extend(event["duration"].as_f64().map(duration));
    parts.join(" ")
}

/// Everything that isn't in `shown`.
fn fields(event: &Value, shown: &[&str]) -> String {
    let Some(fields) = event.as_object() else { return String::new() };
    let fields = fields.iter().filter(|(name, _)| !shown.contains(&name.as_str()));
    let told = fields.map(|(name, value)| match value {
        Value::String(text) => format!("{}={}", Harmless(name), Harmless(text)),
        value => format!("{}={}", Harmless(name), Harmless(&value.to_string())),
    });
    told.collect::<Vec<_>>().join(" ")
}

fn text(event: &Value, name: &str) -> String {
    Harmless(event[name].as_str().unwrap_or_default()).to_string()
}

pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1e-3 => format!("{:.0}µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.1}ms", seconds * 1e3),
        _ if seconds < 120.0 => format!("{seconds:.1}s"),
        _ if seconds < 7200.0 => format!("{:.0}m", seconds / 60.0),
        _ => format!("{:.1}h", seconds / 3600.0),
    }
}

pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => format!("{:.1}{unit}", bytes as f64 / factor as f64),
        None => format!("{bytes}B"),
    }
}
