//! The bounds of histograms.

/// Upper bounds in seconds, each inclusive: every power of two from one to another. Beyond the last lies +Inf.
///
/// These are bounds of Prometheus' native histograms, too (schema 0), so that the same counts make both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub(super) first: i32,
    pub(super) last: i32,
}

impl Bounds {
    /// From 2^first to 2^last.
    pub const fn powers(first: i32, last: i32) -> Self {
        assert!(-1022 <= first && first <= last && last <= 1023, "normal numbers");
        Self { first, last }
    }

    /// How many there are.
    pub const fn count(self) -> usize {
        (self.last - self.first) as usize + 1
    }

    pub fn iter(self) -> impl ExactSizeIterator<Item = f64> {
        (0..self.count()).map(move |at| power(self.first + at as i32))
    }

    /// The place of the bucket for this duration, which is the number of bounds if it is beyond them.
    pub fn bucket(self, seconds: f64) -> usize {
        if seconds <= 0.0 {
            return 0;
        }
        // The first power of two that isn't below it: its own exponent, or the next one.
        let bits = seconds.to_bits();
        let power = (bits >> 52) as i32 - 1023 + i32::from(bits << 12 != 0);
        (power - self.first).clamp(0, self.count() as i32) as usize
    }
}

/// Two to that power, exactly: the exponent of a normal float.
pub(super) fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// As OpenMetrics wants bounds to be written, and as Prometheus writes those that it finds in protobuf: C's `%g`, with
/// as many digits as it takes, and whole numbers with a point.
pub(super) fn written(bound: f64) -> String {
    if (1e-4..1e6).contains(&bound) {
        return format!("{bound:?}");
    }
    let text = format!("{bound:e}");
    match text.split_once('e').map(|(digits, exponent)| (digits, exponent.parse::<i32>())) {
        Some((digits, Ok(exponent))) => format!("{digits}e{exponent:+03}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let bounds = Bounds::powers(-14, 7);
        let all: Vec<_> = bounds.iter().collect();
        assert_eq!((all.len(), bounds.count()), (22, 22));
        assert_eq!((all[0], all[4], all[14], all[21]), (0.000_061_035_156_25, 0.000_976_562_5, 1.0, 128.0));
        for (at, bound) in all.into_iter().enumerate() {
            assert_eq!(bounds.bucket(bound), at);
            assert_eq!(bounds.bucket(bound.next_up()), at + 1);
        }
        assert_eq!((bounds.bucket(0.0), bounds.bucket(-1.0), bounds.bucket(5e-324)), (0, 0, 0));
        assert_eq!((bounds.bucket(f64::INFINITY), bounds.bucket(f64::NAN)), (22, 22));
    }

    #[test]
    fn bounds_are_written_exactly_and_in_their_canonical_form() {
        let written: Vec<_> = Bounds::powers(-21, 7).iter().map(written).collect();
        assert_eq!(written[..2], ["4.76837158203125e-07", "9.5367431640625e-07"]);
        assert_eq!(written[7..10], ["6.103515625e-05", "0.0001220703125", "0.000244140625"]);
        assert_eq!(written[20..23], ["0.5", "1.0", "2.0"]);
        assert_eq!(super::written(1e6), "1e+06");
        // A power of two ends: its digits, as a whole number, are a power of five.
        for (power, text) in (-21..0).zip(&written) {
            let (digits, _) = text.split_once('e').unwrap_or((text, ""));
            let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
            assert_eq!(digits.parse(), Ok(5_u64.pow(-power as u32)), "2^{power}: {text}");
        }
    }
}
