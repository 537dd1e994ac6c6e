//! OTLP over gRPC.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header::CONTENT_TYPE, uri::PathAndQuery};
use hyper::body::{Body, Frame, Incoming};
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    client::Grpc as Service,
    codec::{Codec, CompressionEncoding, EncodeBuf, Encoder},
    metadata::MetadataMap,
};
use tonic_prost::ProstDecoder;
use tower::{ServiceExt as _, util::MapResponse};

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

/// Answers that are too long are told apart from the collector's errors.
type Bounded = MapResponse<Client<tonic::body::Body>, fn(Response<Incoming>) -> Response<Begun<Incoming>>>;

#[derive(Debug)]
pub(super) struct Grpc {
    connector: Connector,
    origin: Uri,
    compression: Compression,
    service: Service<Bounded>,
    method: PathAndQuery,
    headers: HeaderMap,
}

impl Grpc {
    pub(super) fn new(target: &Target) -> Result<Self, SendError> {
        let connector = Connector::new(target, true)?;
        let (origin, compression) = (target.uri.clone(), target.compression);
        let service = service(&connector, &origin, compression);
        let method = PathAndQuery::from_static(target.signal.method());
        let mut headers = target.headers.clone();
        headers.insert(http::header::USER_AGENT, super::super::settings::USER_AGENT);
        Ok(Self { connector, origin, compression, service, method, headers })
    }

    /// The next request goes over another connection. Pings would tell, too, that one is dead; but servers take those
    /// that come more often than every five minutes for an attack, and hang up (`too_many_pings`).
    pub(super) fn leave_connection(&mut self) {
        self.service = service(&self.connector, &self.origin, self.compression);
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

fn service(connector: &Connector, origin: &Uri, compression: Compression) -> Service<Bounded> {
    let begun: fn(Response<Incoming>) -> _ = |answer| {
        let is_grpc = is_grpc(&answer);
        answer.map(|body| Begun::new(body, is_grpc))
    };
    let service = Service::with_origin(connector.client().map_response(begun), origin.clone());
    let service = service.max_decoding_message_size(ANSWER_MAX);
    match compression {
        Compression::None => service,
        Compression::Gzip => service.send_compressed(CompressionEncoding::Gzip),
        Compression::Zstd => service.send_compressed(CompressionEncoding::Zstd),
    }
}

/// Whether a collector has answered, not something on the way to it that has a page for whoever comes.
fn is_grpc<B>(answer: &Response<B>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    answer.status() == StatusCode::OK && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// An answer whose length is looked at before its message is read. tonic's own word for one that is too long is the same
/// as a collector's that wants the request once more.
#[derive(Debug)]
struct Begun<B> {
    body: B,
    is_grpc: bool,
    /// Whether it is compressed, and how long it is.
    head: Vec<u8>,
}

/// Bytes of a head.
const HEAD: usize = 5;

#[derive(Debug, thiserror::Error)]
#[error("the answer is too long")]
struct TooLong;

impl<B> Begun<B> {
    fn new(body: B, is_grpc: bool) -> Self {
        Self { body, is_grpc, head: Vec::with_capacity(HEAD) }
    }

    fn is_too_long(&mut self, data: &[u8]) -> bool {
        let lacking = HEAD - self.head.len();
        self.head.extend(data.iter().take(lacking));
        match *self.head {
            [0 | 1, a, b, c, d] => u32::from_be_bytes([a, b, c, d]) as usize > ANSWER_MAX,
            _ => false,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Begun<B>
where
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        // tonic takes any page for a message; without one, it goes by the status.
        if !self.is_grpc && frame.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data)) {
            return Poll::Ready(None);
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            let is_too_long = frame.data_ref().is_some_and(|data| self.is_too_long(data));
            if is_too_long { Err(TooLong.into()) } else { Ok(frame) }
        }))
    }
}

/// What a failure means.
fn meaning(status: &Status) -> Outcome {
    let why = format!("{}: {}", status.code(), printable(status.message()));
    // A status with a source was made here, because the connection failed; others are the collector's.
    if let Some(source) = status.source() {
        // Only a collector that has taken a request answers it with a message, whatever that says.
        if source.is::<TooLong>() {
            return taken(Answer::default());
        }
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
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::{server::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::{Config, Protocol},
        otlp::{figures::Signal, settings::target},
    };

    /// What becomes of a request that is answered so.
    async fn outcome(status: u16, kind: &'static str, body: &'static [u8]) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = move |_| async move {
                let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(body))).unwrap())
            };
            let server = http2::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), service_fn(answer)).await
        });
        let mut config = Config::default();
        config.otlp.endpoint = Some(format!("http://{address}"));
        config.otlp.protocol = Protocol::Grpc;
        let target = target(&config.otlp, Signal::Metrics).unwrap().unwrap();
        Grpc::new(&target).unwrap().send(Bytes::new()).await
    }

    #[tokio::test]
    async fn pages_of_proxies_are_no_answers() {
        for (status, kind, body) in [
            (503, "text/html", &b"<html>later</html>"[..]),
            (502, "text/plain", b"no healthy upstream"),
            (429, "text/plain", b"\0\0\0\0\0"),
        ] {
            let found = outcome(status, kind, body).await;
            assert!(matches!(found, Outcome::Later { .. }), "{status}: {found:?}");
        }
        for (status, kind, body) in [(404, "text/html", &b"<html>"[..]), (200, "text/html", b"<html>")] {
            let found = outcome(status, kind, body).await;
            assert!(matches!(found, Outcome::Refused { .. }), "{status}: {found:?}");
        }
        let long = outcome(200, "application/grpc", b"\0\0\x01\0\x01...").await;
        assert!(matches!(long, Outcome::Taken { .. }), "{long:?}");
    }

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

    #[test]
    fn only_a_collector_answers_at_length() {
        let answer = |status: u16, kind: &str| {
            is_grpc(&Response::builder().status(status).header(CONTENT_TYPE, kind).body(()).unwrap())
        };
        assert!(answer(200, "application/grpc") && answer(200, "application/grpc+proto"));
        assert!(!answer(200, "text/html") && !answer(503, "application/grpc"));
        assert!(!is_grpc(&Response::new(())));
        let is_too_long = |pieces: &[&[u8]]| {
            let mut begun = Begun::new((), true);
            pieces.iter().any(|piece| begun.is_too_long(piece))
        };
        assert!(is_too_long(&[&[0, 0, 1, 0, 1]]));
        assert!(is_too_long(&[&[1, 0], &[1, 0, 1, 7]]), "in pieces");
        assert!(!is_too_long(&[&[0, 0, 1, 0, 0, 7, 7]]));
        assert!(!is_too_long(&[b"<html>"]), "no message");
    }
}
