//! Who may ask the debug listener: on loopback whoever names it so, elsewhere who has the token.

use std::{fs, io, path::PathBuf, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::{
    loopback::{is_from_elsewhere, refusal, without_scheme},
    text,
};

/// Fewer bytes could be guessed.
const SHORTEST: usize = 16;
/// More is no token.
const LONGEST: u64 = 4096;

/// What a request has to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// A loopback name in `Host`, and no stranger's page in `Origin`.
    Loopback,
    /// The token in this file.
    Token(Arc<PathBuf>),
}

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("can't read the token in {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "the token in {} has {length} bytes: take {SHORTEST} or more, such as those of `openssl rand -hex 32`",
        .path.display()
    )]
    Length { path: PathBuf, length: usize },
}

impl Gate {
    /// Asks for the token in the file, which has to be there by now; without a file, for loopback.
    pub fn new(token_file: Option<&str>) -> Result<Self, TokenError> {
        let Some(path) = token_file else { return Ok(Self::Loopback) };
        let path = PathBuf::from(path);
        token(&path)?;
        Ok(Self::Token(Arc::new(path)))
    }

    /// Why a request isn't let through, if it isn't.
    fn refusal(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        match self {
            Self::Loopback => refusal(request.uri(), headers)
                .map(|reason| text(StatusCode::FORBIDDEN, format!("refused: {reason}\n"))),
            // A probe has no token, and learns nothing.
            Self::Token(_) if request.uri().path() == "/healthz" => None,
            Self::Token(_) if is_from_another_page(headers) => Some(text(
                StatusCode::FORBIDDEN,
                "refused: the request comes from a page of another address\n",
            )),
            Self::Token(path) => match token(path) {
                Ok(token) if shown(headers).is_some_and(|shown| bool::from(shown.ct_eq(&token))) => None,
                Ok(_) => Some(unauthorized()),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "nobody can read the live events"
                    );
                    let said = "the token can't be read: see the agent's log\n";
                    Some(text(StatusCode::INTERNAL_SERVER_ERROR, said))
                }
            },
        }
    }
}

/// Lets through what the gate admits.
pub(super) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate.refusal(&request) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

/// Read each time: whoever replaces the file need tell nobody.
fn token(path: &PathBuf) -> Result<Vec<u8>, TokenError> {
    let unreadable = |source| TokenError::Unreadable { path: path.clone(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut token = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LONGEST), &mut token).map_err(unreadable)?;
    let token = token.trim_ascii().to_vec();
    if token.len() < SHORTEST {
        return Err(TokenError::Length { path: path.clone(), length: token.len() });
    }
    Ok(token)
}

/// As a bearer's token, or as the password that a browser asks for, whatever the user's name.
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(credentials).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// A browser sends the password along with what other pages ask for, so that these have to be kept out.
fn is_from_another_page(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let is_other = |origin: &HeaderValue| {
        !host.is_some_and(|host| host.eq_ignore_ascii_case(without_scheme(origin.as_bytes())))
    };
    headers.get_all(header::ORIGIN).iter().any(is_other) || is_from_elsewhere(headers)
}

fn unauthorized() -> Response {
    let challenge =
        [(header::WWW_AUTHENTICATE, "Basic realm=\"podwitness: any name, the token as password\"")];
    let body = "a token is needed: `Authorization: Bearer TOKEN`, with what debug.token_file holds\n";
    (challenge, text(StatusCode::UNAUTHORIZED, body)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn status(gate: &Gate, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri("/v1/events");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let refusal = gate.refusal(&request.body(Body::empty()).unwrap());
        refusal.map_or(200, |response| response.status().as_u16())
    }

    #[test]
    fn the_token_opens_and_can_be_replaced() {
        let path = std::env::temp_dir().join(format!("podwitness-token-{}", std::process::id()));
        fs::write(&path, format!("{TOKEN}\n")).unwrap();
        let gate = Gate::new(path.to_str()).unwrap();
        let bearer = |token: &str| format!("Bearer {token}");
        let basic = |token: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("me:{token}")));
        let host = ("host", "node1.example:9482");
        for right in [bearer(TOKEN), basic(TOKEN), format!("bearer  {TOKEN}")] {
            assert_eq!(status(&gate, &[host, ("authorization", &right)]), 200, "{right}");
            let mine = ("origin", "http://node1.example:9482");
            assert_eq!(status(&gate, &[host, mine, ("authorization", &right)]), 200);
            for stranger in
                [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
            {
                assert_eq!(status(&gate, &[host, stranger, ("authorization", &right)]), 403);
            }
        }
        for wrong in [
            "",
            "Bearer",
            &bearer(""),
            &bearer("0123456789abcdeg"),
            &bearer("0123456789abcdef0"),
            TOKEN,
            "Basic !",
            "Basic bWU=",
        ] {
            assert_eq!(status(&gate, &[host, ("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(status(&gate, &[host]), 401);

        fs::write(&path, "another-token-of-24-bytes").unwrap();
        assert_eq!(status(&gate, &[host, ("authorization", &bearer(TOKEN))]), 401);
        assert_eq!(status(&gate, &[host, ("authorization", &bearer("another-token-of-24-bytes"))]), 200);
        fs::write(&path, "").unwrap();
        assert_eq!(status(&gate, &[host, ("authorization", &bearer(""))]), 500, "no token opens to nobody");
        fs::remove_file(&path).unwrap();
        assert_eq!(status(&gate, &[host, ("authorization", &bearer(TOKEN))]), 500);
        assert!(matches!(Gate::new(path.to_str()), Err(TokenError::Unreadable { .. })));
    }

    #[test]
    fn a_short_token_is_refused_at_the_start() {
        let path = std::env::temp_dir().join(format!("podwitness-short-{}", std::process::id()));
        fs::write(&path, "  short \n").unwrap();
        let error = Gate::new(path.to_str()).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert!(error.to_string().contains("has 5 bytes"), "{error}");
    }
}
