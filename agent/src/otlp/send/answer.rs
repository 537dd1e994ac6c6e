//! What collectors answer: the same fields for all signals.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use super::Outcome;

/// The answer of a collector that took a request. Logs, spans and metrics have the same fields in it.
pub(super) type Answer = ExportTraceServiceResponse;

pub(super) fn taken(answer: Answer) -> Outcome {
    let partial = answer.partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
    Outcome::Taken { rejected, message: printable(&partial.error_message) }
}

/// `google.rpc.Status`, which an answer with an error holds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Detail>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Detail {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    /// When the collector wants to be asked again, if it says so.
    pub(super) fn retry_after(&self) -> Option<std::time::Duration> {
        let is_retry = |detail: &&Detail| detail.type_url.ends_with("google.rpc.RetryInfo");
        let info = RetryInfo::decode(self.details.iter().find(is_retry)?.value.as_slice()).ok()?;
        let delay = info.retry_delay.unwrap_or_default();
        let seconds = u64::try_from(delay.seconds).unwrap_or(0);
        Some(std::time::Duration::new(seconds, u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999)))
    }
}

/// The collector's words for a log line.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
