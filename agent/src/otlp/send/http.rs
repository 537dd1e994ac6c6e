//! OTLP over HTTP, as protobuf.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use prost::Message as _;

use super::{
    Outcome, SendError, Target,
    answer::{Answer, RpcStatus, printable, taken},
    chain,
    connect::{Client, Connector},
    is_unsent,
};
use crate::config::Compression;

/// The most that is read of an answer.
const ANSWER_MAX: usize = 64 << 10;
const PROTOBUF: &str = "application/x-protobuf";

#[derive(Debug)]
pub(super) struct Http {
    client: Client<Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl Http {
    pub(super) fn new(target: &Target) -> Result<Self, SendError> {
        let (uri, headers) = (target.uri.clone(), target.headers.clone());
        let client = Connector::new(target, false)?.client();
        Ok(Self { client, uri, headers, compression: target.compression })
    }

    pub(super) async fn send(&self, request: Bytes) -> Outcome {
        let (body, encoding) = match self.compression {
            Compression::None => (request, None),
            Compression::Gzip => (gzip(&request), Some("gzip")),
            Compression::Zstd => (zstd(&request), Some("zstd")),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, super::super::settings::USER_AGENT);
        headers.extend(self.headers.clone());
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(PROTOBUF));
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static(encoding));
        }
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) if is_unsent(&error) => return Outcome::Later { wait: None, why: chain(&error) },
            Err(error) => return Outcome::Unanswered { why: chain(&error) },
        };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        meaning(head.status, &head.headers, body.map(Collected::to_bytes).as_deref().ok())
    }
}

/// What an answer means; `body` is none if it broke off, or was too long.
fn meaning(status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) -> Outcome {
    if status.is_success() {
        // A collector that says yes has taken it, whatever it says else.
        let answer = body.and_then(|body| Answer::decode(body).ok());
        return taken(answer.unwrap_or_default());
    }
    let message = body.and_then(|body| RpcStatus::decode(body).ok()).map(|status| status.message);
    let why = format!("{status} {}", printable(&message.unwrap_or_default())).trim_end().to_owned();
    match status.as_u16() {
        429 | 502 | 503 | 504 => Outcome::Later { wait: retry_after(headers), why },
        _ => Outcome::Refused { why },
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(time.duration_since(jiff::Timestamp::now())).unwrap_or(Duration::ZERO))
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Level::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    // Nothing can fail that only writes to memory.
    written.unwrap_or_default().into()
}

fn zstd(bytes: &[u8]) -> Bytes {
    // As over gRPC. All of it is at hand, and only then the compressor makes its tables no larger than they have to be.
    let written = zstd::bulk::compress(bytes, zstd::DEFAULT_COMPRESSION_LEVEL);
    // Nothing can fail that has as much room as it asked for.
    written.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_repeated_is() {
        for code in [200, 202, 301, 400, 401, 404, 413, 429, 500, 501, 502, 503, 504] {
            let outcome = meaning(StatusCode::from_u16(code).unwrap(), &HeaderMap::new(), Some(b""));
            let expected = match code {
                200 | 202 => matches!(outcome, Outcome::Taken { rejected: 0, .. }),
                429 | 502 | 503 | 504 => matches!(outcome, Outcome::Later { wait: None, .. }),
                _ => matches!(outcome, Outcome::Refused { .. }),
            };
            assert!(expected, "{code}: {outcome:?}");
        }
    }

    #[test]
    fn a_collector_says_when_to_come_again() {
        let after = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(after("Mon, 21 Oct 2115 07:28:00 GMT") > Some(Duration::from_secs(1 << 30)));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn partial_success_and_garbage_are_told_apart() {
        // partial_success (1) with rejected (1) = 3 and a message (2).
        let partial = b"\x0a\x07\x08\x03\x12\x03no\x1b";
        let outcome = meaning(StatusCode::OK, &HeaderMap::new(), Some(partial));
        let Outcome::Taken { rejected: 3, message } = outcome else { panic!("{outcome:?}") };
        assert_eq!(message, "no");
        for body in [Some(b"<html>".as_slice()), None] {
            let outcome = meaning(StatusCode::OK, &HeaderMap::new(), body);
            assert!(matches!(outcome, Outcome::Taken { rejected: 0, .. }), "{outcome:?}");
        }
    }
}
