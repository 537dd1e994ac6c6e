//! Whole pages, one after the other.

use std::{collections::BTreeMap, sync::Arc};

use super::{Budget, Figures, Fold, OTHERS};
use crate::{
    exemplar::Exemplar,
    identity::Labels,
    metrics::{
        Bounds, Detail, Filling, Page,
        labels::Bases,
        page::{Family, seconds},
    },
};

/// A container's counts: of calls, errors, connects to peers, classes of calls, and without detail.
#[derive(Clone, Default)]
struct Account {
    errors: Vec<(&'static str, &'static str, u64)>,
    connects: Vec<(&'static str, u64)>,
    calls: Vec<(String, u64)>,
    times: Vec<(&'static str, u64)>,
    exits: u64,
}

const BOUNDS: Bounds = Bounds::powers(-3, -2);

fn pod(workload: &str, pod: &str) -> Arc<Labels> {
    Arc::new(Labels {
        namespace: "shop".into(),
        workload_kind: "Deployment".into(),
        workload: workload.into(),
        pod: pod.into(),
        container: "app".into(),
    })
}

/// What a node has, from scrape to scrape.
struct Node {
    bases: Bases,
    budget: Budget,
    accounts: BTreeMap<Arc<Labels>, Account>,
    figures: Figures,
    limit: usize,
    before: BTreeMap<String, Vec<f64>>,
    /// What is shown of those who are gone, by family.
    left: Vec<Vec<f64>>,
    /// Whom the last page had.
    were: Vec<Arc<Labels>>,
}

impl Node {
    fn new(limit: usize) -> Self {
        let (bases, accounts, figures, before, left, were) = Default::default();
        Self { bases, budget: Budget::new(limit), accounts, figures, limit, before, left, were }
    }

    fn account(&mut self, labels: &Arc<Labels>) -> &mut Account {
        self.accounts.entry(Arc::clone(labels)).or_default()
    }

    fn page(&mut self) -> Page {
        let mut places: Vec<_> =
            self.bases.place(self.accounts.keys()).into_iter().zip(self.accounts.values()).collect();
        places.sort_by_key(|(base, _)| *base);
        let mut page = Page::new(self.bases.texts(), Detail::ALL);
        let mut errors = Filling::counter("errors", "", &["syscall", "errno"]);
        let mut connects = Filling::counter("connects", "", &["peer_namespace", "peer_workload"]);
        let mut calls = Filling::counter("calls", "", &["syscall"]);
        let mut times = Filling::histogram("time", "", &["class"], BOUNDS);
        let mut exits = Filling::counter("exits", "", &[]);
        for (base, account) in &places {
            for (call, errno, count) in &account.errors {
                errors.count(*base, [*call, *errno], *count);
            }
            account.connects.iter().for_each(|(peer, count)| connects.count(*base, ["ns", *peer], *count));
            account.calls.iter().for_each(|(call, count)| calls.count(*base, [call.as_str()], *count));
            for (class, count) in &account.times {
                times.observe(*base, [*class], *count * 500_000_000, &[*count, 0, *count]);
            }
            if account.exits > 0 {
                exits.count(*base, [], account.exits);
            }
        }
        [errors, connects, calls, times, exits].into_iter().for_each(|family| page.add(family));
        page
    }

    /// What is shown, by family and labels. Nothing goes back, and the sums are those of the accounts.
    fn scrape(&mut self) -> BTreeMap<String, Vec<f64>> {
        let page = self.page();
        let expected: Vec<_> = page.families.iter().map(sum).collect();
        let (page, figures) = self.budget.fit(page);
        self.figures = figures;
        assert_eq!(figures.series, page.series());
        assert!(figures.series <= self.limit, "{figures:?}");
        let mut shown = BTreeMap::new();
        for family in &page.families {
            for sample in &family.samples {
                let labels = format!(
                    "{}{{{}{}",
                    family.name,
                    page.bases.piece(sample.base),
                    family.own.piece(sample.own)
                );
                let amounts = family.amounts(sample);
                let values = amounts.iter().enumerate().map(|(at, amount)| {
                    if amounts.len() > 1 && at == 0 { seconds(*amount) } else { *amount as f64 }
                });
                assert!(shown.insert(labels.clone(), values.collect()).is_none(), "twice: {labels}");
            }
        }
        let more = |(family, expected): (&Family, &Vec<f64>)| -> Vec<f64> {
            sum(family).iter().zip(expected).map(|(shown, counted)| shown - counted).collect()
        };
        let left: Vec<_> = page.families.iter().zip(&expected).map(more).collect();
        assert!(left.iter().flatten().all(|more| *more >= 0.0), "nothing is missing: {left:?}");
        if self.were.iter().all(|labels| self.accounts.contains_key(labels)) {
            let before = std::mem::take(&mut self.left);
            assert!(
                before.is_empty() && left.iter().flatten().all(|more| *more == 0.0) || before == left,
                "{left:?}"
            );
        }
        (self.left, self.were) = (left, self.accounts.keys().cloned().collect());
        for (series, values) in &self.before {
            let Some(now) = shown.get(series) else { continue };
            assert!(
                values.iter().zip(now).all(|(before, now)| before <= now),
                "{series}: {values:?}, {now:?}"
            );
        }
        self.before.clone_from(&shown);
        self.budget.remember(&Arc::new(page));
        shown
    }

    fn folded(&self, fold: Fold) -> usize {
        self.figures.folded[fold as usize]
    }
}

fn sum(family: &Family) -> Vec<f64> {
    let mut sums = vec![0.0; family.width()];
    for sample in &family.samples {
        for (at, amount) in family.amounts(sample).iter().enumerate() {
            sums[at] += if sums.len() > 1 && at == 0 { seconds(*amount) } else { *amount as f64 };
        }
    }
    sums
}

fn calls(count: usize) -> Vec<(String, u64)> {
    (0..count).map(|call| (format!("call{call:03}"), 10 + call as u64)).collect()
}

#[test]
fn a_page_below_the_limit_passes_as_it_is() {
    let mut node = Node::new(900 + OTHERS);
    let web = pod("web", "web-1");
    *node.account(&web) = Account { calls: calls(700), exits: 3, ..Account::default() };
    assert_eq!(node.scrape().len(), 701);
    assert_eq!(node.figures, Figures { series: 701, folded: [0; 5] });
    assert!(node.budget.folding.is_none());
    let mut free = Node::new(0);
    *free.account(&web) = Account { calls: calls(7000), ..Account::default() };
    free.limit = usize::MAX;
    assert_eq!(free.scrape().len(), 7000);
    assert!(free.budget.last.is_none(), "nothing is kept for nothing");
}

#[test]
fn what_is_shown_stays_and_what_is_new_is_folded() {
    let mut node = Node::new(900 + OTHERS);
    let web = pod("web", "web-1");
    *node.account(&web) = Account { calls: calls(800), ..Account::default() };
    let first = node.scrape();
    node.account(&web).errors = vec![("openat", "ENOENT", 5), ("openat", "EACCES", 3), ("read", "EIO", 1)];
    node.account(&web).calls = calls(900);
    let second = node.scrape();
    assert!(first.keys().all(|series| second.contains_key(series)));
    assert_eq!((node.folded(Fold::Errno), node.folded(Fold::Syscall)), (0, 3 + 56));
    let other = second.iter().find(|(series, _)| series.contains("errors")).unwrap();
    assert!(other.0.contains("syscall=\"other\",errno=\"other\""), "{other:?}");
    assert_eq!(other.1, &[9.0]);
    // The busiest of the new ones keep their names.
    assert!(second.keys().any(|series| series.contains("call899")), "{second:?}");
    assert!(!second.keys().any(|series| series.contains("call800")));
    // Folded is folded, also when there is room again.
    node.account(&web).errors[0].2 += 4;
    node.account(&web).calls[800].1 += 7;
    let third = node.scrape();
    assert_eq!(second.keys().collect::<Vec<_>>(), third.keys().collect::<Vec<_>>());
}

#[test]
fn errnos_go_before_calls_and_containers() {
    let mut node = Node::new(1000 + OTHERS);
    let web = pod("web", "web-1");
    // 94 of 100 are below the ceiling of calls, and above that of errnos and peers.
    *node.account(&web) = Account { calls: calls(925), ..Account::default() };
    node.scrape();
    let account = node.account(&web);
    account.errors = vec![("openat", "ENOENT", 5), ("openat", "EACCES", 3)];
    account.connects = vec![("db", 7), ("cache", 2)];
    let shown = node.scrape();
    assert_eq!((node.folded(Fold::Errno), node.folded(Fold::Peer), node.folded(Fold::Syscall)), (2, 2, 0));
    let of = |text: &str| shown.iter().find(|(series, _)| series.contains(text)).map(|(_, values)| values[0]);
    assert_eq!(of("syscall=\"openat\",errno=\"other\""), Some(8.0));
    assert_eq!(of("peer_namespace=\"\",peer_workload=\"other\""), Some(9.0));
}

#[test]
fn exemplars_go_with_what_they_are_of() {
    let labels = [pod("web", "web-1")];
    let peers: Vec<_> = (0..200).map(|peer| format!("peer-{peer}")).collect();
    let mut bases = Bases::default();
    let base = bases.place(labels.iter())[0];
    let mut page = Page::new(bases.texts(), Detail::ALL);
    let mut connects = Filling::counter("connects", "", &["peer_namespace", "peer_workload"]);
    for (count, peer) in (1..).zip(&peers) {
        connects.count(base, ["ns", peer], count);
        connects.exemplify(0, Some(&Exemplar::at(count)));
    }
    page.add(connects);
    let (page, figures) = Budget::new(100 + OTHERS).fit(page);
    let folded = figures.folded[Fold::Peer as usize] as u64;
    assert!((50..150).contains(&folded), "{figures:?}");
    let family = &page.families[0];
    assert_eq!(family.samples.len() as u64, 201 - folded);
    for sample in &family.samples {
        let exemplars: Vec<_> = family.exemplars(sample).map(|(_, exemplar)| exemplar.unix_ns).collect();
        let is_other = family.own.piece(sample.own).contains("\"other\"");
        // Those that count least are folded; what stands for them has the last of theirs.
        assert_eq!(exemplars, [if is_other { folded } else { sample.value }]);
    }
}

#[test]
fn containers_have_equal_shares() {
    let mut node = Node::new(1000 + OTHERS);
    let (greedy, modest) = (pod("greedy", "greedy-1"), pod("modest", "modest-1"));
    *node.account(&greedy) = Account { calls: calls(5000), ..Account::default() };
    *node.account(&modest) = Account { calls: calls(60), exits: 1, ..Account::default() };
    let shown = node.scrape();
    let of = |workload: &str| shown.keys().filter(|series| series.contains(workload)).count();
    assert_eq!(of("modest"), 61, "all that it wants");
    assert!(of("greedy") > 800, "and what is left for the other: {}", of("greedy"));
    // Whoever comes later still has a place.
    let late = pod("late", "late-1");
    let times = vec![("read", 4), ("write", 6)];
    *node.account(&late) = Account { calls: calls(50), times, exits: 2, ..Account::default() };
    let shown = node.scrape();
    let of: Vec<_> = shown.iter().filter(|(series, _)| series.contains("late-1")).collect();
    assert_eq!(of.len(), 3, "{of:?}");
    let time = of.iter().find(|(series, _)| series.starts_with("time")).unwrap();
    assert_eq!(time.1, &[5.0, 10.0, 0.0, 10.0]);
    assert!(time.0.contains("class=\"other\""));
}

#[test]
fn a_crowd_of_containers_is_told_by_workload_and_nothing_is_lost_when_they_go() {
    let mut node = Node::new(900 + OTHERS);
    let crowd: Vec<_> = (0..900).map(|number| pod("crowd", &format!("crowd-{number:04}"))).collect();
    for (number, labels) in crowd.iter().enumerate() {
        *node.account(labels) = Account { calls: calls(3), exits: number as u64 + 1, ..Account::default() };
    }
    let shown = node.scrape();
    assert!(node.folded(Fold::Container) > 0);
    assert_eq!(node.folded(Fold::Workload), 0);
    let whole = "exits{namespace=\"shop\",workload_kind=\"Deployment\",workload=\"crowd\",pod=\"other\",container=\"other\"} ";
    let before = shown[whole][0];
    // Some go that were counted in the whole, and the others go on.
    let gone: Vec<_> = crowd.iter().rev().take(100).cloned().collect();
    let mut left = 0.0;
    for labels in &gone {
        left += node.accounts.remove(labels).unwrap().exits as f64;
    }
    node.account(&crowd[700]).exits += 5;
    let shown = node.scrape();
    assert_eq!(shown[whole][0], before + 5.0, "of which {left} are of those who are gone");
    // As many workloads as there is no room for.
    for number in 0..1500 {
        node.account(&pod(&format!("single-{number:04}"), "one")).exits = 2;
    }
    node.scrape();
    assert!(node.folded(Fold::Workload) > 0);
    // When all of a workload are gone, its series end; all others' stay.
    node.accounts.retain(|labels, _| labels.workload != "crowd");
    let shown = node.scrape();
    assert!(!shown.keys().any(|series| series.contains("crowd")));
    node.accounts.clear();
    let shown = node.scrape();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown.keys().all(|series| series.contains("workload=\"other\"")));
}

#[test]
fn a_better_name_counts_nothing_twice() {
    let mut node = Node::new(200 + OTHERS);
    for number in 0..400 {
        let account = node.account(&pod("early", &format!("early-{number}")));
        (account.exits, account.times) = (1, vec![("poll", 1)]);
    }
    let uid = pod("uid", "uid");
    *node.account(&uid) = Account { exits: 5, times: vec![("poll", 6)], ..Account::default() };
    node.scrape();
    assert!(!node.scrape().keys().any(|series| series.contains("pod=\"uid\"")));
    // Room, and a name.
    node.accounts.retain(|labels, _| labels.workload == "uid");
    node.scrape();
    let mut account = node.accounts.remove(&uid).unwrap();
    let named = pod("web", "web-1");
    account.exits += 2;
    account.times[0].1 += 4;
    node.accounts.insert(Arc::clone(&named), account);
    let text = crate::metrics::labels::text;
    node.budget.rename(&text(&uid), &text(&named));
    for _ in 0..2 {
        let shown = node.scrape();
        let of = |family: &str| -> Vec<_> {
            let own =
                shown.iter().filter(|(series, _)| series.starts_with(family) && series.contains("web-1"));
            own.map(|(_, values)| values.clone()).collect()
        };
        // What its former workload was told to have done went with that, what all others have stays there.
        assert_eq!(of("exits"), [[7.0]], "{shown:?}");
        assert_eq!(of("time"), [[2.0, 4.0, 0.0, 4.0]]);
    }
}

#[test]
fn whatever_comes_and_goes_the_limit_holds_and_no_counter_goes_back() {
    let mut node = Node::new(600 + OTHERS);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let errnos = ["ENOENT", "EACCES", "EIO", "EAGAIN", "other"];
    let peers = ["db", "cache", "web", "queue"];
    let classes = ["read", "write", "poll", "other"];
    for _ in 0..300 {
        for _ in 0..next(12) {
            let labels = pod(&format!("w{}", next(9)), &format!("p{}", next(40)));
            let account = node.account(&labels);
            account.exits += next(2);
            let call = format!("call{}", next(30));
            match account.calls.iter_mut().find(|(name, _)| *name == call) {
                Some((_, count)) => *count += 1,
                None => account.calls.push((call, 1)),
            }
            let (errno, peer, class) =
                (errnos[next(5) as usize], peers[next(4) as usize], classes[next(4) as usize]);
            match account.errors.iter_mut().find(|(_, name, _)| *name == errno) {
                Some((.., count)) => *count += 1,
                None => account.errors.push(("openat", errno, 1)),
            }
            match account.connects.iter_mut().find(|(name, _)| *name == peer) {
                Some((_, count)) => *count += 1,
                None => account.connects.push((peer, 1)),
            }
            match account.times.iter_mut().find(|(name, _)| *name == class) {
                Some((_, count)) => *count += 1,
                None => account.times.push((class, 1)),
            }
        }
        if next(3) == 0 {
            let gone = node.accounts.keys().nth(next(node.accounts.len().max(1) as u64) as usize).cloned();
            node.accounts.retain(|labels, _| Some(labels) != gone.as_ref());
        }
        node.scrape();
    }
    assert!(
        Fold::ALL.into_iter().all(|fold| fold == Fold::Errno || node.folded(fold) > 0),
        "{:?}",
        node.figures
    );
}
