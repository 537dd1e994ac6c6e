//! How much of the page each container may have.

/// What one container has on the page, and what it wants there besides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    pub has: usize,
    pub wants: usize,
}

/// Up to how many series a container may take more, so that all together stay within `room`: who wants less leaves
/// the rest to the others, and nobody has to give anything back.
pub(super) fn fair(demands: &[Demand], room: usize) -> usize {
    let taken = |share: usize| -> usize {
        demands.iter().map(|demand| demand.has.max((demand.has + demand.wants).min(share))).sum()
    };
    let (mut fits, mut exceeds) = (0, room + 1);
    while exceeds - fits > 1 {
        let between = fits + (exceeds - fits) / 2;
        if taken(between) <= room { fits = between } else { exceeds = between }
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_little_leaves_the_rest_to_the_others() {
        let share = |demands: &[(usize, usize)], room| {
            let demands: Vec<_> =
                demands.iter().map(|(has, wants)| Demand { has: *has, wants: *wants }).collect();
            fair(&demands, room)
        };
        assert_eq!(share(&[(0, 100), (0, 100)], 100), 50);
        assert_eq!(share(&[(0, 10), (0, 100)], 100), 90);
        assert_eq!(share(&[(0, 10), (0, 20)], 100), 100, "all fits");
        assert_eq!(share(&[(80, 50), (0, 50)], 100), 20, "what is shown stays");
        assert_eq!(share(&[(80, 50), (40, 50)], 100), 0);
        assert_eq!(share(&[], 100), 100);
    }
}
