//! What readers want of the kernel beyond what it tells anyway: single system calls.

use agent_ebpf::contract::calls::{CallSet, WATCHED};

use crate::{
    identity::Labels,
    sensor::calls::{Plan, unite},
};

/// Calls that one reader wants, and of which containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub calls: CallSet,
    /// Whether the paths in their arguments are wanted, too.
    pub paths: bool,
    /// For each of [`Labels::NAMES`] the values that will do; any, where there are none.
    pub labels: [Vec<String>; Labels::NAMES.len()],
}

impl Demand {
    fn wants(&self, labels: &Labels) -> bool {
        std::iter::zip(&self.labels, labels.values())
            .all(|(wanted, label)| wanted.is_empty() || wanted.iter().any(|value| value == label))
    }

    fn is_for_all(&self) -> bool {
        self.labels.iter().all(Vec::is_empty)
    }
}

/// What the kernel has to watch so that every reader gets what it wants of these containers: at least that, maybe more.
pub fn plan<L: AsRef<Labels>>(demands: &[Demand], containers: impl IntoIterator<Item = (u64, L)>) -> Plan {
    let mut plan = Plan { paths: demands.iter().any(|demand| demand.paths), ..Plan::default() };
    for demand in demands.iter().filter(|demand| demand.is_for_all()) {
        unite(&mut plan.everywhere, &demand.calls);
    }
    for (id, labels) in containers {
        for demand in demands.iter().filter(|demand| !demand.is_for_all() && demand.wants(labels.as_ref())) {
            unite(plan.containers.entry(id).or_default(), &demand.calls);
        }
    }
    if plan.containers.len() > WATCHED as usize {
        for calls in std::mem::take(&mut plan.containers).values() {
            unite(&mut plan.everywhere, calls);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;

    fn demand(calls: u64, pod: Option<&str>) -> Demand {
        let mut labels = <[Vec<String>; Labels::NAMES.len()]>::default();
        let at = Labels::NAMES.iter().position(|name| *name == "pod").unwrap();
        labels[at].extend(pod.map(str::to_owned));
        Demand { calls: set(calls), paths: false, labels }
    }

    fn set(word: u64) -> CallSet {
        let mut set = CallSet::default();
        set[0] = word;
        set
    }

    fn pod(name: impl ToString) -> Arc<Labels> {
        Arc::new(Labels { pod: name.to_string(), ..Labels::default() })
    }

    #[test]
    fn a_plan_is_the_sum_of_what_is_wanted() {
        let containers = || [(1, pod("web-0")), (2, pod("web-1")), (3, pod("web-0"))];
        assert!(plan(&[], containers()).is_empty());
        let found = plan(
            &[demand(1, Some("web-0")), demand(2, Some("web-1")), demand(4, Some("web-0"))],
            containers(),
        );
        assert_eq!(found.containers, BTreeMap::from([(1, set(5)), (2, set(2)), (3, set(5))]));
        assert_eq!((found.everywhere, found.any(), found.paths), (set(0), set(7), false));
        let found = plan(&[demand(1, None), Demand { paths: true, ..demand(2, Some("gone")) }], containers());
        assert_eq!((found.everywhere, found.containers.len(), found.paths), (set(1), 0, true));
        assert!(plan(&[demand(2, Some("gone"))], containers()).is_empty(), "nobody has that name yet");
    }

    #[test]
    fn more_containers_than_there_is_room_for_are_all() {
        let many = (0..=u64::from(WATCHED)).map(|id| (id, pod("web")));
        let found = plan(&[demand(1, Some("web"))], many);
        assert_eq!((found.everywhere, found.containers.len()), (set(1), 0));
    }
}
