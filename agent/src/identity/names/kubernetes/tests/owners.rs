//! Workloads.

use std::path::Path;

use super::{
    super::{
        mirror::Mirror,
        object::PodObject,
        owners::{Belongs, Middle, Owners},
    },
    recording::{OWNERS, lines},
    *,
};
use crate::identity::{Registry, Resolution, Tree, names::Guess, registry::Bounds, testing::Scratch};

/// Every workload of the recording, by the pod's name.
const WORKLOADS: [(&str, &str, &str); 14] = [
    ("logger-8jwc2", "DaemonSet", "logger"),
    ("crasher", "Pod", "crasher"),
    ("db-0", "StatefulSet", "db"),
    ("db-1", "StatefulSet", "db"),
    ("hog", "Pod", "hog"),
    ("import-snjtj", "Job", "import"),
    ("import-tpdxm", "Job", "import"),
    ("nightly-29922292-nr6c9", "CronJob", "nightly"),
    ("nopull", "Pod", "nopull"),
    ("web-5858fcc845-4dvpj", "Deployment", "web"),
    ("web-5858fcc845-xj2l7", "Deployment", "web"),
    ("web-6c6cb4778d-2bbgh", "Deployment", "web"),
    ("web-6c6cb4778d-s6v62", "Deployment", "web"),
    ("logger-8jwc2", "DaemonSet", "logger"),
];

fn check(agent: &Agent, version: u64) -> Result<(), String> {
    let pods = pods_at(version);
    for (uid, pod) in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let (_, kind, owner) = WORKLOADS.iter().find(|(pod, ..)| *pod == name).unwrap();
        let found = agent.pod(uid).and_then(|pod| pod.workload);
        if found != Some(workload(kind, owner)) {
            return Err(format!("{name}: {found:?}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_workload_of_the_recording() {
    let server = Server::start(LISTED).await;
    let agent = Agent::at(&server);
    agent.reaches(LISTED).await;
    check(&agent, LISTED).unwrap();
    server.advance(END);
    agent.reaches(END).await;
    check(&agent, END).unwrap();
    // Two ReplicaSets and two Jobs, each asked for once, and nothing listed.
    eventually("the owners", || match agent.stats() {
        stats if stats.lookups == 4 && stats.owners_wanted == 0 => Ok(()),
        stats => Err(stats),
    })
    .await;
    check(&agent, END).unwrap();
    for owner in lines(OWNERS) {
        assert_eq!(server.requests_to(owner["path"].as_str().unwrap()), 1);
    }
    let world = server.world();
    let owners: Vec<_> = world.requests.iter().filter(|request| request.contains("/apis/")).collect();
    assert!(owners.iter().all(|request| request.contains("as=PartialObjectMetadata")), "{owners:?}");
    assert_eq!(owners.len(), 4);
}

#[tokio::test]
async fn without_rbac_the_names_tell_and_later_the_api() {
    let server = Server::start(LISTED).await;
    server.world().owner_faults.extend(std::iter::repeat_n(Fault::Status(403, ""), 6));
    let agent = Agent::at(&server);
    agent.reaches(LISTED).await;
    check(&agent, LISTED).unwrap();
    assert_eq!(agent.state(), SourceState::Connected);
    eventually("the owners", || match agent.stats() {
        stats if stats.lookups == 3 => Ok(()),
        stats => Err(stats),
    })
    .await;
    assert_eq!(agent.stats().lookup_failures, 6);
    check(&agent, LISTED).unwrap();
}

#[tokio::test]
async fn owners_are_asked_for_until_there_is_an_answer() {
    let server = Server::start(LISTED).await;
    server.world().owner_faults.extend([
        Fault::Status(500, ""),
        Fault::Cut(0),
        Fault::Stall(0),
        Fault::Bytes(0, b"garbage"),
        Fault::Status(429, "retry-after: 0\r\n"),
        Fault::Status(404, ""),
        Fault::Bytes(0, br#"{"metadata":{"name":"x","namespace":"y","uid":"another"}}"#),
    ]);
    let agent = Agent::at(&server);
    eventually("the owners", || match agent.stats() {
        stats if stats.lookups == 3 => Ok(()),
        stats => Err(stats),
    })
    .await;
    check(&agent, LISTED).unwrap();
}

#[tokio::test]
async fn nobody_waits_for_owners_that_can_not_be_asked_for() {
    for status in [403, 500] {
        let server = Server::start(LISTED).await;
        server.world().owner_faults.extend(std::iter::repeat_n(Fault::Status(status, ""), 10_000));
        let agent = Agent::at(&server);
        let guesses = || {
            let pods = pods_at(LISTED).into_keys().filter_map(|uid| agent.pod(uid)).collect::<Vec<_>>();
            pods.iter().filter_map(|pod| pod.guess).collect::<Vec<_>>()
        };
        eventually("the end of the hope", || {
            let guesses = guesses();
            let is_over = !guesses.is_empty() && guesses.iter().all(|guess| *guess == Guess::Stuck);
            is_over.then_some(()).ok_or(guesses)
        })
        .await;
        server.world().owner_faults.clear();
        eventually("the answers", || guesses().is_empty().then_some(()).ok_or(guesses())).await;
    }
}

/// A container of a pod that looks like a Deployment's and is a Rollout's, and what ends its wait for the answer.
#[test]
fn a_guess_is_no_answer() {
    const UID: &str = "5ca1ab1e-0000-4000-8000-000000000001";
    let begin = Instant::now();
    let hold = Duration::from_secs(5);
    let id = "a".repeat(64);
    let json = format!(
        r#"{{"metadata":{{"name":"web-1","namespace":"shop","uid":"{UID}","labels":{{"pod-template-hash":"abc12"}},
        "ownerReferences":[{}]}},"spec":{{"nodeName":"{NODE}"}},
        "status":{{"containerStatuses":[{{"name":"app","containerID":"containerd://{id}"}}]}}}}"#,
        owner("apps/v1", "ReplicaSet", "web-abc12")
    );
    let object: PodObject = serde_json::from_str(&json).unwrap();
    for (end, first) in [("answer", "Rollout"), ("hold", "Deployment"), ("no hope", "Deployment")] {
        let scratch = Scratch::new(&format!("guess-{}", end.replace(' ', "-")));
        let names = Arc::new(Names::new(NameBounds { containers: 8, grace: Duration::ZERO }));
        let bounds = Bounds { containers: 8, hold, grace: Duration::ZERO };
        let registry = Registry::new(Tree::at(scratch.path()).unwrap(), bounds, Arc::clone(&names));
        let called = |now| match registry.resolve(3, now) {
            Resolution::Known(container) => container.labels().values().join(" "),
            other => format!("{other:?}"),
        };
        let mut mirror = Mirror::new(NODE.into(), 8);
        names.set_state(Source::Kubernetes, SourceState::Connected);
        mirror.put(&object, &names, begin);
        registry.born(3, Path::new(&format!("/kubepods/burstable/pod{UID}/{id}")), begin);
        registry.settle(begin);
        assert!(called(begin).starts_with("Settling"), "{}", called(begin));

        let lookup = mirror.owners().next(|_| true).unwrap();
        let mut now = begin;
        match end {
            "answer" => mirror.learn(&lookup, workload("Rollout", "web"), &names, now),
            "hold" => now += hold,
            _ => mirror.expect([false; Middle::ALL.len()], &names, now),
        }
        registry.settle(now);
        assert_eq!(called(now), format!("shop {first} web web-1 app"), "{end}");
        mirror.learn(&lookup, workload("Rollout", "web"), &names, now);
        registry.rename();
        assert_eq!(called(now), "shop Rollout web web-1 app", "{end}");
        assert_eq!(registry.stats().renamed, u64::from(first != "Rollout"), "{end}");
    }
}

fn object(owner: &str, labels: &str) -> PodObject {
    let owners = if owner.is_empty() { String::new() } else { format!(r#""ownerReferences":[{owner}],"#) };
    let json =
        format!(r#"{{"metadata":{{"name":"p","namespace":"ns","uid":"u",{owners}"labels":{{{labels}}}}}}}"#);
    serde_json::from_str(&json).unwrap()
}

fn owner(api_version: &str, kind: &str, name: &str) -> String {
    format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}","name":"{name}","uid":"o","controller":true}}"#)
}

#[test]
fn what_the_names_tell() {
    let hash = r#""pod-template-hash":"abc12""#;
    let cases = [
        (object("", ""), workload("Pod", "p"), None),
        // The mirror of a static pod.
        (object(&owner("v1", "Node", "node1"), ""), workload("Pod", "p"), None),
        (object(&owner("apps/v1", "StatefulSet", "db"), ""), workload("StatefulSet", "db"), None),
        (object(&owner("apps/v1", "DaemonSet", "logger"), ""), workload("DaemonSet", "logger"), None),
        (object(&owner("example.com/v1", "Job", "x"), ""), workload("Job", "x"), None),
        (object(&owner("tekton.dev/v1", "TaskRun", "build-7"), ""), workload("TaskRun", "build-7"), None),
        (
            object(&owner("apps/v1", "ReplicaSet", "web-abc12"), hash),
            workload("Deployment", "web"),
            Some(Middle::ReplicaSet),
        ),
        // Of somebody else than a Deployment, or of nobody.
        (
            object(&owner("apps/v1", "ReplicaSet", "web-abc12"), ""),
            workload("ReplicaSet", "web-abc12"),
            Some(Middle::ReplicaSet),
        ),
        (
            object(&owner("apps/v1", "ReplicaSet", "abc12"), hash),
            workload("ReplicaSet", "abc12"),
            Some(Middle::ReplicaSet),
        ),
        (object(&owner("batch/v1", "Job", "import"), ""), workload("Job", "import"), Some(Middle::Job)),
        (
            object(&owner("batch/v1", "Job", "import-20261122"), ""),
            workload("Job", "import-20261122"),
            Some(Middle::Job),
        ),
        (
            object(&owner("batch/v1", "Job", "nightly-29922292"), ""),
            workload("CronJob", "nightly"),
            Some(Middle::Job),
        ),
        // Nothing is asked for under a name that no object can have.
        (object(&owner("apps/v1", "ReplicaSet", ".."), ""), workload("ReplicaSet", ".."), None),
    ];
    for (pod, expected, asked) in cases {
        let mut owners = Owners::new(10);
        let Belongs { workload, guess, owner } = owners.workload(&pod.metadata);
        assert_eq!(workload, expected);
        assert_eq!(owner.map(|(middle, _)| middle), asked, "{expected:?}");
        assert_eq!(guess, asked.map(|_| Guess::Asked), "{expected:?}");
        assert_eq!(owners.next(|_| true).map(|lookup| lookup.middle), asked, "{expected:?}");
    }
    // An owner that doesn't control the pod is none.
    let beside = owner("v1", "ConfigMap", "x").replace("true", "false");
    assert_eq!(Owners::new(1).workload(&object(&beside, "").metadata).workload, workload("Pod", "p"));
}

#[test]
fn the_api_knows_better_than_the_names() {
    let pod = object(&owner("apps/v1", "ReplicaSet", "web-abc12"), r#""pod-template-hash":"abc12""#);
    let found = |owner: &str| {
        let json = format!(
            r#"{{"metadata":{{"name":"r","namespace":"ns","uid":"o","ownerReferences":[{owner}]}}}}"#
        );
        serde_json::from_str::<super::super::object::MetaOnly<super::super::object::Meta>>(&json)
            .unwrap()
            .metadata
    };
    let mut owners = Owners::new(10);
    owners.workload(&pod.metadata);
    // The same question is asked once.
    owners.workload(&pod.metadata);
    let lookup = owners.next(|_| true).unwrap();
    assert_eq!(owners.next(|_| true), None);
    assert_eq!(lookup.path(), "/apis/apps/v1/namespaces/ns/replicasets/web-abc12");
    let rollout = found(&owner("argoproj.io/v1alpha1", "Rollout", "web"));
    assert_eq!(lookup.answer(Some(&rollout)), workload("Rollout", "web"));
    assert_eq!(lookup.answer(Some(&found(""))), workload("ReplicaSet", "web-abc12"));
    assert_eq!(lookup.answer(None), workload("Deployment", "web"));
    owners.learn(&lookup, workload("Rollout", "web"));
    let belongs = owners.workload(&pod.metadata);
    assert_eq!((belongs.workload, belongs.guess), (workload("Rollout", "web"), None));
    assert_eq!((owners.next(|_| true), owners.waiting()), (None, 0));
}

#[test]
fn what_is_learned_is_bounded() {
    let mut owners = Owners::new(3);
    for number in 0..100 {
        let json = owner("batch/v1", "Job", "j").replace(r#""o""#, &format!(r#""{number}""#));
        owners.workload(&object(&json, "").metadata);
    }
    assert_eq!(owners.waiting(), 3);
    for round in 0..100 {
        let json = owner("batch/v1", "Job", "j").replace(r#""o""#, &format!(r#""{round}""#));
        owners.workload(&object(&json, "").metadata);
        while let Some(lookup) = owners.next(|_| true) {
            owners.learn(&lookup, workload("Job", "j"));
        }
        assert!(owners.sizes() <= (3, 3), "{:?}", owners.sizes());
    }
}
