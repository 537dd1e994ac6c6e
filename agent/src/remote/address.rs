//! An agent by its address.

use std::{fmt, time::Duration};

use axum::http::{Uri, uri::Authority};
use tokio::{net::TcpStream, time::timeout};

use super::{connection::Stream, error::RemoteError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    authority: Authority,
    pub(super) is_secure: bool,
}

impl Address {
    /// `HOST:PORT`, with or without a scheme. Who names an authority (`has_ca`) wants TLS.
    pub(super) fn parse(text: &str, has_ca: bool) -> Result<Self, RemoteError> {
        let plain = text.trim_end_matches('/');
        let (rest, is_secure) = match plain.split_once("://") {
            Some(("https", rest)) => (rest, true),
            Some(("http", _)) if has_ca => return Err(RemoteError::Plain(text.into())),
            Some(("http", rest)) => (rest, false),
            Some(_) => return Err(RemoteError::Address(text.into())),
            None => (plain, has_ca),
        };
        let uri: Option<Uri> = format!("http://{rest}/").parse().ok();
        let authority = uri.as_ref().and_then(Uri::authority).filter(|found| found.as_str() == rest);
        let authority = authority.ok_or_else(|| RemoteError::Address(text.into()))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(RemoteError::Address(text.into()));
        }
        if authority.port().is_none() {
            return Err(RemoteError::NoPort(text.into()));
        }
        Ok(Self { authority: authority.clone(), is_secure })
    }

    /// Without the brackets of an address of IPv6.
    pub(super) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) async fn connect(&self) -> Result<Stream, RemoteError> {
        let unreachable = |why| RemoteError::Unreachable { at: self.to_string(), why };
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.authority.as_str())).await;
        let stream = stream.map_err(|_| unreachable(format!("nothing within {CONNECT_TIMEOUT:?}")))?;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        Ok(Stream::new(stream, self.authority.to_string(), self.to_string()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_scheme() {
        for (text, has_ca, host, is_secure) in [
            ("node1:9482", false, "node1", false),
            ("http://node1:9482/", false, "node1", false),
            ("https://node1:9482", false, "node1", true),
            ("node1:9482", true, "node1", true),
            ("https://[2001:db8::1]:9482", true, "2001:db8::1", true),
            ("127.0.0.1:1", false, "127.0.0.1", false),
        ] {
            let address = Address::parse(text, has_ca).unwrap();
            assert_eq!((address.host(), address.is_secure), (host, is_secure), "{text}");
        }
        for text in ["", "a b:1", "ftp://node1:9482", "http://me@node1:9482", "node1:9482/v1", "https://:1"] {
            assert!(matches!(Address::parse(text, false), Err(RemoteError::Address(_))), "{text}");
        }
        for text in ["node1", "https://node1", "[::1]"] {
            assert!(matches!(Address::parse(text, false), Err(RemoteError::NoPort(_))), "{text}");
        }
        assert!(matches!(Address::parse("http://node1:9482", true), Err(RemoteError::Plain(_))));
    }
}
