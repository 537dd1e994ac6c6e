//! What `/` shows: the page to a browser, a few words to a terminal.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{openapi::Place, text};
use crate::live::{fields, parameters};

const PAGE: &str = include_str!("page.html");

/// Everything is in the page: it loads nothing, from nowhere, and talks to where it came from only.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn response(headers: &HeaderMap, url: &str) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if !accept.flat_map(|value| value.split(',')).any(|range| range.trim_start().starts_with("text/html")) {
        return ([(header::VARY, "accept")], text(StatusCode::OK, words(url))).into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept"),
    ];
    (headers, PAGE).into_response()
}

fn words(url: &str) -> String {
    let mut words = String::from("podwitness: live\n\n");
    for place in Place::ALL {
        words.push_str(&format!("{:<16} {}\n", place.path(), place.summary()));
        if place == Place::Events {
            words.push_str(&asked_with());
        }
    }
    words.push_str(&format!("\ncurl -N '{url}/v1/events'\n"));
    let example = "filter=kind in (tcp.connect, oom) namespace=default";
    words.push_str(&format!("curl -NG '{url}/v1/events' --data-urlencode '{example}'\n"));
    words
}

/// The parameters of the stream.
fn asked_with() -> String {
    let mut words = String::new();
    let fields: Vec<_> = fields().map(|field| field.name).collect();
    for parameter in parameters().filter(|parameter| !fields.contains(&parameter.name)) {
        words.push_str(&format!("{:18}{:<8} {}\n", "", parameter.name, parameter.doc));
    }
    let fields = fields.join(", ");
    words.push_str(&format!(
        "{:18}{fields}\n{:27}the filter in short; commas and repetition mean any of them\n",
        "", ""
    ));
    words
}

#[cfg(test)]
mod tests {
    use super::PAGE;

    #[test]
    fn the_page_is_small_and_needs_nobody() {
        assert!(PAGE.len() < 300_000, "{}", PAGE.len());
        for word in [
            "http://",
            "https://",
            "//cdn",
            "@import",
            "src=",
            "stylesheet",
            "url(",
            "innerHTML",
            "outerHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
        for word in ["prefers-color-scheme", "EventSource", "/v1/containers", "/v1/status", "aria-live"] {
            assert!(PAGE.contains(word), "{word}");
        }
    }
}
