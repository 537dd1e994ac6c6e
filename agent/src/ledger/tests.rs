//! What becomes of the accounts of those who are gone.

use super::*;

fn pod(name: &str) -> Arc<Labels> {
    Arc::new(Labels {
        namespace: "shop".into(),
        workload_kind: "Deployment".into(),
        workload: "web".into(),
        pod: name.into(),
        container: "app".into(),
    })
}

fn account() -> Account {
    let mut account = Account { throttled: 1, ..Account::default() };
    account.oom.record("container");
    account.process.record_exec();
    account.process.record_exit(process::OOM_KILLED);
    account
}

#[test]
fn kills_and_exits_stay_with_the_workload() {
    let mut carried = HashMap::from([(pod("web-1"), account())]);
    let_go(&mut carried, &HashSet::from([pod("web-2")]), &mut Gone::default());
    let left = &carried[&pod("web-1")];
    assert!(!left.oom.is_empty());
    assert_eq!(left.process, account().process.exits());
    assert_ne!(left.process, account().process);
    assert_eq!(left.throttled, 0);

    let_go(&mut carried, &HashSet::new(), &mut Gone::default());
    assert!(carried.is_empty());
}

#[test]
fn the_living_are_dropped_last() {
    let mut carried = HashMap::from(["web-1", "web-2", "web-3"].map(|name| (pod(name), account())));
    let living = HashSet::from([pod("web-2")]);
    assert_eq!(bound(&mut carried, 1, &living, &mut Gone::default()), 2);
    assert_eq!(carried.keys().collect::<Vec<_>>(), [&pod("web-2")]);
    assert_eq!(bound(&mut carried, 1, &living, &mut Gone::default()), 0);
}

#[test]
fn nothing_that_a_workload_did_is_lost_while_it_goes_on() {
    let mut carried = HashMap::from(["web-1", "web-2"].map(|name| (pod(name), account())));
    let whole = Arc::new(pod("web-1").of_workload());
    for _ in 0..3 {
        join(&mut carried, &HashSet::from([pod("web-3")]), &mut Gone::default());
        assert_eq!(carried.keys().collect::<Vec<_>>(), [&whole]);
        assert_eq!(carried[&whole].throttled, 2);
    }
    join(&mut carried, &HashSet::new(), &mut Gone::default());
    assert!(carried.is_empty());
}

#[test]
fn everything_stays_with_labels_that_live_on() {
    let mut carried = HashMap::from([(pod("web-1"), account()), (Arc::new(Labels::unknown()), account())]);
    let_go(&mut carried, &HashSet::from([pod("web-1")]), &mut Gone::default());
    assert_eq!(carried.len(), 2);
    assert!(carried.values().all(|account| account.throttled == 1));
}
