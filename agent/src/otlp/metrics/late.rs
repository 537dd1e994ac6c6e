//! Containers that have counted before they were shown: by these labels, or at all.

use std::{collections::HashMap, sync::Arc, time::Instant};

use crate::identity::{Labels, Listed};

/// Who was shown on a page, and by which labels.
#[derive(Debug, Default)]
pub(super) struct Shown(HashMap<u64, Arc<Labels>>);

impl Shown {
    /// On a page that is begun after this.
    pub(super) fn of(known: &[Listed]) -> Self {
        let shown = known.iter().filter(|listed| !listed.is_settling);
        Self(shown.map(|listed| (listed.container.cgroup_id, listed.container.labels())).collect())
    }

    /// Since when those may have counted that were not shown by the labels that they have now, by these labels and those
    /// of their workloads.
    pub(super) fn late(&self, known: &[Listed]) -> HashMap<Labels, Instant> {
        let mut late = HashMap::new();
        for Listed { container, since, .. } in known {
            let labels = container.labels();
            if self.0.get(&container.cgroup_id) == Some(&labels) {
                continue;
            }
            for labels in [labels.of_workload(), Labels::clone(&labels)] {
                let first = late.entry(labels).or_insert(*since);
                *first = *since.min(first);
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::identity::{Container, names::Details};

    #[test]
    fn who_waits_or_is_renamed_is_late() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let labels =
            |name: &str| Labels { container: name.into(), workload: "web".into(), ..Labels::default() };
        let listed = |id: u64, name: &str, since: u64, is_settling: bool| {
            let container = Container::new(id, Path::new("/"));
            container.name(labels(name), Details::default());
            Listed { container, since: at(since), is_settling, died: None }
        };
        let known = [listed(1, "old", 1, false), listed(2, "id", 2, false), listed(3, "waits", 3, true)];
        let shown = Shown::of(&known);
        assert_eq!(shown.late(&known), [(labels("waits"), at(3)), (labels("").of_workload(), at(3))].into());
        known[1].container.name(labels("new"), Details::default());
        let late = shown.late(&known[..2]);
        assert_eq!(late, [(labels("new"), at(2)), (labels("").of_workload(), at(2))].into());
        // Whatever it was not shown for meanwhile, it is no news.
        assert!(Shown::of(&known).late(&known[..2]).is_empty());
    }
}
