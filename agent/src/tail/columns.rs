//! One event, one line: when, what, where, who, and how it went.

use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use super::{detail::detail, style::Style};
use crate::harmless::Harmless;

const KIND: usize = 12;
/// Columns for the container, at first and at most.
const PLACE: (usize, usize) = (24, 40);
const PROCESS: usize = 22;

/// The columns, which grow with what comes.
pub(super) struct Columns {
    is_wide: bool,
    kind: usize,
    place: usize,
}

impl Columns {
    pub(super) fn new(is_wide: bool) -> Self {
        Self { is_wide, kind: KIND, place: PLACE.0 }
    }

    pub(super) fn row(&mut self, event: &Value, style: &Style) -> String {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let time = time(text("time"), self.is_wide);
        let kind = Harmless(text("kind")).to_string();
        let mut place = place(event);
        if !self.is_wide {
            place = shortened(&place, PLACE.1);
        }
        self.kind = self.kind.max(kind.width());
        self.place = self.place.max(place.width());
        let process = process(event);
        let is_bad = is_bad(event);
        let told = detail(event, self.is_wide);
        format!(
            "{} {} {} {} {}",
            style.dim(&time),
            style.kind(&padded(&kind, self.kind), is_bad),
            style.place(&padded(&place, self.place)),
            padded(&process, PROCESS),
            if is_bad { style.bad(&told) } else { told },
        )
    }
}

/// The task, with its number.
pub(crate) fn process(event: &Value) -> String {
    match event["pid"].as_u64() {
        Some(pid) => format!("{}[{pid}]", Harmless(event["comm"].as_str().unwrap_or_default())),
        None => "-".to_owned(),
    }
}

/// Whether something went wrong.
pub(crate) fn is_bad(event: &Value) -> bool {
    event["kind"] == "oom.kill"
        || event["errno"].is_string()
        || event["reason"].as_str().is_some_and(|reason| reason != "completed")
}

/// `12:34:56.789`; the whole of it where there is room.
pub(crate) fn time(text: &str, is_wide: bool) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) if is_wide => format!("{time:.6}"),
        Ok(time) => format!("{:.3}", time.to_zoned(jiff::tz::TimeZone::UTC).datetime().time()),
        Err(_) => Harmless(text).to_string(),
    }
}

/// The container by its shortest name that tells it apart.
fn place(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().filter(|text| !text.is_empty());
    let parts = [text("namespace"), text("pod").or_else(|| text("workload")), text("container")];
    let parts: Vec<_> = parts.into_iter().flatten().map(|part| Harmless(part).to_string()).collect();
    match parts.is_empty() {
        true => Harmless(text("workload_kind").unwrap_or("-")).to_string(),
        false => parts.join("/"),
    }
}

/// Without its middle, which tells least.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let (head, tail) = (width / 3, width - width / 3 - 1);
    let cut = |chars: &[char]| chars.iter().collect::<String>();
    format!("{}…{}", cut(&chars[..head.min(chars.len())]), cut(&chars[chars.len().saturating_sub(tail)..]))
}

pub(crate) fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}
