//! Durations: `50ms`, `10s`, `5m`, `1h30m`, by jiff's "friendly" format.

use std::time::Duration;

use jiff::fmt::friendly::{Designator, Spacing, SpanParser, SpanPrinter};

use super::{Field, Invalid, Kind, digits, within};
use crate::config::model::Config;

/// A length of time.
pub(in crate::config) struct Span {
    pub min: Duration,
    pub max: Duration,
    pub field: Field<Duration>,
}

impl Kind for Span {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let duration = within(parse(text)?, self.min, self.max, format)?;
        *(self.field)(config) = duration;
        Ok(format(&duration))
    }

    fn allowed(&self) -> String {
        let (min, max) = (format(&self.min), format(&self.max));
        format!("a duration from {min} to {max}, such as 50ms, 10s, 5m or 1h30m")
    }

    fn placeholder(&self) -> &'static str {
        "DURATION"
    }
}

pub(in crate::config) fn parse(text: &str) -> Result<Duration, Invalid> {
    if digits(text).is_some() {
        return Err(Invalid::new("has no unit (ms, s, m or h)"));
    }
    SpanParser::new().parse_unsigned_duration(text).map_err(|_| Invalid::new("is not a duration"))
}

pub(super) fn format(duration: &Duration) -> String {
    SpanPrinter::new()
        .spacing(Spacing::None)
        // The compact notation writes microseconds with a letter outside of ASCII.
        .designator(Designator::HumanTime)
        .unsigned_duration_to_string(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, duration, canonical) in [
            ("0s", Duration::ZERO, "0s"),
            ("50ms", Duration::from_millis(50), "50ms"),
            ("10s", Duration::from_secs(10), "10s"),
            ("5m", Duration::from_secs(300), "5m"),
            ("300s", Duration::from_secs(300), "5m"),
            ("1h30m", Duration::from_secs(5400), "1h30m"),
            ("1h 30m", Duration::from_secs(5400), "1h30m"),
            ("1.5h", Duration::from_secs(5400), "1h30m"),
            ("1500us", Duration::from_micros(1500), "1ms500us"),
        ] {
            assert_eq!(parse(text), Ok(duration), "{text}");
            assert_eq!(format(&duration), canonical);
            assert_eq!(parse(canonical), Ok(duration), "{canonical}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "-5m", "5 parsecs", "1mo", "99999999999999999999h", "5m,", "\u{1b}[31m"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse("300"), Err(Invalid::new("has no unit (ms, s, m or h)")));
    }
}
