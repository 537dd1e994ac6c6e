//! Whole pages, one after the other.

use std::{collections::BTreeMap, sync::Arc};

use super::{Budget, Figures, Fold};
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
    errors: Vec<([&'static str; 2], u64)>,
    connects: Vec<(&'static str, u64)>,
    calls: Vec<(String, u64)>,
    times: Vec<(&'static str, u64)>,
    exits: u64,
}

const BOUNDS: Bounds = Bounds::powers(-3, -2);
/// Series of all others at most: a counter of each family, and a histogram.
const OTHERS: usize = 4 + 5;

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
    /// Whom the last page had, by their labels of now.
    were: Vec<Arc<Labels>>,
    has_renamed: bool,
}

impl Account {
    fn add(&mut self, other: Self) {
        fn merge<K: PartialEq>(all: &mut Vec<(K, u64)>, more: impl Iterator<Item = (K, u64)>) {
            for (key, count) in more {
                match all.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, sum)) => *sum += count,
                    None => all.push((key, count)),
                }
            }
        }
        merge(&mut self.errors, other.errors.into_iter());
        merge(&mut self.connects, other.connects.into_iter());
        merge(&mut self.calls, other.calls.into_iter());
        merge(&mut self.times, other.times.into_iter());
        self.exits += other.exits;
    }
}

impl Node {
    fn new(limit: usize) -> Self {
        let (bases, accounts, figures, before, left, were) = Default::default();
        let budget = Budget::new(limit);
        Self { bases, budget, accounts, figures, limit, before, left, were, has_renamed: false }
    }

    /// A better name has come, under which others may be known already.
    fn rename(&mut self, from: &Arc<Labels>, to: &Arc<Labels>) {
        let account = self.accounts.remove(from).expect("somebody of this name");
        self.account(to).add(account);
        self.were.iter_mut().filter(|labels| *labels == from).for_each(|labels| labels.clone_from(to));
        self.has_renamed = true;
        let text = crate::metrics::labels::text;
        self.budget.rename(&text(from), &text(to));
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
            account.errors.iter().for_each(|(error, count)| errors.count(*base, *error, *count));
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
            // Where a name ends, what the dead have left there ends with it. Nothing is counted twice.
            let was = |family: usize, at: usize| self.left.get(family).map_or(0.0, |left| left[at]);
            for (family, left) in left.iter().enumerate() {
                for (at, more) in left.iter().enumerate() {
                    let was = was(family, at);
                    assert!(*more == was || self.has_renamed && *more < was, "{family}, {at}: {was}, {more}");
                }
            }
        }
        (self.left, self.were) = (left, self.accounts.keys().cloned().collect());
        self.has_renamed = false;
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
    node.account(&web).errors =
        vec![(["openat", "ENOENT"], 5), (["openat", "EACCES"], 3), (["read", "EIO"], 1)];
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
    // Folded is folded, while there is no more room than before.
    node.account(&web).errors[0].1 += 4;
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
    account.errors = vec![(["openat", "ENOENT"], 5), (["openat", "EACCES"], 3)];
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
    let account = node.account(&uid);
    account.exits += 2;
    account.times[0].1 += 4;
    node.rename(&uid, &pod("web", "web-1"));
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

/// One of a crowd that there is no room to tell apart.
fn crowded(node: &mut Node) -> Arc<Labels> {
    for number in 0..400 {
        let account = node.account(&pod("crowd", &format!("crowd-{number:03}")));
        (account.exits, account.times) = (1, vec![("poll", 1)]);
    }
    node.scrape();
    pod("crowd", "crowd-399")
}

/// The values of the only series whose text has all of these.
fn of(shown: &BTreeMap<String, Vec<f64>>, parts: &[&str]) -> Option<Vec<f64>> {
    let mut series = shown.iter().filter(|(series, _)| parts.iter().all(|part| series.contains(part)));
    let (first, more) = (series.next(), series.next());
    assert!(more.is_none(), "{parts:?}: {first:?} and {more:?}");
    first.map(|(_, values)| values.clone())
}

#[test]
fn a_container_that_was_folded_comes_back_when_there_is_room() {
    let mut node = Node::new(200 + OTHERS);
    let one = crowded(&mut node);
    node.account(&one).exits += 5;
    let shown = node.scrape();
    let whole = ["exits{", "workload=\"crowd\",pod=\"other\""];
    let before = of(&shown, &whole).unwrap()[0];
    assert_eq!(of(&shown, &["exits{", "crowd-399"]), None);
    // The others go. What it has counted by now stays where it was told; its own series begin with nothing.
    node.accounts.retain(|labels, _| *labels == one || labels.pod.as_str() < "crowd-003");
    node.account(&one).exits += 3;
    let shown = node.scrape();
    assert_eq!(of(&shown, &whole), Some(vec![before + 3.0]));
    assert_eq!(of(&shown, &["exits{", "crowd-399"]), Some(vec![0.0]));
    assert_eq!(of(&shown, &["time{", "crowd-399"]), Some(vec![0.0; 4]));
    assert_eq!(node.figures.folded, [0; 5]);
    let account = node.account(&one);
    (account.exits, account.times) = (account.exits + 4, vec![("poll", 3), ("read", 1)]);
    let shown = node.scrape();
    assert_eq!(of(&shown, &whole), Some(vec![before + 3.0]));
    assert_eq!(of(&shown, &["exits{", "crowd-399"]), Some(vec![4.0]));
    assert_eq!(of(&shown, &["time{", "crowd-399", "poll"]), Some(vec![1.0, 2.0, 0.0, 2.0]));
    assert_eq!(of(&shown, &["time{", "crowd-399", "read"]), Some(vec![0.5, 1.0, 0.0, 1.0]));
    // When all of them are gone, so is what was told of them together.
    node.accounts.clear();
    assert!(of(&node.scrape(), &whole).is_none());
}

#[test]
fn details_that_were_folded_come_back_when_there_is_room() {
    let mut node = Node::new(1000 + OTHERS);
    let (web, big) = (pod("web", "web-1"), pod("big", "big-1"));
    node.account(&big).calls = calls(910);
    node.scrape();
    node.account(&web).errors = vec![(["openat", "ENOENT"], 5), (["openat", "EACCES"], 3)];
    let (errors, other) = ("errors{", "syscall=\"openat\",errno=\"other\"");
    assert_eq!(of(&node.scrape(), &[errors, "web-1"]), Some(vec![8.0]));
    assert_eq!(node.folded(Fold::Errno), 2);
    // A little room is kept for whoever comes.
    node.account(&big).calls.truncate(900);
    node.account(&web).errors[0].1 += 1;
    assert_eq!(of(&node.scrape(), &[errors, "web-1", other]), Some(vec![9.0]));
    node.accounts.remove(&big);
    node.account(&web).errors[0].1 += 1;
    let shown = node.scrape();
    assert_eq!(of(&shown, &[errors, other]), Some(vec![10.0]));
    assert_eq!(of(&shown, &[errors, "ENOENT"]), Some(vec![0.0]));
    assert_eq!(node.figures.folded, [0; 5]);
    node.account(&web).errors[0].1 += 7;
    let shown = node.scrape();
    assert_eq!(of(&shown, &[errors, other]), Some(vec![10.0]));
    assert_eq!(of(&shown, &[errors, "ENOENT"]), Some(vec![7.0]));
    assert_eq!(of(&shown, &[errors, "EACCES"]), Some(vec![0.0]));
}

/// Something is shown for others at first that has been counted elsewhere by itself.
#[test]
fn what_comes_to_stand_for_others_takes_nothing_back() {
    let mut node = Node::new(1000 + OTHERS);
    let (web, big) = (pod("web", "web-1"), pod("big", "big-1"));
    node.account(&big).calls = calls(940);
    node.scrape();
    node.account(&web).errors = vec![(["openat", "other"], 5)];
    let shown = node.scrape();
    assert_eq!(of(&shown, &["errors{", "syscall=\"other\",errno=\"other\""]), Some(vec![5.0]));
    // Room for a system call, not for an errno.
    node.account(&big).calls.truncate(925);
    node.account(&web).errors.push((["openat", "ENOENT"], 3));
    for _ in 0..3 {
        let shown = node.scrape();
        assert_eq!(of(&shown, &["errors{", "syscall=\"other\",errno=\"other\""]), Some(vec![5.0]));
        assert_eq!(of(&shown, &["errors{", "syscall=\"openat\",errno=\"other\""]), Some(vec![3.0]));
    }
}

#[test]
fn a_better_name_counts_nothing_twice_while_others_keep_the_old_one() {
    let mut node = Node::new(200 + OTHERS);
    let one = crowded(&mut node);
    node.account(&one).exits += 5;
    let whole = ["exits{", "workload=\"crowd\",pod=\"other\""];
    let before = of(&node.scrape(), &whole).unwrap();
    let named = pod("web", "web-1");
    node.rename(&one, &named);
    node.account(&named).exits += 2;
    let shown = node.scrape();
    assert_eq!(of(&shown, &whole), Some(before.clone()), "what it was told to have done by then stays there");
    let now: f64 =
        shown.iter().filter(|(series, _)| series.starts_with("exits")).map(|(_, values)| values[0]).sum();
    assert_eq!(now, 400.0 + 5.0 + 2.0);
    // Also when all the others are gone, for as long as it is there itself.
    node.accounts.retain(|labels, _| *labels == named);
    for _ in 0..2 {
        assert_eq!(of(&node.scrape(), &whole), Some(before.clone()));
    }
    // Its next name has all of it, since nobody is left who needs the former ones.
    node.rename(&named, &pod("shop", "shop-1"));
    let shown = node.scrape();
    assert_eq!(of(&shown, &whole), None);
    assert_eq!(of(&shown, &["exits{", "shop-1"]), Some(vec![1.0 + 5.0 + 2.0]));
}

/// The limit holds also where what stands for all others is more than there is room besides.
#[test]
fn all_others_have_room_however_many_series_they_have() {
    let labels: Vec<_> = (0..400).map(|number| pod(&format!("w-{number:03}"), "one")).collect();
    let mut bases = Bases::default();
    let mut places = bases.place(labels.iter());
    places.sort();
    let reasons =
        ["refused", "reset", "timed_out", "host_unreachable", "net_unreachable", "aborted", "other"];
    let bounds = Bounds::powers(-14, 7);
    let mut budget = Budget::new(400);
    for seen in [1, 4, 7] {
        let mut page = Page::new(bases.texts(), Detail::ALL);
        let mut time = Filling::histogram("time", "", &["reason"], bounds);
        for base in &places {
            reasons[..seen].iter().for_each(|reason| time.observe(*base, [*reason], 1, &[1; 23]));
        }
        page.add(time);
        let (page, figures) = budget.fit(page);
        assert!(figures.series <= 400 && figures.series >= 7 * 25, "{seen}: {figures:?}");
        budget.remember(&Arc::new(page));
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
    let (mut has_folded, mut has_come_back) = ([false; Fold::ALL.len()], false);
    for round in 1..=300 {
        for _ in 0..next(12) {
            let labels = pod(&format!("w{}", next(9)), &format!("p{}", next(40)));
            let account = node.account(&labels);
            let (exits, calls) = (next(2), vec![(format!("call{}", next(30)), 1)]);
            account.add(Account { exits, calls, ..Account::default() });
            let (errno, peer, class) =
                (errnos[next(5) as usize], peers[next(4) as usize], classes[next(4) as usize]);
            account.add(Account {
                errors: vec![(["openat", errno], 1)],
                connects: vec![(peer, 1)],
                times: vec![(class, 1)],
                ..Account::default()
            });
        }
        let mut some = |node: &Node| {
            let place = next(node.accounts.len().max(1) as u64);
            node.accounts.keys().nth(place as usize).cloned()
        };
        if let Some(gone) = some(&node).filter(|_| round % 3 == 0) {
            node.accounts.remove(&gone);
        }
        if let Some(from) = some(&node).filter(|_| round % 5 == 0) {
            node.rename(&from, &pod(&format!("w{}", round % 17), &format!("q{round}")));
        }
        if let (Some(from), Some(to)) = (some(&node), some(&node).filter(|_| round % 7 == 0))
            && from != to
        {
            node.rename(&from, &to);
        }
        if round % 60 == 0 {
            node.accounts.retain(|labels, _| labels.pod.ends_with('7'));
        }
        let shown = node.scrape();
        has_come_back |= shown.values().any(|values| values.iter().all(|value| *value == 0.0));
        Fold::ALL.into_iter().for_each(|fold| has_folded[fold as usize] |= node.folded(fold) > 0);
    }
    assert!(has_come_back && has_folded == [true; Fold::ALL.len()], "{has_folded:?}");
}
