//! Requests out of items: those of one resource stand together.

use std::{collections::HashMap, hash::BuildHasherDefault};

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use prost::Message;

use super::assemble::Item;
use crate::mixer::Mixer;

/// The semantic conventions that the names of attributes follow.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

/// `ExportTraceServiceRequest`, `ExportLogsServiceRequest` or `ExportMetricsServiceRequest`: their fields have the same
/// numbers. Items are encoded when they are made, because a message that waits takes a fifth of the memory then; on the
/// wire, messages and texts are bytes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

/// `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`
#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(bytes = "bytes", tag = "1")]
    resource: Bytes,
    /// One of them.
    #[prost(message, optional, tag = "2")]
    scope: Option<OfScope>,
    #[prost(bytes = "bytes", tag = "3")]
    schema_url: Bytes,
}

/// `ScopeSpans`, `ScopeLogs` or `ScopeMetrics`
#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(bytes = "bytes", tag = "1")]
    scope: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    items: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    schema_url: Bytes,
}

/// A request with all of them.
pub(super) fn request(items: Vec<Item>) -> Bytes {
    of_groups(grouped(items))
}

/// The same of items that stand together.
pub(super) fn of_groups(groups: impl IntoIterator<Item = (Bytes, Vec<Bytes>)>) -> Bytes {
    let (scope, schema_url) = (scope(), Bytes::from_static(SCHEMA.as_bytes()));
    let resources = groups.into_iter().map(|(resource, items)| OfResource {
        resource,
        scope: Some(OfScope { scope: scope.clone(), items, schema_url: schema_url.clone() }),
        schema_url: schema_url.clone(),
    });
    Request { resources: resources.collect() }.encode_to_vec().into()
}

fn scope() -> Bytes {
    let scope = InstrumentationScope {
        name: "podwitness".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    scope.encode_to_vec().into()
}

/// In the order in which the resources come.
fn grouped(items: Vec<Item>) -> Vec<(Bytes, Vec<Bytes>)> {
    let mut groups: Vec<(Bytes, Vec<Bytes>)> = Vec::new();
    let mut places: HashMap<_, usize, BuildHasherDefault<Mixer>> = HashMap::default();
    for Item { resource, data } in items {
        // What is shared has one place in memory.
        let place = *places.entry(resource.as_ptr().addr()).or_insert_with(|| {
            groups.push((resource, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(data);
    }
    groups
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

    use super::*;

    fn encoded(message: &impl Message) -> Bytes {
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
        let request = request(vec![item(&first, "a"), item(&second, "b"), item(&first, "c")]);
        let request = ExportTraceServiceRequest::decode(request).unwrap();
        let names = |at: usize| {
            let scoped = &request.resource_spans[at].scope_spans[0];
            assert_eq!(scoped.scope, InstrumentationScope::decode(scope()).ok());
            scoped.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((names(0), names(1), request.resource_spans.len()), (vec!["a", "c"], vec!["b"], 2));
        assert_eq!(request.resource_spans[1].resource.as_ref(), Some(&two));
        assert_eq!(request.resource_spans[0].schema_url, SCHEMA);

        let record = LogRecord { event_name: "x".into(), ..LogRecord::default() };
        let request = of_groups([(first.clone(), vec![encoded(&record)])]);
        let request = ExportLogsServiceRequest::decode(request).unwrap();
        assert_eq!(request.resource_logs[0].scope_logs[0].log_records, [record]);
        let metric = Metric { name: "x".into(), ..Metric::default() };
        let request = of_groups([(first, vec![encoded(&metric)])]);
        let request = ExportMetricsServiceRequest::decode(request).unwrap();
        assert_eq!(request.resource_metrics[0].scope_metrics[0].metrics, [metric]);
    }
}
