//! A part of a whole.

use super::{Field, Invalid, Kind};
use crate::config::model::Config;

/// From 0 to 1 with up to six decimals, stored as parts of a million.
pub(in crate::config) struct Ratio {
    pub field: Field<u32>,
}

const WHOLE: u32 = 1_000_000;

impl Kind for Ratio {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let parts = parse(text).ok_or_else(|| Invalid::new("is not a number from 0 to 1"))?;
        *(self.field)(config) = parts;
        Ok(show(parts))
    }

    fn allowed(&self) -> String {
        "a number from 0 to 1 with up to six decimals".to_owned()
    }

    fn placeholder(&self) -> &'static str {
        "RATIO"
    }

    fn is_bare(&self) -> bool {
        true
    }
}

fn parse(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole) || !is_plain(decimals) || decimals.len() > 6 {
        return None;
    }
    let whole = whole.parse::<u32>().ok()?.checked_mul(WHOLE)?;
    let parts = whole.checked_add(format!("{decimals:0<6}").parse().ok()?)?;
    (parts <= WHOLE).then_some(parts)
}

fn show(parts: u32) -> String {
    let text = format!("{}.{:06}", parts / WHOLE, parts % WHOLE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_exact() {
        for (text, parts) in
            [("0", 0), ("1", WHOLE), ("1.0", WHOLE), ("0.25", 250_000), ("0.000001", 1), ("0.10", 100_000)]
        {
            assert_eq!(parse(text), Some(parts), "{text}");
            assert_eq!(parse(&show(parts)), Some(parts));
        }
        assert_eq!((show(WHOLE), show(0), show(100_000)), ("1".into(), "0".into(), "0.1".into()));
        for text in ["", ".5", "1.", "1.1", "2", "-1", "1e-3", "0.0000001", "99999999999", "a"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
