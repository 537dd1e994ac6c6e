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
    // Helm writes 0.00001 as 1e-05.
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole) || !is_plain(decimals) {
        return None;
    }
    let digits: u64 = format!("{whole}{decimals}").parse().ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    // From the last digit to parts of a million.
    let shift = exponent.checked_sub(decimals.len().try_into().ok()?)?.checked_add(6)?;
    let power = 10_u64.checked_pow(shift.unsigned_abs())?;
    let parts = match shift {
        0.. => digits.checked_mul(power)?,
        _ => digits.is_multiple_of(power).then(|| digits / power)?,
    };
    u32::try_from(parts).ok().filter(|parts| *parts <= WHOLE)
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
        for (text, parts) in [
            ("0", 0),
            ("1", WHOLE),
            ("1.0", WHOLE),
            ("0.25", 250_000),
            ("0.000001", 1),
            ("0.10", 100_000),
            ("0.1000000", 100_000),
            ("1e-05", 10),
            ("2.5E-3", 2_500),
            ("0e0", 0),
            ("0.01e+2", WHOLE),
        ] {
            assert_eq!(parse(text), Some(parts), "{text}");
            assert_eq!(parse(&show(parts)), Some(parts));
        }
        assert_eq!((show(WHOLE), show(0), show(100_000)), ("1".into(), "0".into(), "0.1".into()));
        for text in [
            "",
            ".5",
            "1.",
            "1.1",
            "2",
            "-1",
            "0.0000001",
            "1e-07",
            "1e1",
            "1e",
            "e-3",
            "1e-3e-3",
            "1e0.5",
            "1e-99999999999",
            "1e-2147483648",
            "0e99",
            "99999999999",
            "a",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
