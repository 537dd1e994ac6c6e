//! What `/` shows: the page to a browser, a few words to a terminal.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::text;

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
    format!(
        "\
podwitness: live

/               a page, for browsers
/v1/events      what happens, as it happens: one JSON object per line, or server-sent events
                filter    which events, in the filter language
                kind, namespace, workload_kind, workload, pod, container, pid
                          the same in short; commas and repetition mean any of them
                since     from a time on, or a duration ago, as far as it is kept
                after     behind an event, by its id; Last-Event-ID does the same
                limit     end after so many events
                format    ndjson or sse
/v1/filter      what is wrong with a filter, or how it reads
/v1/containers  what was counted for each container, and who died in it
/v1/status      sensors, sources of names, losses, bounds
/v1/schema      what the lines of /v1/events are, as JSON Schema
/healthz        200 while the agent works

curl -N '{url}/v1/events'
curl -NG '{url}/v1/events' --data-urlencode 'filter=kind in (tcp.connect, oom) namespace=default'
"
    )
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
