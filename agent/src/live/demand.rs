//! What readers want of the kernel beyond what it tells anyway: single system calls.

use std::sync::Arc;

use agent_ebpf::contract::{
    calls::{CallSet, WATCHED, insert},
    event::EventKind,
    syscalls::NUMBERS,
};

use crate::{
    filter::{Circumstance, Filter, SYSCALL},
    identity::Labels,
    sensor::{
        calls::{Plan, unite},
        syscalls::name,
    },
};

/// Up to so many calls are looked at one by one for each container; of more, a container gets all or none.
const FEW: usize = 32;

/// Calls that one reader wants, and of which containers.
#[derive(Debug)]
pub struct Demand {
    filter: Filter,
    /// By number and name.
    calls: Vec<(u32, String)>,
    /// Whether the paths in their arguments are wanted, too.
    paths: bool,
}

impl Demand {
    /// What the kernel has to watch for the sake of one who reads with this filter.
    pub fn of(filter: &Filter, paths: bool) -> Option<Self> {
        let calls: Vec<_> = (0..NUMBERS as u32)
            .map(|number| (number, name(number)))
            .filter(|(_, name)| may_want(filter, Some(name), None))
            .collect();
        (!calls.is_empty()).then(|| Self { filter: filter.clone(), calls, paths })
    }

    /// Calls that are wanted of a container with these labels, whatever they are if there are none.
    fn calls(&self, labels: Option<&Labels>) -> CallSet {
        let mut calls = CallSet::default();
        let are_few = self.calls.len() <= FEW;
        if are_few || may_want(&self.filter, None, labels) {
            let wanted = |name: &str| !are_few || may_want(&self.filter, Some(name), labels);
            self.calls
                .iter()
                .filter(|(_, name)| wanted(name))
                .for_each(|(number, _)| insert(&mut calls, *number));
        }
        calls
    }
}

fn may_want(filter: &Filter, syscall: Option<&str>, labels: Option<&Labels>) -> bool {
    let named = [(SYSCALL, syscall)];
    let texts = if syscall.is_some() { &named[..] } else { &[] };
    filter.may_want(&Circumstance { kind: Some(EventKind::SyscallCall), labels, texts })
}

/// What the kernel has to watch so that every reader gets what it wants of these containers, and of strangers, if there are
/// any: at least that, maybe more.
pub fn plan<L: AsRef<Labels>>(
    demands: &[Arc<Demand>],
    containers: impl IntoIterator<Item = (u64, L)>,
    strangers: bool,
) -> Plan {
    let mut plan = Plan { paths: demands.iter().any(|demand| demand.paths), ..Plan::default() };
    let (chosen, for_all): (Vec<_>, Vec<_>) =
        demands.iter().partition(|demand| demand.filter.looks_at_labels());
    for demand in for_all {
        unite(&mut plan.everywhere, &demand.calls(None));
    }
    // Who isn't listed can't be told from who is: the agent sorts that out.
    for labels in [Labels::unknown(), Labels::other()].iter().filter(|_| strangers) {
        for demand in &chosen {
            unite(&mut plan.everywhere, &demand.calls(Some(labels)));
        }
    }
    for (id, labels) in containers {
        for calls in chosen.iter().map(|demand| demand.calls(Some(labels.as_ref()))) {
            if calls != CallSet::default() {
                unite(plan.containers.entry(id).or_default(), &calls);
            }
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::sensor::syscalls::number;

    fn demand(filter: &str) -> Arc<Demand> {
        Arc::new(Demand::of(&Filter::parse(filter).unwrap(), false).unwrap())
    }

    fn set(names: &[&str]) -> CallSet {
        let mut set = CallSet::default();
        names.iter().for_each(|name| insert(&mut set, number(name).unwrap()));
        set
    }

    fn pod(name: impl ToString) -> Arc<Labels> {
        Arc::new(Labels { pod: name.to_string(), ..Labels::default() })
    }

    #[test]
    fn a_plan_is_the_sum_of_what_is_wanted() {
        let containers = || [(1, pod("web-0")), (2, pod("web-1")), (3, pod("web-0"))];
        assert!(plan(&[], containers(), false).is_empty());
        let demands = ["syscall=read pod=web-0", "syscall=write pod=web-1", "syscall=close pod=web-0"];
        let found = plan(&demands.map(demand), containers(), false);
        let zero = set(&["read", "close"]);
        assert_eq!(found.containers, BTreeMap::from([(1, zero), (2, set(&["write"])), (3, zero)]));
        assert_eq!(
            (found.everywhere, found.any(), found.paths),
            (set(&[]), set(&["read", "write", "close"]), false)
        );
        let gone = Filter::parse("syscall=write pod=gone").unwrap();
        let gone = Arc::new(Demand::of(&gone, true).unwrap());
        let found = plan(&[demand("syscall=read"), Arc::clone(&gone)], containers(), false);
        assert_eq!((found.everywhere, found.containers.len(), found.paths), (set(&["read"]), 0, true));
        assert!(plan(&[gone], containers(), false).is_empty(), "nobody has that name yet");
    }

    #[test]
    fn a_tree_tells_which_calls_of_which_containers() {
        let containers = || [(1, pod("web-0")), (2, pod("web-1"))];
        let of = |filter: &str| plan(&[demand(filter)], containers(), false).containers;
        let both = BTreeMap::from([(1, set(&["read"])), (2, set(&["write"]))]);
        assert_eq!(of("pod=web-0 syscall=read or pod=web-1 syscall=write"), both);
        assert_eq!(of("pod=web-0 or syscall=read").len(), 2);
        assert_eq!(of("not (pod!=web-0 or syscall!=read)"), BTreeMap::from([(1, set(&["read"]))]));
        assert_eq!(of("pod!=web-0 syscall~'^read$' errno=EIO"), BTreeMap::from([(2, set(&["read"]))]));
        let all = of("pod=web-1 syscall");
        assert_eq!((all.len(), all[&2]), (1, [u64::MAX; _]));
        for filter in
            ["", "pod=web-0", "kind=syscall", "kind=syscall.call", "syscall!=read", "kind=tcp syscall=read"]
        {
            assert!(Demand::of(&Filter::parse(filter).unwrap(), true).is_none(), "{filter}");
        }
    }

    #[test]
    fn strangers_are_watched_by_who_wants_them() {
        let of = |filter: &str, strangers| plan(&[demand(filter)], [(1, pod("web-0"))], strangers).everywhere;
        assert_eq!(of("syscall=read namespace!=x", true), set(&["read"]));
        assert_eq!(of("syscall=read workload=other", true), set(&["read"]));
        assert_eq!(of("syscall=read namespace!=x", false), set(&[]), "there are none");
        assert_eq!(of("syscall=read pod=web-0", true), set(&[]), "they are in no pod");
    }

    #[test]
    fn more_containers_than_there_is_room_for_are_all() {
        let many = (0..=u64::from(WATCHED)).map(|id| (id, pod("web")));
        let found = plan(&[demand("syscall=read pod=web")], many, false);
        assert_eq!((found.everywhere, found.containers.len()), (set(&["read"]), 0));
    }
}
