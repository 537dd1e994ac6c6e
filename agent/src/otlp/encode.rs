//! Requests out of items: those of one resource stand together.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};
use prost::Message;

use super::assemble::Item;

/// The semantic conventions that the names of attributes follow.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

/// `ExportTraceServiceRequest` or `ExportLogsServiceRequest`: their fields have the same numbers. Spans and logs are
/// encoded when they are made, because a message that waits takes a fifth of the memory then.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

/// `ResourceSpans` or `ResourceLogs`
#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// `ScopeSpans` or `ScopeLogs`
#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    /// On the wire, a message is bytes.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    items: Vec<Bytes>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// The item as it waits.
pub(super) fn packed<T: Message>(item: &Item<T>) -> Item<Bytes> {
    Item { resource: Arc::clone(&item.resource), data: item.data.encode_to_vec().into() }
}

/// A request with all of them.
pub(super) fn request(items: Vec<Item<Bytes>>) -> Bytes {
    let resources = grouped(items).into_iter().map(|(resource, items)| OfResource {
        resource: Some(resource),
        scopes: vec![OfScope { scope: Some(scope()), items, schema_url: SCHEMA.to_owned() }],
        schema_url: SCHEMA.to_owned(),
    });
    Request { resources: resources.collect() }.encode_to_vec().into()
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

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
        logs::v1::LogRecord,
        trace::v1::Span,
    };

    use super::*;

    fn item<T>(resource: &Arc<Resource>, data: T) -> Item<T> {
        Item { resource: Arc::clone(resource), data }
    }

    #[test]
    fn requests_are_those_of_the_protocol() {
        let [one, two] = [1, 2].map(|dropped_attributes_count| {
            Arc::new(Resource { dropped_attributes_count, ..Resource::default() })
        });
        let span = |name: &str| Span { name: name.into(), ..Span::default() };
        let items = [item(&one, span("a")), item(&two, span("b")), item(&one, span("c"))];
        let request = request(items.iter().map(packed).collect());
        let request = ExportTraceServiceRequest::decode(request).unwrap();
        let names = |at: usize| {
            let scoped = &request.resource_spans[at].scope_spans[0];
            assert_eq!(scoped.scope, Some(scope()));
            scoped.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((names(0), names(1), request.resource_spans.len()), (vec!["a", "c"], vec!["b"], 2));
        assert_eq!(request.resource_spans[1].resource.as_ref(), Some(&*two));
        assert_eq!(request.resource_spans[0].schema_url, SCHEMA);

        let record = LogRecord { event_name: "x".into(), ..LogRecord::default() };
        let request = super::request(vec![packed(&item(&one, record.clone()))]);
        let request = ExportLogsServiceRequest::decode(request).unwrap();
        assert_eq!(request.resource_logs[0].scope_logs[0].log_records, [record]);
    }
}
