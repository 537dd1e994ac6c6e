//! Which exposition format a scraper wants.

use std::cmp::Reverse;

use axum::http::{HeaderMap, HeaderValue, header};

/// A format that metrics can be shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
    /// Prometheus' protobuf, each message behind its length.
    Protobuf,
}

/// What the messages are, and how they follow each other.
const PROTO: &str = "io.prometheus.client.MetricFamily";
const ENCODING: &str = "delimited";

impl Format {
    /// The media type of an answer in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// OpenMetrics or protobuf for those who prefer it, text for everybody else: whoever accepts none of them is
    /// better served with text than with an error.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let accept = headers.get_all(header::ACCEPT);
        let ranges: Vec<_> = accept.iter().filter_map(to_str).flat_map(|value| value.split(',')).collect();
        let rank = |format| Rank::of(format, &ranges);
        // Of equals the first, and nothing ranks below all.
        [Self::OpenMetrics, Self::Protobuf]
            .into_iter()
            .fold(Self::Text, |best, format| if rank(format) > rank(best) { format } else { best })
    }

    const fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain"),
            Self::OpenMetrics => ("application", "openmetrics-text"),
            Self::Protobuf => ("application", "vnd.google.protobuf"),
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Text => "0.0.4",
            Self::OpenMetrics => "1.0.0",
            Self::Protobuf => "",
        }
    }
}

/// How much a scraper wants a format: by its weight; then by how exactly it asked; then by what it named first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// In thousandths, as RFC 9110 allows three digits.
    weight: u16,
    exactness: u8,
    position: Reverse<usize>,
}

impl Rank {
    /// By the most exact of the ranges that the format falls into (RFC 9110, 12.5.1), unless that one refuses it.
    fn of(format: Format, ranges: &[&str]) -> Option<Self> {
        let fitting = ranges.iter().enumerate().filter_map(|(position, range)| {
            let (exactness, weight) = judge(format, range)?;
            Some(Self { weight, exactness, position: Reverse(position) })
        });
        fitting.max_by_key(|rank| (rank.exactness, rank.position)).filter(|rank| rank.weight > 0)
    }
}

/// How exactly a media range names a format, and with what weight; nothing if it is about something else.
fn judge(format: Format, range: &str) -> Option<(u8, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let (kind, subkind) = parts.next()?.split_once('/')?;
    let media_type = format.media_type();
    let mut exactness = match (kind, subkind) {
        ("*", "*") => 0,
        (kind, "*") if kind.eq_ignore_ascii_case(media_type.0) => 1,
        (kind, subkind)
            if kind.eq_ignore_ascii_case(media_type.0) && subkind.eq_ignore_ascii_case(media_type.1) =>
        {
            2
        }
        _ => return None,
    };
    let mut weight = 1000;
    // Protobuf alone says nothing, so it has to be asked for in full.
    let (mut has_proto, mut has_encoding) = (false, false);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
            ("version", version) if version == format.version() => exactness = 3,
            // Another version is another format.
            ("version", _) => return None,
            ("q", value) => weight = thousandths(value)?,
            ("proto", proto) if format == Format::Protobuf => {
                (proto == PROTO).then_some(())?;
                has_proto = true;
            }
            ("encoding", encoding) if format == Format::Protobuf => {
                encoding.eq_ignore_ascii_case(ENCODING).then_some(())?;
                (has_encoding, exactness) = (true, 3);
            }
            // `charset` and `escaping` choose among what is the same here.
            _ => {}
        }
    }
    (format != Format::Protobuf || has_proto && has_encoding).then_some((exactness, weight))
}

fn thousandths(weight: &str) -> Option<u16> {
    let weight: f32 = weight.parse().ok().filter(|weight| (0.0..=1.0).contains(weight))?;
    // In 0..=1000, as just checked.
    Some((weight * 1000.0).round() as u16)
}

fn to_str(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header::ACCEPT};

    use super::Format::{self, OpenMetrics, Protobuf, Text};

    #[test]
    fn open_metrics_is_for_those_who_prefer_it() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let native_histograms = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
            encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3";
        let cases = [
            (prometheus_3, OpenMetrics),
            (native_histograms, Protobuf),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                Protobuf,
            ),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Text),
            ("application/vnd.google.protobuf;proto=another;encoding=delimited,text/plain;q=0.1", Text),
            ("application/vnd.google.protobuf, text/plain;q=0.1", Text),
            (
                "application/openmetrics-text;q=0.9,application/vnd.google.protobuf;encoding=delimited;\
                 proto=io.prometheus.client.MetricFamily;q=0.8",
                OpenMetrics,
            ),
            (
                "text/plain;q=0.1,application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                 encoding=delimited;q=0",
                Text,
            ),
            ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.4", Text),
            ("text/plain;q=0.3, application/openmetrics-text;q=0.301", OpenMetrics),
            ("application/openmetrics-text, text/plain", OpenMetrics),
            ("text/plain, application/openmetrics-text", Text),
            ("application/openmetrics-text, */*", OpenMetrics),
            ("*/*, application/openmetrics-text;q=0.1", Text),
            ("application/*, text/plain;q=0.9", OpenMetrics),
            ("application/openmetrics-text;q=0, */*", Text),
            ("text/plain;q=0, */*;q=0.1", OpenMetrics),
            ("application/openmetrics-text;q=2", Text),
            ("application/openmetrics-text;q=NaN", Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Text),
            ("application/json", Text),
            ("*/*", Text),
            (",;=/", Text),
            ("", Text),
        ];
        for (accept, expected) in cases {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Format::negotiate(&headers), expected, "{accept}");
        }
        assert_eq!(Format::negotiate(&HeaderMap::new()), Text);
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/plain;q=0.5"));
        headers.append(ACCEPT, HeaderValue::from_static("application/openmetrics-text"));
        assert_eq!(Format::negotiate(&headers), OpenMetrics);
    }
}
