//! Keeps the pages of strangers away from the debug listener. Loopback is no border for a browser: a page may
//! point its own name at 127.0.0.1 (DNS rebinding), or simply send its requests there.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::Authority};

/// Why a request is refused that doesn't name this machine by a loopback name, or comes from another one's page.
pub(super) fn refusal(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    const HOST: &str = "the Host header must be localhost, an address in 127.0.0.0/8 or [::1]";
    const ORIGIN: &str = "the request comes from a page that isn't on a loopback address";

    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() || !host.is_some_and(|host| names_loopback(host.as_bytes())) {
        return Some(HOST);
    }
    // `GET http://name/ HTTP/1.1` outranks the header.
    if uri.authority().is_some_and(|authority| !is_loopback(authority)) {
        return Some(HOST);
    }
    let is_foreign = |origin: &HeaderValue| !names_loopback(without_scheme(origin.as_bytes()));
    if headers.get_all(header::ORIGIN).iter().any(is_foreign) {
        return Some(ORIGIN);
    }
    is_from_elsewhere(headers).then_some(ORIGIN)
}

/// Browsers send no Origin with what a page merely embeds, which would take up the places of live readers.
pub(super) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site")
}

pub(super) fn without_scheme(origin: &[u8]) -> &[u8] {
    let end = origin.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3);
    &origin[end..]
}

fn names_loopback(authority: &[u8]) -> bool {
    Authority::try_from(authority).is_ok_and(|authority| is_loopback(&authority))
}

fn is_loopback(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

    use super::{names_loopback, refusal};

    #[test]
    fn only_what_can_be_nothing_but_loopback_is_loopback() {
        for host in ["localhost", "LocalHost:9482", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:9482"] {
            assert!(names_loopback(host.as_bytes()), "{host}");
        }
        let strangers = [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x.localhost",
            "10.0.0.1:9482",
            "0.0.0.0",
            "[::]",
            "::1",
            "127.1",
            "2130706433",
            "localhost@evil.example",
            "evil@localhost",
            "null",
            "localhost/x",
            "local host",
            "128.0.0.1",
            "[fe80::1]",
        ];
        for host in strangers {
            assert!(!names_loopback(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn requests_are_judged_by_all_that_names_a_place() {
        type Headers = [(&'static str, &'static str)];
        let cases: &[(&str, &Headers, bool)] = &[
            ("/", &[("host", "localhost:9482")], true),
            ("/", &[], false),
            ("/", &[("host", "evil.example")], false),
            ("/", &[("host", "localhost"), ("host", "evil.example")], false),
            ("http://127.0.0.1/", &[("host", "localhost")], true),
            ("http://evil.example/", &[("host", "localhost")], false),
            ("/", &[("host", "localhost"), ("origin", "http://localhost:3000")], true),
            ("/", &[("host", "localhost"), ("origin", "http://[::1]:9482")], true),
            ("/", &[("host", "localhost"), ("origin", "https://evil.example")], false),
            ("/", &[("host", "localhost"), ("origin", "null")], false),
            ("/", &[("host", "localhost"), ("sec-fetch-site", "none")], true),
            ("/", &[("host", "localhost"), ("sec-fetch-site", "same-origin")], true),
            ("/", &[("host", "localhost"), ("sec-fetch-site", "cross-site")], false),
        ];
        for (uri, headers, admitted) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in *headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(refusal(&Uri::from_static(uri), &map).is_none(), *admitted, "{uri} {headers:?}");
        }
    }
}
