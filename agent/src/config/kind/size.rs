//! Byte sizes: `4096`, `64KiB`, `4MiB`, `1GiB`, and the `64Ki`, `4Mi`, `1Gi` of Kubernetes.

use super::{Field, Invalid, Kind, digits, narrow, within};
use crate::config::model::Config;

/// What a page has on every machine that podwitness supports; the kernel wants rings in whole pages.
const PAGE: u64 = 4096;
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A number of bytes, stored in the integer type `T`.
pub(in crate::config) struct Size<T: 'static> {
    pub min: u64,
    pub max: u64,
    /// The size of a ring buffer: a power of two, in whole pages.
    pub ring: bool,
    pub field: Field<T>,
}

impl<T: TryFrom<u64>> Kind for Size<T> {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let size = parse(text)?;
        let size = within(size, self.min, self.max, |size| format(*size))?;
        if self.ring && !(size.is_power_of_two() && size.is_multiple_of(PAGE)) {
            return Err(Invalid::new("is not a power of two in whole pages of 4096 bytes"));
        }
        *(self.field)(config) = narrow(size)?;
        Ok(format(size))
    }

    fn allowed(&self) -> String {
        let what = if self.ring { "a power of two" } else { "a size" };
        let (min, max) = (format(self.min), format(self.max));
        format!("{what} from {min} to {max}, in bytes or with KiB, MiB or GiB")
    }

    fn placeholder(&self) -> &'static str {
        "SIZE"
    }
}

fn parse(text: &str) -> Result<u64, Invalid> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = digits(number).ok_or_else(|| Invalid::new("is not a size"))?;
    Ok(number.saturating_mul(factor(unit)?))
}

fn factor(unit: &str) -> Result<u64, Invalid> {
    if unit.is_empty() {
        return Ok(1);
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit || name.trim_end_matches('B') == unit);
    known.map(|(_, factor)| *factor).ok_or_else(|| Invalid::new("has none of the units KiB, MiB and GiB"))
}

/// The shortest exact notation.
fn format(size: u64) -> String {
    let unit = UNITS.iter().find(|(_, factor)| size > 0 && size.is_multiple_of(*factor));
    unit.map_or_else(|| size.to_string(), |(name, factor)| format!("{}{name}", size / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65536),
            ("64Ki", 65536),
            ("4MiB", 4 << 20),
            ("4Mi", 4 << 20),
            ("1GiB", 1 << 30),
            // Too large saturates, and is above every maximum.
            ("99999999999999999999", u64::MAX),
            ("99999999999999999GiB", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in
            ["", "KiB", "-1", "+1", "4MB", "4M", "4k", "4 MiB", "4mib", "1.5MiB", "4MiB ", "0x10", "٤"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_written_exactly() {
        for (size, text) in [
            (0, "0"),
            (4095, "4095"),
            (4096, "4KiB"),
            (5 << 20, "5MiB"),
            (1 << 30, "1GiB"),
            (1 << 40, "1024GiB"),
        ] {
            assert_eq!(format(size), text);
            assert_eq!(parse(text), Ok(size));
        }
    }
}
