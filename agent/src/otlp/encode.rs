//! Requests out of items: those of one resource stand together.

use std::{collections::HashMap, hash::BuildHasherDefault};

use bytes::Bytes;

use super::{
    assemble::Item,
    wire::{Message, Wire, append_varint, key, varint_len},
};
use crate::{mixer::Mixer, writer::Writer};

/// The semantic conventions that the names of attributes follow.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Fields of `ExportTraceServiceRequest`, `ExportLogsServiceRequest` or `ExportMetricsServiceRequest`, whose numbers are
/// the same (opentelemetry/proto/collector/*/v1/*_service.proto) …
const RESOURCES: u8 = 1;
/// … of `ResourceSpans`, `ResourceLogs` or `ResourceMetrics` …
const RESOURCE: u8 = 1;
const SCOPES: u8 = 2;
/// … of `ScopeSpans`, `ScopeLogs` or `ScopeMetrics` …
const SCOPE: u8 = 1;
const ITEMS: u8 = 2;
/// … of both …
const SCHEMA_URL: u8 = 3;
/// … and of `InstrumentationScope`.
const NAME: u8 = 1;
const VERSION: u8 = 2;

/// The items of one resource.
struct Group<'i> {
    resource: &'i Bytes,
    first: usize,
    last: usize,
    /// Bytes of all of them, as fields.
    length: usize,
}

/// A request with all of them, in the order in which their resources come, written into this memory. Items are encoded
/// already: a message that waits takes a fifth of the memory then.
pub(super) fn request(items: &[Item], memory: Vec<u8>) -> Bytes {
    let scope = Message::default().message(SCOPE, &scope()).finish();
    let schema_url = Message::default().text(SCHEMA_URL, SCHEMA).finish();
    let (groups, next) = grouped(items);
    let lengths = |group: &Group<'_>| {
        let of_scope = scope.len() + group.length + schema_url.len();
        let of_resource = field_length(group.resource.len()) + field_length(of_scope) + schema_url.len();
        (of_scope, of_resource)
    };
    let whole = groups.iter().map(|group| field_length(lengths(group).1)).sum();
    let mut request = Writer::written_in(memory, whole);
    for group in &groups {
        let (of_scope, of_resource) = lengths(group);
        begin(&mut request, RESOURCES, of_resource);
        field(&mut request, RESOURCE, group.resource);
        begin(&mut request, SCOPES, of_scope);
        request.bytes(&scope);
        let mut place = Some(group.first);
        while let Some(at) = place {
            field(&mut request, ITEMS, &items[at].data);
            place = (at != group.last).then(|| next[at]);
        }
        request.bytes(&schema_url);
        request.bytes(&schema_url);
    }
    request.into_bytes()
}

fn scope() -> Message {
    let mut scope = Message::default();
    scope.text(NAME, "podwitness").text(VERSION, env!("CARGO_PKG_VERSION"));
    scope
}

/// The groups, and behind each item the place of the next one in its group.
fn grouped(items: &[Item]) -> (Vec<Group<'_>>, Vec<usize>) {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut next = vec![0; items.len()];
    let mut places: HashMap<_, usize, BuildHasherDefault<Mixer>> = HashMap::default();
    for (at, Item { resource, data }) in items.iter().enumerate() {
        // What is shared has one place in memory.
        let place = *places.entry(resource.as_ptr().addr()).or_insert_with(|| {
            groups.push(Group { resource, first: at, last: at, length: 0 });
            groups.len() - 1
        });
        let group = &mut groups[place];
        next[group.last] = at;
        group.last = at;
        group.length += field_length(data.len());
    }
    (groups, next)
}

/// Bytes of a field whose content takes so many.
fn field_length(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

#[inline(always)]
fn field(into: &mut Writer, field: u8, content: &[u8]) {
    begin(into, field, content.len());
    into.bytes(content);
}

#[inline(always)]
fn begin(into: &mut Writer, field: u8, content: usize) {
    into.bytes(&[key(field, Wire::Length)]);
    append_varint(into, content as u64);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::{
            logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
            trace::v1::ExportTraceServiceRequest,
        },
        logs::v1::LogRecord,
        metrics::v1::Metric,
        resource::v1::Resource,
        trace::v1::Span,
    };

    use prost::Message as _;

    use super::*;

    fn encoded(message: &impl prost::Message) -> Bytes {
        message.encode_to_vec().into()
    }

    #[test]
    fn requests_are_those_of_the_protocol() {
        let [one, two] = [1, 2]
            .map(|dropped_attributes_count| Resource { dropped_attributes_count, ..Resource::default() });
        let (first, second) = (encoded(&one), encoded(&two));
        let item = |resource: &Bytes, name: &str| Item {
            resource: resource.clone(),
            data: encoded(&Span { name: name.into(), ..Span::default() }),
        };
        let items = [item(&first, "a"), item(&second, "b"), item(&first, "c"), item(&first, "d")];
        // In memory that was used before.
        let request = request(&items, vec![7; 100]);
        let request = ExportTraceServiceRequest::decode(request).unwrap();
        let names = |at: usize| {
            let scoped = &request.resource_spans[at].scope_spans[0];
            let scope = scoped.scope.as_ref().unwrap();
            assert_eq!((&*scope.name, &*scope.version), ("podwitness", env!("CARGO_PKG_VERSION")));
            assert_eq!(scoped.schema_url, SCHEMA);
            scoped.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((names(0), names(1), request.resource_spans.len()), (vec!["a", "c", "d"], vec!["b"], 2));
        assert_eq!(request.resource_spans[1].resource.as_ref(), Some(&two));
        assert_eq!(request.resource_spans[0].schema_url, SCHEMA);

        let of = |message: Vec<u8>| {
            super::request(&[Item { resource: first.clone(), data: message.into() }], Vec::new())
        };
        let record = LogRecord { event_name: "x".into(), ..LogRecord::default() };
        let request = ExportLogsServiceRequest::decode(of(record.encode_to_vec())).unwrap();
        assert_eq!(request.resource_logs[0].scope_logs[0].log_records, [record]);
        let metric = Metric { name: "x".into(), ..Metric::default() };
        let request = ExportMetricsServiceRequest::decode(of(metric.encode_to_vec())).unwrap();
        assert_eq!(request.resource_metrics[0].scope_metrics[0].metrics, [metric]);
    }
}
