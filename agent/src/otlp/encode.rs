//! Requests out of items: those of one resource stand together.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::InstrumentationScope,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;

use super::assemble::Item;

/// The semantic conventions that the names of attributes follow.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.38.0";

/// What can be sent.
pub(super) trait Encode: Sized + Send + 'static {
    fn encode(items: Vec<Item<Self>>) -> Bytes;
}

impl Encode for Span {
    fn encode(items: Vec<Item<Self>>) -> Bytes {
        spans(items).encode_to_vec().into()
    }
}

impl Encode for LogRecord {
    fn encode(items: Vec<Item<Self>>) -> Bytes {
        logs(items).encode_to_vec().into()
    }
}

pub(super) fn spans(items: Vec<Item<Span>>) -> ExportTraceServiceRequest {
    let resource_spans = grouped(items).into_iter().map(|(resource, spans)| ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![ScopeSpans { scope: Some(scope()), spans, schema_url: SCHEMA.to_owned() }],
        schema_url: SCHEMA.to_owned(),
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

pub(super) fn logs(items: Vec<Item<LogRecord>>) -> ExportLogsServiceRequest {
    let resource_logs = grouped(items).into_iter().map(|(resource, log_records)| ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![ScopeLogs { scope: Some(scope()), log_records, schema_url: SCHEMA.to_owned() }],
        schema_url: SCHEMA.to_owned(),
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "podwitness".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// In the order in which the resources come.
fn grouped<T>(items: Vec<Item<T>>) -> Vec<(Resource, Vec<T>)> {
    let mut groups: Vec<(Arc<Resource>, Vec<T>)> = Vec::new();
    let mut places = HashMap::new();
    for Item { resource, data } in items {
        let place = *places.entry(Arc::as_ptr(&resource)).or_insert_with(|| {
            groups.push((resource, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(data);
    }
    groups.into_iter().map(|(resource, group)| (Arc::unwrap_or_clone(resource), group)).collect()
}
