//! OTLP over gRPC.

use bytes::{BufMut as _, Bytes};
use http::{HeaderMap, uri::PathAndQuery};
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    client::Grpc as Service,
    codec::{Codec, CompressionEncoding, EncodeBuf, Encoder},
    metadata::MetadataMap,
};
use tonic_prost::ProstDecoder;

use super::{
    Client, Outcome, SendError, Target,
    answer::{Answer, RpcStatus, printable, taken},
    chain, client, is_unsent,
};
use crate::config::Compression;

/// The most that is read of an answer.
const ANSWER_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Grpc {
    service: Service<Client<tonic::body::Body>>,
    method: PathAndQuery,
    headers: HeaderMap,
}

impl Grpc {
    pub(super) fn new(target: &Target) -> Result<Self, SendError> {
        let service = Service::with_origin(client(target, true)?, target.uri.clone());
        let service = service.max_decoding_message_size(ANSWER_MAX);
        let service = match target.compression {
            Compression::None => service,
            Compression::Gzip => service.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => service.send_compressed(CompressionEncoding::Zstd),
        };
        let method = PathAndQuery::from_static(target.signal.method());
        let mut headers = target.headers.clone();
        headers.insert(http::header::USER_AGENT, super::super::settings::USER_AGENT);
        Ok(Self { service, method, headers })
    }

    pub(super) async fn send(&self, request: Bytes) -> Outcome {
        let mut service = self.service.clone();
        if let Err(error) = service.ready().await {
            return Outcome::Later { wait: None, why: chain(&error) };
        }
        let mut request = Request::new(request);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        match service.unary(request, self.method.clone(), Encoded).await {
            Ok(answer) => taken(answer.into_inner()),
            Err(status) => meaning(&status),
        }
    }
}

/// What a failure means.
fn meaning(status: &Status) -> Outcome {
    let why = format!("{}: {}", status.code(), printable(status.message()));
    // A status with a source was made here, because the connection failed; others are the collector's.
    if let Some(source) = std::error::Error::source(status) {
        let why = format!("{}: {}", status.code(), chain(source));
        return match is_unsent(source) {
            true => Outcome::Later { wait: None, why },
            false => Outcome::Unanswered { why },
        };
    }
    let wait = RpcStatus::decode(status.details()).ok().and_then(|status| status.retry_after());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Outcome::Later { wait, why },
        Code::ResourceExhausted if wait.is_some() => Outcome::Later { wait, why },
        _ => Outcome::Refused { why },
    }
}

/// Requests come encoded.
#[derive(Clone, Copy, Debug)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Answer;
    type Encoder = Self;
    type Decoder = ProstDecoder<Answer>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_repeated_is() {
        let later = [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ];
        for code in (1..17).map(Code::from_i32) {
            let outcome = meaning(&Status::new(code, "no"));
            let is_later = matches!(outcome, Outcome::Later { .. });
            assert_eq!(is_later, later.contains(&code), "{code:?}: {outcome:?}");
        }
    }

    #[test]
    fn an_exhausted_collector_is_asked_again_when_it_says_when() {
        // google.rpc.Status with one detail: RetryInfo of 3.5 seconds.
        let mut delay = vec![0x0a, 0x07, 0x08, 3, 0x10];
        prost::encoding::encode_varint(500_000_000, &mut delay);
        delay[1] = (delay.len() - 2) as u8;
        let url = b"type.googleapis.com/google.rpc.RetryInfo";
        let mut detail = vec![0x0a, url.len() as u8];
        detail.extend(url);
        detail.extend([0x12, delay.len() as u8]);
        detail.extend(delay);
        let mut details = vec![0x1a, detail.len() as u8];
        details.extend(detail);
        let status = Status::with_details(Code::ResourceExhausted, "busy", details.into());
        let outcome = meaning(&status);
        let Outcome::Later { wait: Some(wait), .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(wait.as_millis(), 3500);
    }
}
