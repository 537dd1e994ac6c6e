use std::path::Path;

use super::*;
use crate::identity::{
    Labels, Registry, Resolution, Tree,
    names::{Container as Fact, Details, NameBounds, Pod, PodMetadata, Source, SourceState, Workload},
    registry::Bounds,
    testing::Scratch,
};

const UID: &str = "5ca1ab1e-0000-4000-8000-000000000001";
const BOUNDS: Bounds = Bounds { containers: 8, hold: Duration::from_secs(5), grace: Duration::from_secs(60) };

/// A registry that is asked for container 3 of one pod, and its names.
struct Bench {
    _scratch: Scratch,
    registry: Registry,
    names: Arc<Names>,
    begin: Instant,
}

impl Bench {
    fn new(name: &str, bounds: Bounds) -> Self {
        let scratch = Scratch::new(name);
        let names = Arc::new(Names::new(NameBounds { containers: 8, grace: bounds.grace }));
        let registry = Registry::new(Tree::at(scratch.path()).unwrap(), bounds, Arc::clone(&names));
        Self { _scratch: scratch, registry, names, begin: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.begin + Duration::from_secs(seconds)
    }

    fn born(&self) {
        let path = format!("/kubepods/burstable/pod{UID}/{}", id());
        self.registry.born(3, Path::new(&path), self.begin);
    }

    fn put(&self, source: Source, owner: Option<&str>) {
        let workload = owner.map(|name| Workload { kind: "Deployment".into(), name: name.into() });
        let (namespace, name) = ("shop".into(), "web-1".into());
        let pod = Pod { uid: UID.into(), namespace, name, workload, ..Pod::default() };
        self.names.put_pod(source, pod, self.begin);
        let (pod_uid, name) = (Some(UID.into()), "nginx".into());
        let container = Fact { id: id(), pod_uid, name, ..Fact::default() };
        self.names.put_container(source, container, self.begin);
    }

    /// The labels, or `settling`.
    fn called(&self, now: Instant) -> String {
        match self.registry.resolve(3, now) {
            Resolution::Known(container) => container.labels().values().join(" "),
            Resolution::Settling(_) => "settling".into(),
            other => format!("{other:?}"),
        }
    }
}

/// Puts a container of a pod that says this version of itself, and has this image.
fn pod(bench: &Bench, cgroup_id: u64, says: &str, image: &str) {
    let (uid, id) = (UID.replace("01", &format!("{cgroup_id:02}")), format!("{cgroup_id:064x}"));
    let mut metadata = PodMetadata::default();
    metadata.annotate("resource.opentelemetry.io/service.name", "cart");
    metadata.annotate("resource.opentelemetry.io/service.version", says);
    let workload = Some(Workload { kind: "Deployment".into(), name: "web".into() });
    let (namespace, name) = ("shop".into(), format!("web-{cgroup_id}"));
    let pod =
        Pod { uid: uid.clone(), namespace, name, workload, metadata: metadata.shared(), ..Pod::default() };
    bench.names.put_pod(Source::Kubernetes, pod, bench.begin);
    let container = Fact {
        id: id.clone(),
        pod_uid: Some(uid.clone()),
        name: "nginx".into(),
        version: Some(image.into()),
        restart_count: Some(1),
        ..Fact::default()
    };
    bench.names.put_container(Source::Kubernetes, container, bench.begin);
    bench.registry.born(cgroup_id, Path::new(&format!("/kubepods/burstable/pod{uid}/{id}")), bench.begin);
}

#[test]
fn details_of_a_workload_are_those_on_which_its_containers_agree() {
    let bench = Bench::new("naming-details", BOUNDS);
    pod(&bench, 11, "1", "2.4");
    pod(&bench, 12, "2", "2.4");
    let labels = |pod: &str, container: &str| Labels {
        namespace: "shop".into(),
        workload_kind: "Deployment".into(),
        workload: "web".into(),
        pod: pod.into(),
        container: container.into(),
    };
    let all = bench.registry.details();
    let says = |details: &Details, name: &str| {
        details.pod.as_ref().and_then(|pod| pod.attribute(name).map(str::to_owned))
    };
    let one = &all[&labels("web-11", "nginx")];
    assert_eq!(says(one, "service.version").as_deref(), Some("1"));
    // Series outlive a container.
    assert_eq!((one.version.as_deref(), one.restart_count), (Some("2.4"), None));
    let workload = &all[&labels("", "")];
    assert_eq!(says(workload, "service.name").as_deref(), Some("cart"));
    assert_eq!((says(workload, "service.version"), workload.version.as_deref()), (None, Some("2.4")));
    pod(&bench, 13, "2", "2.5");
    assert_eq!(bench.registry.details()[&labels("", "")].version, None);
}

fn id() -> String {
    "a".repeat(64)
}

fn by_path() -> String {
    format!(" Pod {UID} {UID} aaaaaaaaaaaa")
}

#[test]
fn nobody_waits_where_nobody_can_answer() {
    let bench = Bench::new("naming-alone", BOUNDS);
    bench.born();
    assert_eq!(bench.called(bench.begin), by_path());
    assert!(bench.names.wanted().borrow().is_empty());
}

#[test]
fn a_name_ends_the_wait() {
    let bench = Bench::new("naming-wait", BOUNDS);
    bench.names.set_state(Source::Cri, SourceState::Connected);
    bench.born();
    assert_eq!(bench.called(bench.begin), "settling");
    assert_eq!(*bench.names.wanted().borrow(), [id()]);
    bench.registry.settle(bench.at(1));
    assert_eq!(bench.called(bench.at(1)), "settling");
    bench.put(Source::Cri, None);
    assert_eq!(bench.called(bench.at(2)), "settling", "it is looked at by `settle`");
    bench.registry.settle(bench.at(2));
    assert_eq!(bench.called(bench.at(2)), "shop Pod web-1 web-1 nginx");
    assert!(bench.names.wanted().borrow().is_empty());
    assert_eq!(bench.registry.stats().settling, 0);
    assert_eq!(bench.names.stats().containers_named[Source::Cri as usize], 1);
}

#[test]
fn who_is_known_already_does_not_wait() {
    let bench = Bench::new("naming-known", BOUNDS);
    bench.names.set_state(Source::Cri, SourceState::Connected);
    bench.put(Source::Cri, None);
    bench.born();
    assert_eq!(bench.called(bench.begin), "shop Pod web-1 web-1 nginx");
}

#[test]
fn the_wait_ends_with_the_hold_or_with_the_hope() {
    let bench = Bench::new("naming-hold", BOUNDS);
    bench.names.set_state(Source::Cri, SourceState::Connected);
    bench.born();
    bench.registry.settle(bench.at(4));
    assert_eq!(bench.called(bench.at(4)), "settling");
    bench.registry.settle(bench.at(5));
    assert_eq!(bench.called(bench.at(5)), by_path());

    let bench = Bench::new("naming-hope", BOUNDS);
    bench.names.set_state(Source::Cri, SourceState::Connecting);
    bench.born();
    bench.names.set_state(Source::Cri, SourceState::Failed);
    bench.registry.settle(bench.at(1));
    assert_eq!(bench.called(bench.at(1)), by_path());

    let bench = Bench::new("naming-no-hold", Bounds { hold: Duration::ZERO, ..BOUNDS });
    bench.names.set_state(Source::Cri, SourceState::Connected);
    bench.born();
    assert_eq!(bench.called(bench.begin), by_path());
}

#[test]
fn better_names_come_with_a_source_and_worse_ones_never() {
    let bench = Bench::new("naming-better", BOUNDS);
    bench.born();
    assert!(bench.registry.rename().is_empty());
    bench.put(Source::Cri, None);
    let renamed = bench.registry.rename();
    let joined = |labels: &Labels| labels.values().join(" ");
    assert_eq!(renamed.len(), 1);
    assert_eq!(joined(&renamed[0].from), by_path());
    assert_eq!(joined(&renamed[0].to), "shop Pod web-1 web-1 nginx");
    assert!(bench.registry.rename().is_empty(), "once");
    bench.put(Source::Kubernetes, Some("web"));
    assert_eq!(bench.registry.rename().len(), 1);
    assert_eq!(bench.called(bench.begin), "shop Deployment web web-1 nginx");
    // All facts go; what is known stays.
    bench.names.replace(Source::Kubernetes, Vec::new(), Vec::new(), bench.begin);
    bench.names.replace(Source::Cri, Vec::new(), Vec::new(), bench.begin);
    bench.names.expire(bench.at(60));
    bench.names.set_state(Source::Cri, SourceState::Failed);
    assert!(bench.registry.rename().is_empty());
    assert_eq!(bench.called(bench.at(60)), "shop Deployment web web-1 nginx");
    assert_eq!(bench.registry.stats().renamed, 2);
}

#[test]
fn a_container_that_is_named_may_still_decline() {
    let bench = Bench::new("naming-declines", BOUNDS);
    bench.put(Source::Cri, None);
    bench.born();
    let declines = || {
        bench.registry.choose();
        bench.registry.list()[0].container.declines()
    };
    assert!(!declines());
    bench.names.set_namespace("other".into(), Some(false));
    assert!(!declines());
    bench.names.set_namespace("shop".into(), Some(false));
    assert!(declines());
    bench.names.set_namespace("shop".into(), None);
    assert!(!declines());
}

#[test]
fn sources_are_asked_again_but_less_and_less_often() {
    let bench = Bench::new("naming-again", BOUNDS);
    bench.names.set_state(Source::Cri, SourceState::Connected);
    let mut wanted = bench.names.wanted();
    bench.born();
    let mut asked = 0;
    for milliseconds in (0..5000).step_by(5) {
        bench.registry.settle(bench.begin + Duration::from_millis(milliseconds));
        asked += usize::from(wanted.has_changed().unwrap());
        wanted.mark_unchanged();
    }
    assert!((4..=7).contains(&asked), "{asked}");
}
