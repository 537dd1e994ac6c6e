use std::fs;

use super::*;
use crate::identity::testing::{Scratch, no_names};

const BOUNDS: Bounds = Bounds { containers: 8, hold: Duration::from_secs(5), grace: Duration::from_secs(60) };

/// A registry on a tree of its own, and a clock.
struct Bench {
    scratch: Scratch,
    registry: Registry,
    now: Instant,
}

impl Bench {
    fn new(name: &str, bounds: Bounds) -> Self {
        let scratch = Scratch::new(name);
        let registry = Registry::new(Tree::at(scratch.path()).unwrap(), bounds, no_names());
        Self { scratch, registry, now: Instant::now() }
    }

    /// Makes a cgroup that nobody reports.
    fn mkdir(&self, path: &str) -> u64 {
        self.mkdir_at(path, &format!("/{path}"))
    }

    /// The same where it has another path in the hierarchy.
    fn mkdir_at(&self, path: &str, in_hierarchy: &str) -> u64 {
        fs::create_dir_all(self.scratch.path().join(path)).unwrap();
        self.registry.tree().id_at(Path::new(in_hierarchy)).unwrap()
    }

    fn rmdir(&self, path: &str) {
        fs::remove_dir(self.scratch.path().join(path)).unwrap();
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn born(&self, id: u64, path: &str) {
        self.registry.born(id, path, self.now);
    }

    fn died(&self, id: u64) {
        self.registry.died(id, None, self.now);
    }

    fn scan(&self) -> ScanReport {
        self.registry.scan(self.now).unwrap()
    }

    fn resolve(&self, id: u64) -> Resolution {
        self.registry.resolve(id, self.now)
    }

    /// The workload label, or the name of what else came of it.
    fn workload(&self, id: u64) -> String {
        match self.resolve(id) {
            Resolution::Known(container) => container.labels().workload.clone(),
            other => format!("{other:?}"),
        }
    }

    /// With the workloads under which they were shown.
    fn expire_shown(&self) -> Vec<(u64, String)> {
        let forgotten = self.registry.expire(self.now).into_iter();
        forgotten.map(|Forgotten { id, labels }| (id, labels.workload.clone())).collect()
    }

    fn expire(&self) -> Vec<u64> {
        self.expire_shown().into_iter().map(|(id, _)| id).collect()
    }

    fn stats(&self) -> Stats {
        self.registry.stats()
    }

    fn alive(&self, id: u64) -> bool {
        self.registry.list().iter().any(|listed| listed.container.cgroup_id == id && listed.is_alive())
    }
}

#[test]
fn births_and_scans_make_known_and_are_counted_by_way() {
    let bench = Bench::new("ways", BOUNDS);
    bench.born(1_000_001, "/batch/job-7");
    assert_eq!(bench.workload(1_000_001), "/batch/job-7");
    let scanned = bench.mkdir("nginx.service");
    assert!(matches!(bench.resolve(scanned), Resolution::Pending));
    assert!(bench.registry.pending());
    let unasked = bench.mkdir("web.service");
    let report = bench.scan();
    // The tree's root and two more; the one that was born in the air isn't in the tree.
    assert_eq!((report.found, report.added, report.died, report.refused), (3, 3, 1, 0));
    assert_eq!(bench.workload(scanned), "nginx.service");
    assert_eq!(bench.workload(unasked), "web.service");
    assert!(!bench.registry.pending());
    let stats = bench.stats();
    assert_eq!((stats.kernel_event, stats.scan, stats.late, stats.never), (1, 2, 1, 0));
    assert_eq!((stats.alive, stats.dead, stats.pending), (3, 1, 0));
}

#[test]
fn the_root_is_known_by_its_inode_and_zero_is_nobody() {
    let bench = Bench::new("root", BOUNDS);
    bench.scan();
    let Resolution::Known(root) = bench.resolve(bench.registry.tree().root_id()) else { panic!("root") };
    assert_eq!(root.placement, Placement::Host);
    assert!(matches!(bench.resolve(0), Resolution::Unknown));
    assert!(!bench.registry.pending());
}

#[test]
fn what_nobody_names_within_the_hold_is_unknown_for_good() {
    let mut bench = Bench::new("hold", BOUNDS);
    let id = bench.mkdir("late.service");
    assert!(matches!(bench.resolve(id), Resolution::Pending));
    bench.pass(4);
    assert!(matches!(bench.resolve(id), Resolution::Pending));
    bench.pass(1);
    assert!(matches!(bench.resolve(id), Resolution::Unknown));
    // Neither a scan nor an event, nor time, moves it to another series.
    bench.scan();
    bench.born(id, "/late.service");
    bench.pass(1000);
    assert!(bench.expire().is_empty());
    assert!(matches!(bench.resolve(id), Resolution::Unknown));
    assert_eq!((bench.stats().never, bench.stats().given_up), (1, 1));
    // Until it is gone: a scan notices, and after the grace it is forgotten.
    bench.rmdir("late.service");
    bench.scan();
    bench.pass(60);
    assert_eq!(bench.expire(), [id]);
    assert_eq!(bench.stats().given_up, 0);
}

#[test]
fn the_hold_ends_even_if_nobody_asks_again() {
    let mut bench = Bench::new("hold-ends", BOUNDS);
    bench.resolve(77);
    bench.pass(5);
    bench.born(77, "/late");
    assert!(matches!(bench.resolve(77), Resolution::Unknown));
    bench.resolve(78);
    bench.pass(5);
    bench.expire();
    assert_eq!((bench.stats().never, bench.stats().pending), (2, 0));
}

#[test]
fn the_dead_are_known_for_the_grace() {
    let mut bench = Bench::new("grace", BOUNDS);
    bench.born(5, "/job");
    bench.pass(1);
    bench.died(5);
    bench.pass(59);
    assert!(bench.expire().is_empty());
    assert_eq!(bench.workload(5), "/job");
    assert!(!bench.alive(5));
    bench.pass(1);
    assert_eq!(bench.expire(), [5]);
    assert!(bench.expire().is_empty());
    assert_eq!(bench.workload(5), "Pending");
}

#[test]
fn a_death_that_brings_a_path_names_the_short_lived() {
    let mut bench = Bench::new("short", BOUNDS);
    assert_eq!(bench.workload(9), "Pending");
    bench.registry.died(9, Some(Path::new("/blink")), bench.now);
    assert_eq!(bench.workload(9), "/blink");
    assert_eq!((bench.stats().late, bench.stats().dead), (1, 1));
    bench.pass(60);
    assert_eq!(bench.expire(), [9]);
}

#[test]
fn a_walk_that_was_cut_kills_nobody_who_is_there() {
    let bench = Bench::new("cut", Bounds { containers: 2, ..BOUNDS });
    let id = bench.mkdir("a.service");
    bench.born(id, "/a.service");
    for i in 0..10 {
        bench.mkdir(&format!("z{i}"));
    }
    let report = bench.scan();
    assert!(report.cut > 0);
    assert!(bench.alive(id));
    bench.rmdir("a.service");
    bench.scan();
    assert!(!bench.alive(id));
}

#[test]
fn room_is_made_of_the_longest_dead_never_of_the_living() {
    let mut bench = Bench::new("room", Bounds { containers: 3, ..BOUNDS });
    for id in [11, 12, 13] {
        bench.born(id, "/x");
    }
    bench.born(14, "/refused");
    assert!(matches!(bench.resolve(14), Resolution::Overflow));
    assert!(bench.alive(11) && bench.alive(12) && bench.alive(13));
    bench.died(12);
    bench.pass(1);
    bench.died(11);
    bench.born(15, "/y");
    assert!(bench.alive(15) && !bench.alive(12));
    assert_eq!(bench.workload(11), "/x");
    assert_eq!(bench.expire_shown(), [(12, "/x".to_owned())]);
    // Room or not, what was counted as "other" stays there.
    bench.born(14, "/refused");
    assert!(matches!(bench.resolve(14), Resolution::Overflow));
    let stats = bench.stats();
    assert_eq!((stats.evicted, stats.alive, stats.dead), (1, 2, 1));
    assert_eq!(stats.refused, 2);
}

#[test]
fn whose_labels_are_ids_is_known_by_them() {
    const UID: &str = "6d5f1c1e-8c0b-4f0e-9a7e-3f2b1c0d9e8f";
    let bench = Bench::new("nameless", BOUNDS);
    let id = |digit: &str| digit.repeat(64);
    let pod = format!("/kubepods/burstable/pod{UID}/{}", id("a"));
    for (cgroup, path) in [
        (1, pod.as_str()),
        (2, &format!("/docker/{}", id("b"))),
        (3, "/lxc/web"),
        (4, "/system.slice/nginx.service"),
    ] {
        bench.born(cgroup, path);
    }
    let nameless = bench.registry.nameless();
    let mut found: Vec<_> = nameless
        .iter()
        .map(|(labels, of)| (labels.values().join(" "), of.container_id().map(str::len), of.pod_uid()))
        .collect();
    found.sort();
    let (a, b) = (id("a")[..12].to_owned(), id("b")[..12].to_owned());
    assert_eq!(
        found,
        [
            // The workload's series, and the container's.
            (format!(" Pod {UID}  "), None, Some(UID)),
            (format!(" Pod {UID} {UID} {a}"), Some(64), Some(UID)),
            (format!(" docker {b}  "), Some(64), None),
            (format!(" docker {b}  {b}"), Some(64), None),
        ]
    );
}

#[test]
fn ids_that_are_asked_for_are_bounded_too() {
    let bench = Bench::new("asked", Bounds { containers: 4, ..BOUNDS });
    for id in 100..1000 {
        bench.resolve(id);
    }
    assert_eq!((bench.stats().pending, bench.stats().refused), (4, 896));
    assert!(matches!(bench.resolve(999), Resolution::Overflow));
}

/// The kernel may have given it a slot all the same, which somebody has to take back.
#[test]
fn the_death_of_those_whom_nobody_remembers_is_told() {
    let mut bench = Bench::new("strays", Bounds { containers: 2, ..BOUNDS });
    for id in [1, 2, 3, 4, 5] {
        bench.born(id, "/x");
        bench.resolve(id);
    }
    assert_eq!((bench.stats().alive, bench.stats().given_up), (2, 2));
    bench.registry.died(5, Some(Path::new("/x")), bench.now);
    assert_eq!(bench.expire_shown(), [(5, "other".to_owned())]);
    bench.died(4);
    bench.pass(60);
    assert_eq!(bench.expire_shown(), [(4, "other".to_owned())]);
}

/// With a part of the hierarchy mounted, the kernel still tells of all cgroups.
#[test]
fn a_walk_through_a_part_buries_nobody_outside_of_it() {
    let mut bench = Bench::new("part", BOUNDS);
    for root in ["/part", "/"] {
        let tree = Tree::part(bench.scratch.path(), root).unwrap();
        bench.registry = Registry::new(tree, BOUNDS, no_names());
        bench.born(1_000_001, "/elsewhere/job");
        bench.resolve(1_000_002);
        let inside = bench.mkdir_at("job", &format!("{root}/job"));
        bench.scan();
        assert!(bench.alive(1_000_001) && bench.alive(inside));
        bench.rmdir("job");
        bench.scan();
        assert!(bench.alive(1_000_001) && !bench.alive(inside));
        bench.pass(60);
        assert_eq!(bench.expire(), [inside]);
    }
}
