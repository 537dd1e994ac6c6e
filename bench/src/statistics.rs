//! Medians and quartiles.

/// The quartiles of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Quartiles {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Quartiles {
    /// Of an empty sample all are NaN, which is within no target.
    pub(crate) fn of(sample: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = sample.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quarters: usize| match sorted.len() {
            0 => f64::NAN,
            len => sorted[(len * quarters / 4).min(len - 1)],
        };
        Self { lower: at(1), median: at(2), upper: at(3) }
    }
}

/// The member of the sample that this part of it doesn't exceed.
pub(crate) fn percentile(sample: &mut [f64], part: f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let rank = (sample.len() as f64 * part).ceil() as usize;
    sample.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The lower quartile: what a stretch of work takes that was not interrupted.
pub(crate) fn undisturbed(chunks: &mut [f64]) -> f64 {
    chunks.sort_by(f64::total_cmp);
    chunks.get(chunks.len() / 4).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Quartiles, percentile, undisturbed};

    #[test]
    fn quartiles_are_members_of_the_sample() {
        let quartiles = Quartiles::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(quartiles, Quartiles { lower: 2.0, median: 3.0, upper: 4.0 });
        assert_eq!(Quartiles::of([7.0]), Quartiles { lower: 7.0, median: 7.0, upper: 7.0 });
        assert!(Quartiles::of([]).median.is_nan());
    }

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let mut sample: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|part| percentile(&mut sample, part)), [100.0, 198.0, 200.0]);
        assert_eq!(percentile(&mut [3.0], 0.01), 3.0);
        assert!(percentile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn interruptions_are_dropped() {
        assert_eq!(undisturbed(&mut [10.0, 900.0, 11.0, 10.5, 12.0, 11.5, 300.0, 10.2]), 10.5);
        assert!(undisturbed(&mut []).is_nan());
    }
}
