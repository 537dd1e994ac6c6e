//! Requests to the API server, and what its answers mean.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    access::Access,
    error::{ApiError, Rule},
};

pub(super) const JSON: &str = "application/json";
/// Metadata only, by <https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches>.
pub(super) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
pub(super) const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// What is read of an answer that says no.
const LONGEST_REFUSAL: usize = 64 << 10;

/// The API server. Its credentials are read with the first request, and again when they are refused.
#[derive(Debug)]
pub(super) struct Api {
    access: Access,
    client: Mutex<Option<HiddenClient>>,
    /// For the head of an answer, and for the rest of one that isn't a watch.
    patience: Duration,
}

/// Holds credentials.
#[derive(Clone)]
struct HiddenClient(Client);

impl std::fmt::Debug for HiddenClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Api {
    pub(super) fn new(access: Access, patience: Duration) -> Self {
        Self { access, client: Mutex::new(None), patience }
    }

    /// A whole answer, at most `largest` bytes.
    pub(super) async fn get(
        &self,
        path: &str,
        accept: &'static str,
        rule: Rule,
        largest: usize,
    ) -> Result<Vec<u8>, ApiError> {
        let body = self.open(path, accept, rule).await?;
        timeout(self.patience, collect(body, largest)).await.map_err(|_| ApiError::Slow(self.patience))?
    }

    /// An answer that is read as it comes.
    pub(super) async fn open(&self, path: &str, accept: &'static str, rule: Rule) -> Result<Body, ApiError> {
        let (client, is_fresh) = self.client().await?;
        let result = self.ask(&client, path, accept, rule).await;
        match result {
            // The token in the file may be a newer one.
            Err(ApiError::Unauthorized) if !is_fresh => {
                self.forget_client();
                let (client, _) = self.client().await?;
                let result = self.ask(&client, path, accept, rule).await;
                if result.is_err() {
                    self.forget_client();
                }
                result
            }
            // As may the CA's certificate, or the address in a kubeconfig.
            Err(ApiError::Unauthorized | ApiError::Unreachable(_)) => {
                self.forget_client();
                result
            }
            _ => result,
        }
    }

    async fn ask(
        &self,
        client: &Client,
        path: &str,
        accept: &'static str,
        rule: Rule,
    ) -> Result<Body, ApiError> {
        let request = Request::get(path)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, concat!("podwitness/", env!("CARGO_PKG_VERSION")))
            .body(Body::empty())
            .map_err(|error| ApiError::Garbage(error.to_string()))?;
        let answer = timeout(self.patience, client.send(request)).await;
        let response = answer
            .map_err(|_| ApiError::Slow(self.patience))?
            .map_err(|error| ApiError::Unreachable(crate::causes::with_causes(&error)))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response.into_body());
        }
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(wait);
        let text = timeout(self.patience, collect(response.into_body(), LONGEST_REFUSAL)).await;
        let text = text.ok().and_then(Result::ok).unwrap_or_default();
        Err(refusal(status, &message(&text), retry_after, rule))
    }

    async fn client(&self) -> Result<(Client, bool), ApiError> {
        let kept = self.lock().clone();
        if let Some(HiddenClient(client)) = kept {
            return Ok((client, false));
        }
        let client = self.access.client().await?;
        *self.lock() = Some(HiddenClient(client.clone()));
        Ok((client, true))
    }

    fn forget_client(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HiddenClient>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a status means, be it an answer's or that of an ERROR event in a watch.
pub(super) fn refusal(
    status: StatusCode,
    message: &str,
    retry_after: Option<Duration>,
    rule: Rule,
) -> ApiError {
    // A server that is behind the version asked for answers 504 with this message (`NewTooLargeResourceVersionError`).
    let is_ahead = || message.contains("Too large resource version");
    match status {
        StatusCode::UNAUTHORIZED => ApiError::Unauthorized,
        StatusCode::FORBIDDEN => ApiError::Forbidden(rule),
        StatusCode::NOT_FOUND => ApiError::NotFound,
        StatusCode::GONE => ApiError::Expired,
        StatusCode::GATEWAY_TIMEOUT if is_ahead() => ApiError::Expired,
        StatusCode::TOO_MANY_REQUESTS => ApiError::Busy { status: status.as_u16(), retry_after },
        _ if status.is_server_error() && retry_after.is_some() => {
            ApiError::Busy { status: status.as_u16(), retry_after }
        }
        _ => ApiError::Refused { status: status.as_u16(), message: message.to_owned() },
    }
}

async fn collect(mut body: Body, largest: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::Broken(crate::causes::with_causes(&error)))?;
        let piece = frame.into_data().unwrap_or_default();
        if bytes.len() + piece.len() > largest {
            return Err(ApiError::TooLarge(largest));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// `Retry-After` in seconds; the API server doesn't send dates, a proxy may.
fn wait(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let date = SystemTime::from(date.timestamp());
    date.duration_since(SystemTime::now()).ok()
}

/// The message of a `Status`, else the beginning of the text.
fn message(text: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let message = serde_json::from_slice(text).map(|status: Status| status.message);
    let message = message.unwrap_or_else(|_| String::from_utf8_lossy(text).into_owned());
    message.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { group: "", resource: "pods", verb: "list" };

    #[test]
    fn a_refusal_says_what_to_do() {
        let error =
            |status| refusal(StatusCode::from_u16(status).unwrap(), "m", Some(Duration::from_secs(3)), RULE);
        let text = error(403).to_string();
        assert!(text.contains(r#"apiGroups: [""], resources: [pods], verbs: [list]"#), "{text}");
        assert!(error(401).to_string().contains("token"));
        assert!(matches!(error(410), ApiError::Expired));
        for status in [429, 500, 503] {
            assert_eq!(error(status).retry_after(), Some(Duration::from_secs(3)), "{status}");
        }
        let ahead = "Too large resource version: 9, current: 1";
        assert!(matches!(refusal(StatusCode::GATEWAY_TIMEOUT, ahead, None, RULE), ApiError::Expired));
        assert!(matches!(
            refusal(StatusCode::GATEWAY_TIMEOUT, "", None, RULE),
            ApiError::Refused { status: 504, .. }
        ));
    }

    #[test]
    fn waits_in_seconds_and_as_dates() {
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), None);
        assert!(wait("Fri, 31 Dec 2100 23:59:59 GMT").unwrap() > Duration::from_secs(3600));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn messages_are_short_and_plain() {
        assert_eq!(message(br#"{"kind":"Status","message":"no\nway"}"#), "noway");
        assert_eq!(message(b"<html>"), "<html>");
        assert_eq!(message(&vec![b'x'; 5000]).len(), 200);
    }
}
