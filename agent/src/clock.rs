//! From the boot clock, by which the kernel stamps events, to the wall clock.
//!
//! Both run at the same rate: what slews one slews the other. Their difference changes only when somebody steps the wall
//! clock. So it is kept until that is seen, and not taken anew with each look's error in it: two events of one
//! container stand in the order and at the distance in which they happened.

use std::time::Duration;

use crate::kernel::boot_to_unix_ns;

/// How far two looks may be apart before it counts as a step, beyond what they may be wrong.
const STEP: Duration = Duration::from_millis(1);

/// What has to be added to the boot clock.
#[derive(Debug, Default)]
pub struct WallClock {
    /// And by how much it may be wrong.
    kept: Option<(i64, u64)>,
}

impl WallClock {
    /// Nanoseconds to add to the boot clock, now.
    pub fn offset_ns(&mut self) -> i64 {
        self.take(boot_to_unix_ns())
    }

    fn take(&mut self, (offset, error): (i64, u64)) -> i64 {
        let step = u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX);
        match self.kept {
            Some((kept, kept_error)) if kept.abs_diff(offset) <= step + error + kept_error => kept,
            _ => {
                self.kept = Some((offset, error));
                offset
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_move_it() {
        let mut clock = WallClock::default();
        assert_eq!(clock.take((1_000_000_000, 40)), 1_000_000_000);
        assert_eq!(clock.take((1_000_000_700, 30)), 1_000_000_000);
        // A look that was interrupted for long says little.
        assert_eq!(clock.take((1_030_000_000, 50_000_000)), 1_000_000_000);
        assert_eq!(clock.take((3_600_000_000_000, 40)), 3_600_000_000_000);
        assert_eq!(clock.take((-5, 40)), -5);
    }

    #[test]
    fn the_machines_clocks_agree_with_each_other() {
        let mut clock = WallClock::default();
        let (offset, _) = boot_to_unix_ns();
        assert!(clock.offset_ns().abs_diff(offset) < 1_000_000_000);
    }
}
