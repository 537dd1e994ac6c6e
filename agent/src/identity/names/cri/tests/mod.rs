mod server;

use std::{collections::HashMap, future::Future};

use self::server::{Mood, Server, World, container, sandbox};
use tokio::time::Instant;

use super::*;
use crate::{
    identity::{
        Placement,
        names::{NameBounds, WellKnown},
        testing::Scratch,
    },
    kernel::heap::live_bytes,
};

const UID: &str = "5ca1ab1e-0000-4000-8000-000000000001";
const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A source that has one pod to find, and a runtime.
struct Bench {
    _scratch: Scratch,
    server: Server,
    names: Arc<Names>,
}

fn world(name: &str, version: &str) -> World {
    World {
        version: (name.into(), version.into()),
        sandboxes: vec![sandbox("s1", UID, "web-1")],
        containers: vec![container(ID, "s1", "nginx")],
    }
}

impl Bench {
    fn new(name: &str, mood: Mood, world: World, has_events: bool) -> (Self, tokio::task::JoinSet<()>) {
        let scratch = Scratch::new(name);
        let server = Server::new(scratch.path(), mood, world, has_events);
        Self::at(scratch, server, Duration::from_secs(60), Duration::from_secs(600))
    }

    fn at(
        scratch: Scratch,
        server: Server,
        grace: Duration,
        interval: Duration,
    ) -> (Self, tokio::task::JoinSet<()>) {
        let names = Arc::new(Names::new(NameBounds { containers: 100, grace }));
        let choice = SocketChoice::Path(server.socket.clone());
        let cri = Cri::new(&choice, interval, Arc::clone(&names)).unwrap();
        let retry = (Duration::from_millis(20), Duration::from_millis(40));
        let cri = Cri { patience: Duration::from_millis(300), retry, ..cri };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(cri.run());
        (Self { _scratch: scratch, server, names }, tasks)
    }

    fn state(&self) -> SourceState {
        self.names.state(Source::Cri)
    }

    fn called(&self, id: &str) -> String {
        let place = Placement::parse(format!("/kubepods/burstable/pod{UID}/{id}"));
        self.names.labels(&place).labels.values().join(" ")
    }

    async fn wait_state(&self, state: SourceState) {
        wait(&format!("{state:?}"), || self.state() == state).await;
    }
}

async fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn pods_and_containers_are_listed_and_looked_for_when_wanted() {
    run(async {
        let (bench, _tasks) = Bench::new("cri-list", Mood::Well, world("containerd", "1.7.24"), true);
        bench.wait_state(SourceState::Connected).await;
        assert_eq!(bench.called(ID), "shop Pod web-1 web-1 nginx");
        assert!(!bench.server.is_listened_to(), "its events are for the kubelet alone");
        let other = ID.replace('a', "b");
        bench.server.change(|world| world.containers.push(container(&other, "s1", "sidecar")));
        // The interval is ten minutes.
        bench.names.want(vec![other.clone()]);
        wait("the sidecar", || bench.called(&other) == "shop Pod web-1 web-1 sidecar").await;
        // As a container and as a sandbox, four times: then it is known well enough that there is none.
        let before = bench.server.calls();
        let calls = || bench.server.calls() - before;
        let want = || bench.names.want(vec!["unheard-of".into()]);
        wait("four searches", || {
            want();
            calls() >= 8
        })
        .await;
        for _ in 0..20 {
            want();
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(calls(), 8);
        // Others are asked for as ever.
        let new = ID.replace('a', "d");
        bench.server.change(|world| world.containers.push(container(&new, "s1", "new")));
        bench.names.want(vec![new.clone(), "unheard-of".into()]);
        wait("the new one", || bench.called(&new) == "shop Pod web-1 web-1 new").await;
    });
}

#[test]
fn events_name_who_comes_and_goes() {
    run(async {
        let (bench, _tasks) = Bench::new("cri-events", Mood::Well, world("containerd", "2.1.9"), true);
        bench.wait_state(SourceState::Connected).await;
        wait("a listener", || bench.server.is_listened_to()).await;
        let other = ID.replace('a', "b");
        let of = |id: &str, kind: i32| {
            let api::Sandbox { id: sandbox, metadata, .. } = sandbox("s1", UID, "web-1");
            let named = Some(api::ContainerMetadata { name: "job".into(), attempt: 0 });
            api::Event {
                container_id: id.into(),
                kind,
                sandbox: Some(api::SandboxStatus { id: sandbox, metadata, ..Default::default() }),
                containers: vec![api::ContainerStatus { id: id.into(), metadata: named, image: None }],
            }
        };
        bench.server.send(of(&other, 0)).await;
        wait("the job", || bench.called(&other) == "shop Pod web-1 web-1 job").await;
        bench.server.send(of(&other, api::Event::DELETED)).await;
        bench.server.send(of(ID, 1)).await;
        wait("a newer name", || bench.called(ID) == "shop Pod web-1 web-1 job").await;
        assert_eq!(bench.called(&other), "shop Pod web-1 web-1 job", "the dead keep their names");
        // What no event has told is listed after a moment.
        let lost = ID.replace('a', "c");
        bench.server.change(|world| world.containers.push(container(&lost, "s1", "lost")));
        bench.names.want(vec![lost.clone()]);
        wait("the lost one", || bench.called(&lost) == "shop Pod web-1 web-1 lost").await;
    });
}

#[test]
fn a_runtime_without_events_is_polled() {
    run(async {
        let (bench, _tasks) = Bench::new("cri-no-events", Mood::Well, world("cri-o", "1.31.0"), false);
        bench.wait_state(SourceState::Connected).await;
        assert_eq!(bench.called(ID), "shop Pod web-1 web-1 nginx");
        let other = ID.replace('a', "b");
        bench.server.change(|world| world.containers.push(container(&other, "s1", "sidecar")));
        bench.names.want(vec![other.clone()]);
        wait("the sidecar", || bench.called(&other) == "shop Pod web-1 web-1 sidecar").await;
    });
}

#[test]
fn whatever_is_wrong_fails_and_is_tried_again() {
    let moods =
        [Mood::Hangs, Mood::HangsAtLists, Mood::Garbage, Mood::BadMessages, Mood::Huge, Mood::Unimplemented];
    for mood in moods {
        for version in ["1.7.0", "2.0.0"] {
            run(async {
                let (bench, _tasks) = Bench::new("cri-wrong", mood, world("containerd", version), true);
                assert_eq!(bench.state(), SourceState::Connecting);
                wait(&format!("{mood:?} {version}"), || bench.state() == SourceState::Failed).await;
                bench.server.set(Mood::Well);
                bench.wait_state(SourceState::Connected).await;
                wait("its names", || bench.called(ID) == "shop Pod web-1 web-1 nginx").await;
            });
        }
    }
}

#[test]
fn a_socket_that_goes_and_comes_back_loses_no_name() {
    run(async {
        for version in ["1.7.0", "2.0.0"] {
            let (mut bench, _tasks) = Bench::new("cri-gone", Mood::Well, world("containerd", version), true);
            bench.wait_state(SourceState::Connected).await;
            bench.server.stop().await;
            // Polling notices at the next list only.
            bench.names.want(vec![ID.into()]);
            bench.wait_state(SourceState::Failed).await;
            assert_eq!(bench.called(ID), "shop Pod web-1 web-1 nginx");
            let other = ID.replace('a', "b");
            bench.server.change(|world| world.containers.push(container(&other, "s1", "sidecar")));
            bench.server.start();
            bench.wait_state(SourceState::Connected).await;
            assert_eq!(bench.called(&other), "shop Pod web-1 web-1 sidecar");
        }
    });
}

/// An hour of lists, ten seconds apart by default, in which all pods are replaced again and again; then the socket is gone
/// for long, and comes back with other pods. Whatever the agent holds then is what it held at the beginning.
#[test]
fn an_hour_of_life_and_then_no_socket() {
    const LISTS: usize = 360;
    const PODS: usize = 20;
    /// What is on its way at the moment of a look.
    const UNDER_WAY: isize = 256 << 10;
    fn generation(number: usize) -> World {
        let uid = |pod: usize| format!("{number:08x}-0000-4000-8000-{pod:012x}");
        let id = |pod: usize| format!("{number:032x}{pod:032x}");
        World {
            version: ("containerd".into(), "1.7.24".into()),
            sandboxes: (0..PODS).map(|pod| sandbox(&format!("s{pod}"), &uid(pod), "web")).collect(),
            containers: (0..PODS).map(|pod| container(&id(pod), &format!("s{pod}"), "nginx")).collect(),
        }
    }
    fn called(bench: &Bench, number: usize) -> String {
        let (uid, id) =
            (format!("{number:08x}-0000-4000-8000-{:012x}", 7), format!("{number:032x}{:032x}", 7));
        let place = Placement::parse(format!("/kubepods/burstable/pod{uid}/{id}"));
        bench.names.labels(&place).labels.values().join(" ")
    }
    fn held(bench: &Bench) -> (usize, isize) {
        bench.names.expire(std::time::Instant::now() + Duration::from_secs(1));
        (bench.names.stats().facts, live_bytes())
    }
    run(async {
        let scratch = Scratch::new("cri-hour");
        let server = Server::new(scratch.path(), Mood::Well, generation(0), false);
        let (mut bench, _tasks) = Bench::at(scratch, server, Duration::ZERO, Duration::from_millis(1));
        bench.wait_state(SourceState::Connected).await;
        let mut before = (0, 0);
        for number in 1..=LISTS {
            bench.server.change(|world| *world = generation(number));
            wait("the next list", || called(&bench, number) == "shop Pod web web nginx").await;
            let now = held(&bench);
            if number == LISTS / 10 {
                before = now;
            }
        }
        let after = held(&bench);
        assert_eq!(after.0, 3 * PODS, "a pod, its sandbox and its container each");
        assert!(after.1 <= before.1 + UNDER_WAY, "{before:?}, and after an hour {after:?}");

        bench.server.stop().await;
        bench.wait_state(SourceState::Failed).await;
        let failures = bench.names.failures(Source::Cri);
        wait("many more tries", || bench.names.failures(Source::Cri) >= failures + 20).await;
        assert_eq!(called(&bench, LISTS), "shop Pod web web nginx");
        bench.server.change(|world| *world = generation(0));
        bench.server.start();
        bench.wait_state(SourceState::Connected).await;
        assert_eq!(called(&bench, 0), "shop Pod web web nginx");
        let after = held(&bench);
        assert_eq!(after.0, 3 * PODS, "and nothing of those who went meanwhile");
        assert!(after.1 <= before.1 + UNDER_WAY, "{before:?}, and after the outage {after:?}");
    });
}

#[test]
fn no_socket_is_no_failure_unless_it_was_named() {
    run(async {
        let names = crate::identity::testing::no_names();
        assert!(Cri::new(&SocketChoice::Off, Duration::from_secs(1), Arc::clone(&names)).is_none());
        let nowhere = SocketChoice::Path("/nonexistent/cri.sock".into());
        let cri = Cri::new(&nowhere, Duration::from_secs(1), Arc::clone(&names)).unwrap();
        assert!(matches!(cri.probe().await, Err(CriError::Connect(_))));
    });
}

#[test]
fn odd_words_are_left_out() {
    let mut view = View::default();
    let nameless = api::Sandbox { metadata: None, ..sandbox("s0", "u0", "x") };
    let mut orphan = container("c2", "s9", "late");
    orphan.labels.insert("io.kubernetes.pod.uid".into(), "u9".into());
    let kata = api::Sandbox {
        runtime_handler: "kata-qemu".into(),
        annotations: HashMap::from([("podwitness.dev/observe".into(), "false".into())]),
        ..sandbox("s1", "u1", "web-1")
    };
    let (pods, containers) = view.list(
        vec![nameless, sandbox("s2", "", "no-uid"), kata, sandbox("s3", "u1", "web-1")],
        vec![container("", "s1", "no-id"), container("c1", "s1", ""), orphan],
    );
    assert_eq!(pods.len(), 1);
    let ids: Vec<_> = containers.iter().map(|c| (c.id.as_str(), c.pod_uid.as_deref())).collect();
    assert_eq!(ids, [("s1", Some("u1")), ("s3", Some("u1")), ("c2", Some("u9"))]);
    assert_eq!(containers[0].sandbox_runtime.as_deref(), Some("kata"));
    // One of two sandboxes of a pod goes: the pod stays.
    let gone = |id: &str| api::Event { container_id: id.into(), kind: 3, ..Default::default() };
    assert_eq!(view.event(gone("s1")).gone_pod, None);
    assert_eq!(view.event(gone("s3")).gone_pod.as_deref(), Some("u1"));
    assert_eq!(view.event(api::Event::default()), view::Change::default());
}

#[test]
fn what_a_pod_says_of_itself_and_how_often_it_was_restarted_come_along() {
    let pairs = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let says = api::SandboxStatus {
        id: "s1".into(),
        metadata: sandbox("s1", UID, "web-1").metadata,
        labels: pairs(&[("app.kubernetes.io/instance", "cart-eu"), ("app", "x")]),
        annotations: pairs(&[("resource.opentelemetry.io/service.name", "cart"), ("other", "x")]),
        ..Default::default()
    };
    let image =
        |id: &str, name: &str| Some(api::ImageSpec { image: id.into(), user_specified_image: name.into() });
    let metadata = Some(api::ContainerMetadata { name: "app".into(), attempt: 3 });
    let id = format!("sha256:{}", "a0".repeat(32));
    let status = api::ContainerStatus { id: ID.into(), metadata, image: image(&id, "shop/cart:2.4") };
    let event = api::Event { sandbox: Some(says), containers: vec![status], ..Default::default() };
    let change = View::default().event(event);
    let metadata = change.pod.unwrap().metadata.unwrap();
    assert_eq!(metadata.attributes(), [("service.name".to_owned(), "cart".to_owned())]);
    assert_eq!(metadata.well_known(WellKnown::Instance), Some("cart-eu"));
    let app = &change.containers[1];
    assert_eq!((app.version.as_deref(), app.restart_count), (Some("2.4"), Some(3)));

    // Before Kubernetes 1.28 there is the id alone, unless something else than a kubelet has made the container.
    let listed = |image| api::Container { image, ..container("c", "s1", "app") };
    let (pods, containers) = View::default().list(
        vec![sandbox("s1", UID, "web-1")],
        vec![listed(image(&id, "")), listed(image("busybox:1", ""))],
    );
    assert_eq!(pods[0].metadata, None);
    let versions: Vec<_> = containers[1..].iter().map(|c| c.version.as_deref()).collect();
    assert_eq!(versions, [None, Some("1")]);
}

#[test]
fn runtimes_that_hide_containers_are_known_by_their_handlers() {
    for (handler, expected) in [
        ("kata", Some("kata")),
        ("kata-qemu", Some("kata")),
        ("runsc", Some("runsc")),
        ("gvisor", Some("runsc")),
        ("runsc-kvm", Some("runsc")),
        ("runc", None),
        ("", None),
    ] {
        let sandbox = api::Sandbox { runtime_handler: handler.into(), ..sandbox("s1", UID, "web-1") };
        let (_, facts) = View::default().list(vec![sandbox], Vec::new());
        assert_eq!(facts[0].sandbox_runtime.as_deref(), expected, "{handler}");
    }
}

#[test]
fn only_runtimes_that_report_to_everyone_are_listened_to() {
    for (name, version, expected) in [
        ("containerd", "1.6.20~ds1", false),
        ("containerd", "v1.7.24", false),
        ("containerd", "v2.1.9", true),
        ("containerd", "2.0.0-rc.1", true),
        ("containerd", "", false),
        ("cri-o", "1.31.0", true),
        ("docker", "27.0.1", false),
    ] {
        let version = VersionResponse { runtime_name: name.into(), runtime_version: version.into() };
        assert_eq!(reports_to_everyone(&version), expected, "{version:?}");
    }
}
