use super::*;
use crate::identity::{Labels, Placement};

const UID: &str = "5ca1ab1e-0000-4000-8000-000000000001";
const BOUNDS: NameBounds = NameBounds { containers: 4, grace: Duration::from_secs(60) };

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn place(uid: &str, letter: char) -> Placement {
    Placement::parse(format!("/kubepods/burstable/pod{uid}/{}", id(letter)))
}

fn pod(uid: &str, name: &str) -> Pod {
    let (uid, namespace, name) = (uid.into(), "shop".into(), name.into());
    Pod { uid, namespace, name, ..Pod::default() }
}

fn owned(uid: &str, name: &str, owner: &str) -> Pod {
    let workload = Some(Workload { kind: "Deployment".into(), name: owner.into() });
    Pod { workload, ..pod(uid, name) }
}

fn container(letter: char, uid: &str, name: &str) -> Container {
    let (pod_uid, name) = (Some(uid.into()), name.into());
    Container { id: id(letter), pod_uid, name, ..Container::default() }
}

fn text(labels: &Labels) -> String {
    labels.values().join(" ")
}

#[test]
fn without_sources_the_path_is_all_there_is() {
    let names = Names::new(BOUNDS);
    let named = names.labels(&place(UID, 'a'));
    assert_eq!(named.labels, place(UID, 'a').labels());
    assert!(named.complete && !named.settled);
    names.used(&named);
    let stats = names.stats();
    assert_eq!((stats.pods_named, stats.containers_named), ([0, 0, 0, 0, 1], [0, 0, 0, 0, 1]));
    for path in ["/", "/system.slice/ssh.service", "/lxc/box"] {
        let named = names.labels(&Placement::parse(path));
        assert!(named.complete && named.settled, "{path}");
    }
}

#[test]
fn what_one_source_lacks_another_fills() {
    let now = Instant::now();
    let names = Names::new(BOUNDS);
    names.set_state(Source::Cri, SourceState::Connected);
    names.set_state(Source::Kubernetes, SourceState::Connecting);
    let place = place(UID, 'a');
    assert!(!names.labels(&place).complete);
    names.put_pod(Source::Cri, pod(UID, "web-1"), now);
    assert_eq!(text(&names.labels(&place).labels), "shop Pod web-1 web-1 aaaaaaaaaaaa");
    names.put_container(Source::Cri, container('a', UID, "nginx"), now);
    let named = names.labels(&place);
    assert_eq!(text(&named.labels), "shop Pod web-1 web-1 nginx");
    assert!(!named.complete, "Kubernetes may know the owner");
    names.put_pod(Source::Kubernetes, owned(UID, "web-1", "web"), now);
    let named = names.labels(&place);
    assert_eq!(text(&named.labels), "shop Deployment web web-1 nginx");
    assert!(named.complete && named.settled);
    assert_eq!(named.pod_source, Some(Some(Source::Kubernetes)));
    assert_eq!(named.container_source, Some(Some(Source::Cri)));
    assert_eq!(names.contradictions(), 0);
}

#[test]
fn nobody_waits_for_a_source_that_has_failed() {
    let now = Instant::now();
    let names = Names::new(BOUNDS);
    names.set_state(Source::Kubernetes, SourceState::Failed);
    names.set_state(Source::Cri, SourceState::Connected);
    names.put_pod(Source::Cri, pod(UID, "web-1"), now);
    names.put_container(Source::Cri, container('a', UID, "nginx"), now);
    let named = names.labels(&place(UID, 'a'));
    assert!(named.complete && !named.settled, "the owner may come later");
    assert!(!names.labels(&place(UID, 'b')).complete, "the runtime may still name this one");
}

#[test]
fn static_pods_are_found_by_their_other_uid() {
    let now = Instant::now();
    let hash = "0123456789abcdef0123456789abcdef";
    let names = Names::new(BOUNDS);
    let mirror = Pod { aliases: vec![hash.into()], ..owned(UID, "etcd-node", "etcd") };
    names.put_pod(Source::Kubernetes, mirror, now);
    names.put_pod(Source::Cri, pod(hash, "etcd-node"), now);
    names.put_container(Source::Kubernetes, container('a', UID, "etcd"), now);
    names.put_container(Source::Cri, container('a', hash, "etcd"), now);
    assert_eq!(text(&names.labels(&place(hash, 'a')).labels), "shop Deployment etcd etcd-node etcd");
    assert_eq!(names.contradictions(), 0);
}

#[test]
fn contradictions_are_decided_by_order_and_uid_and_counted_once() {
    let now = Instant::now();
    let names = Names::new(BOUNDS);
    names.put_pod(Source::Cri, pod(UID, "old"), now);
    names.put_pod(Source::Kubernetes, pod(UID, "new"), now);
    names.put_pod(Source::Kubernetes, pod(UID, "new"), now);
    assert_eq!(names.labels(&place(UID, 'a')).labels.pod, "new");
    assert_eq!(names.contradictions(), 1);

    names.put_pod(Source::Cri, pod("other", "stranger"), now);
    names.put_container(Source::Cri, container('a', "other", "nginx"), now);
    for _ in 0..3 {
        // The kernel says which pod it is in.
        assert_eq!(text(&names.labels(&place(UID, 'a')).labels), "shop Pod new new nginx");
    }
    assert_eq!(names.contradictions(), 2);
    names.put_container(Source::Kubernetes, container('a', UID, "sidecar"), now);
    assert_eq!(names.contradictions(), 3);
    assert_eq!(names.labels(&place(UID, 'a')).labels.container, "nginx", "the runtime is closer");
}

#[test]
fn sandboxes_have_no_name_unless_the_containers_are_inside() {
    let now = Instant::now();
    let names = Names::new(BOUNDS);
    names.put_pod(Source::Cri, pod(UID, "web-1"), now);
    let pause = Container { is_sandbox: true, ..container('a', UID, "") };
    names.put_container(Source::Cri, pause, now);
    assert_eq!(text(&names.labels(&place(UID, 'a')).labels), "shop Pod web-1 web-1 ");
    let underscores = UID.replace('-', "_");
    for (letter, runtime, paths) in [
        // gVisor's sentry runs in the sandbox's own cgroup, which is called like any container's.
        (
            'b',
            "runsc",
            vec![
                format!("/kubepods/burstable/pod{UID}/{}", id('b')),
                format!("/kubepods.slice/kubepods-pod{underscores}.slice/cri-containerd-{}.scope", id('b')),
            ],
        ),
        // Kata's virtual machine, and what it keeps out of the pod's limits.
        (
            'c',
            "kata",
            vec![
                format!("/kubepods/burstable/pod{UID}/kata_{}", id('c')),
                format!("/kubepods.slice/kubepods-pod{underscores}.slice/cri-containerd-{}.scope", id('c')),
                format!("/kata_overhead/{}", id('c')),
                format!("/kata_overhead/kubepods/besteffort/pod{UID}/kata_{}", id('c')),
            ],
        ),
    ] {
        let hides = Container {
            sandbox_runtime: Some(runtime.into()),
            is_sandbox: true,
            ..container(letter, UID, "")
        };
        names.put_container(Source::Cri, hides, now);
        for path in paths {
            let named = names.labels(&Placement::parse(&path));
            assert_eq!(text(&named.labels), format!("shop Pod web-1 web-1 sandbox:{runtime}"), "{path}");
        }
    }
}

#[test]
fn the_dead_keep_their_names_for_the_grace() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let names = Names::new(BOUNDS);
    names.replace(Source::Cri, vec![pod(UID, "web-1")], vec![container('a', UID, "nginx")], begin);
    let generation = names.generation();
    names.replace(Source::Cri, vec![pod(UID, "web-1")], vec![container('a', UID, "nginx")], begin);
    assert_eq!(names.generation(), generation, "nothing new");
    names.replace(Source::Cri, Vec::new(), Vec::new(), begin);
    names.expire(at(59));
    assert_eq!(names.labels(&place(UID, 'a')).labels.container, "nginx");
    // The pod was only missing from one list.
    names.put_pod(Source::Cri, pod(UID, "web-1"), at(59));
    names.expire(at(60));
    assert_eq!(text(&names.labels(&place(UID, 'a')).labels), "shop Pod web-1 web-1 aaaaaaaaaaaa");
    names.forget_pod(Source::Cri, UID, at(60));
    names.expire(at(120));
    assert_eq!(names.stats().facts, 0);
}

#[test]
fn shelves_are_bounded_and_the_dead_make_room() {
    let now = Instant::now();
    let names = Names::new(BOUNDS);
    for n in 0..6 {
        names.put_pod(Source::Cri, pod(&format!("uid-{n}"), "p"), now);
    }
    assert_eq!((names.stats().facts, names.stats().refused), (4, 2));
    names.forget_pod(Source::Cri, "uid-1", now);
    names.put_pod(Source::Cri, pod("uid-9", "p"), now);
    assert_eq!((names.stats().facts, names.stats().refused), (4, 2));
}

#[test]
fn plain_containers_are_called_by_their_name() {
    let now = Instant::now();
    let names = Names::new(BOUNDS);
    let place = Placement::parse(format!("/system.slice/docker-{}.scope", id('d')));
    names.set_state(Source::Docker, SourceState::Connected);
    assert!(!names.labels(&place).complete);
    let container = Container { pod_uid: None, ..container('d', UID, "db") };
    names.put_container(Source::Docker, container, now);
    let named = names.labels(&place);
    assert_eq!(text(&named.labels), " docker db  db");
    assert!(named.complete && named.settled);
}
