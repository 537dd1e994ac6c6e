//! Asking an agent.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use axum::http::{Request, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::harmless::Harmless;

/// Bytes of an answer that says why there is no stream.
const COMPLAINT: usize = 64 << 10;
/// Bytes of a line that has no end yet; no event is that long.
const LINE: usize = 1 << 20;

/// An agent, and what it takes to be heard.
pub(super) struct Target {
    authority: String,
    token: Option<String>,
}

impl Target {
    /// `address` is `host:port`, with or without `http://`.
    pub(super) fn new(address: &str, token_file: Option<&Path>) -> Result<Self> {
        let plain = address.trim_end_matches('/');
        if plain.starts_with("https://") {
            bail!(
                "{address}: the agent speaks plain HTTP; for another machine use a port-forward or a proxy"
            );
        }
        let plain = plain.strip_prefix("http://").unwrap_or(plain);
        let uri: Uri =
            format!("http://{plain}/").parse().with_context(|| format!("{address} is no address"))?;
        let authority = uri.authority().filter(|authority| authority.port().is_some());
        let authority = authority.with_context(|| format!("{address} has no port: 9482 is the usual one"))?;
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("can't read the token in {}", path.display()))
        };
        let token = token_file.map(read).transpose()?.map(|token| token.trim().to_owned());
        Ok(Self { authority: authority.to_string(), token })
    }
}

/// The lines of a stream.
pub(super) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) async fn open(target: &Target, query: &[(&str, String)]) -> Result<Self> {
        let Target { authority, token } = target;
        let stream = TcpStream::connect(authority.as_str()).await.with_context(|| {
            format!(
                "no agent answers at {authority}: is it running? On a cluster, `kubectl port-forward POD 9482` makes \
                 its port yours; --addr names another one"
            )
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let mut request = Request::builder()
            .uri(format!("/v1/events?{}", query.join("&")))
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/x-ndjson");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await;
        let response = response.with_context(|| format!("{authority} gave no answer"))?;
        let status = response.status();
        let mut lines = Self { body: response.into_body(), rest: Vec::new() };
        if status.is_success() {
            return Ok(lines);
        }
        let said = lines.complaint().await;
        match status.as_u16() {
            401 => bail!("{authority} wants a token: --token-file names the file that has it"),
            404 => bail!(
                "{authority} has no /v1/events: is it the port of debug.listen (9482), not that of metrics?"
            ),
            code => bail!("{authority} answered {code}: {}", Harmless(&said)),
        }
    }

    /// What has come in whole since the last call; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<String>>> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.context("the connection broke off")?;
            let Ok(data) = frame.into_data() else { continue };
            self.rest.extend(&data);
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()));
            }
            if self.rest.len() > LINE {
                bail!("a line is longer than any event: this is no agent");
            }
        }
        Ok(None)
    }

    async fn complaint(&mut self) -> String {
        let mut said = Vec::new();
        while let Some(Ok(frame)) = self.body.frame().await {
            said.extend(frame.into_data().unwrap_or_default());
            if said.len() > COMPLAINT {
                break;
            }
        }
        match serde_json::from_slice::<Value>(&said) {
            Ok(json) => json["error"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::from_utf8_lossy(&said).trim().to_owned(),
        }
    }
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}
