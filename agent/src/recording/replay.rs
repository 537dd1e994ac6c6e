//! `podwitness replay`: what would be sent of a recording, as lines of JSON.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    logs::v1::LogRecord,
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{Damage, FORMAT, Head, details::Containers, parse::seen};
use crate::{
    config::Config,
    otlp::{Assembler, Host, Item, Seed, Telemetry},
};

/// Why a recording can't be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    #[error("cannot read {path}")]
    Read { path: String, source: io::Error },
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    #[error("it is no recording of podwitness: its first line isn't one's")]
    Head,
    #[error(
        "the recording has format {0}, and this version reads {FORMAT}: replay it with the version that wrote it"
    )]
    Format(u32),
    #[error("line {line} is no JSON")]
    Json { line: usize, source: serde_json::Error },
    #[error("line {line} can't be read: {damage}")]
    Damaged { line: usize, damage: Damage },
}

/// Writes the spans and logs that come of the recording, in their order.
pub fn run(path: &Path, config: &Config, mut out: impl Write) -> Result<(), ReplayError> {
    let unreadable = |source| ReplayError::Read { path: path.display().to_string(), source };
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?).lines();
    let first = lines.next().ok_or(ReplayError::Head)?.map_err(unreadable)?;
    let head: Head = serde_json::from_str(&first).map_err(|_| ReplayError::Head)?;
    if head.format != FORMAT {
        return Err(ReplayError::Format(head.format));
    }
    let host = Host { name: head.host, node: head.node, ..Host::default() };
    let seed = Seed::of_boot(&head.boot_id);
    let (limit, mut containers) = (config.limits.containers, Containers::default());
    let mut assembler = Assembler::new(&config.otlp, limit, seed, host, Arc::default());
    for (number, line) in lines.enumerate().map(|(number, line)| (number + 2, line)) {
        let text = line.map_err(unreadable)?;
        let value: Value =
            serde_json::from_str(&text).map_err(|source| ReplayError::Json { line: number, source })?;
        let seen =
            seen(&value, &mut containers).map_err(|damage| ReplayError::Damaged { line: number, damage })?;
        let mut telemetry = Telemetry::default();
        assembler.take(&seen, &mut telemetry);
        for Item { resource, data } in telemetry.logs {
            writeln!(out, "{}", of_log(&decoded(resource), &decoded(data))).map_err(ReplayError::Write)?;
        }
        for Item { resource, data } in telemetry.spans {
            writeln!(out, "{}", of_span(&decoded(resource), &decoded(data))).map_err(ReplayError::Write)?;
        }
    }
    Ok(())
}

/// What was encoded here.
fn decoded<T: Message + Default>(bytes: Bytes) -> T {
    T::decode(bytes).unwrap_or_default()
}

fn of_span(resource: &Resource, data: &Span) -> Value {
    let events = data.events.iter().map(|event| {
        json!({ "name": event.name, "time": event.time_unix_nano, "attributes": attributes(&event.attributes) })
    });
    let status = data.status.clone().unwrap_or_default();
    json!({
        "span": data.name,
        "kind": SpanKind::try_from(data.kind).map_or("", |kind| kind.as_str_name()),
        "trace_id": hex(&data.trace_id),
        "span_id": hex(&data.span_id),
        "parent_span_id": hex(&data.parent_span_id),
        "trace_state": data.trace_state,
        "start": data.start_time_unix_nano,
        "end": data.end_time_unix_nano,
        "status": StatusCode::try_from(status.code).map_or("", |code| code.as_str_name()),
        "message": status.message,
        "attributes": attributes(&data.attributes),
        "events": events.collect::<Vec<_>>(),
        "links": data.links.iter().map(|link| hex(&link.span_id)).collect::<Vec<_>>(),
        "resource": attributes(&resource.attributes),
    })
}

fn of_log(resource: &Resource, data: &LogRecord) -> Value {
    json!({
        "log": data.event_name,
        "time": data.time_unix_nano,
        "severity": data.severity_text,
        "body": data.body.as_ref().map(value),
        "trace_id": hex(&data.trace_id),
        "span_id": hex(&data.span_id),
        "attributes": attributes(&data.attributes),
        "resource": attributes(&resource.attributes),
    })
}

fn attributes(pairs: &[KeyValue]) -> Map<String, Value> {
    pairs.iter().map(|pair| (pair.key.clone(), pair.value.as_ref().map_or(Value::Null, value))).collect()
}

fn value(value: &AnyValue) -> Value {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(flag)) => json!(flag),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        _ => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
