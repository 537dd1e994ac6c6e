//! What namespaces say for their pods.

use serde_json::json;

use super::*;
use crate::identity::Placement;

fn namespace(name: &str, version: u64, labels: Value, annotations: Value) -> Value {
    let version = version.to_string();
    json!({"kind": "PartialObjectMetadata", "metadata":
        {"name": name, "uid": name, "resourceVersion": version, "labels": labels, "annotations": annotations}})
}

fn says(word: &str) -> Value {
    json!({"podwitness.dev/observe": word, "kubernetes.io/metadata.name": "x"})
}

/// A pod of the recording: its uid and namespace.
fn some_pod(version: u64) -> (&'static str, String) {
    let (uid, pod) = pods_at(version).into_iter().next().unwrap();
    (uid, pod["metadata"]["namespace"].as_str().unwrap().to_owned())
}

fn observe(agent: &Agent, uid: &str) -> Option<bool> {
    agent.names.labels(&Placement::parse(format!("/kubepods/pod{uid}"))).observe
}

async fn becomes(agent: &Agent, uid: &str, expected: Option<bool>) {
    let is_so = || if observe(agent, uid) == expected { Ok(()) } else { Err(agent.stats()) };
    eventually(&format!("{expected:?}"), is_so).await;
}

#[tokio::test]
async fn a_namespace_declines_by_label_or_annotation() {
    let server = Server::start(END).await;
    let (uid, name) = some_pod(END);
    server.world().namespaces = vec![
        namespace(&name, 1, says("false"), json!(null)),
        namespace("other", 1, json!({}), says("false")),
    ];
    let agent = Agent::at(&server);
    agent.reaches(END).await;
    // Namespaces were listed before pods.
    assert_eq!(observe(&agent, uid), Some(false));
    let choices = agent.names.choices();

    server.tell("MODIFIED", namespace(&name, 1, json!(null), says("true")));
    becomes(&agent, uid, Some(true)).await;
    server.tell("MODIFIED", namespace(&name, 2, says("false"), says("true")));
    server.tell("MODIFIED", namespace(&name, 3, json!({}), json!({})));
    becomes(&agent, uid, None).await;
    server.tell("ADDED", namespace(&name, 4, says("false"), json!({})));
    becomes(&agent, uid, Some(false)).await;
    server.tell("DELETED", namespace(&name, 5, says("false"), json!({})));
    becomes(&agent, uid, None).await;
    assert!(agent.names.choices() > choices);
    let world = server.world();
    let asked: Vec<_> = world.requests.iter().filter(|request| request.contains("namespaces?")).collect();
    assert!(asked[0].contains("as=PartialObjectMetadataList"), "only metadata: {}", asked[0]);
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn a_pod_knows_better_than_its_namespace() {
    let names = Names::new(NameBounds { containers: 2, grace: Duration::ZERO });
    let pod = |uid: &str, observe| Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        name: "web".into(),
        observe,
        ..Pod::default()
    };
    let observe = |uid: &str| names.labels(&Placement::parse(format!("/kubepods/pod{uid}"))).observe;
    names.set_namespace("shop".into(), Some(false));
    names.put_pod(Source::Kubernetes, pod("a", Some(true)), Instant::now());
    // Also of a pod that only the container runtime has named.
    names.put_pod(Source::Cri, pod("b", None), Instant::now());
    assert_eq!((observe("a"), observe("b")), (Some(true), Some(false)));
    let choices = names.choices();
    names.put_pod(Source::Kubernetes, pod("a", None), Instant::now());
    assert_eq!(observe("a"), Some(false));
    assert_eq!(names.choices(), choices + 1);

    names.set_namespace("second".into(), Some(false));
    names.set_namespace("third".into(), Some(false));
    assert_eq!(names.stats().refused, 1);
    names.replace_namespaces((0..5).map(|n| (n.to_string(), false)).collect());
    assert_eq!(names.stats().refused, 4);
}

#[tokio::test]
async fn without_the_right_to_look_at_namespaces_pods_are_named_all_the_same() {
    let server = Server::start(300).await;
    let (uid, name) = some_pod(END);
    server.world().namespaces = vec![namespace(&name, 1, says("false"), json!({}))];
    server.world().namespace_faults.extend(std::iter::repeat_n(Fault::Status(403, ""), 1000));
    let agent = Agent::at(&server);
    agent.reaches(300).await;
    let problem = || agent.stats().namespace_problem.ok_or(());
    eventually("a problem", || problem().map(drop)).await;
    let text = problem().unwrap();
    assert!(text.contains("resources: [namespaces], verbs: [list]"), "{text}");
    assert_eq!((agent.state(), agent.stats().problem), (SourceState::Connected, None));
    let (_, lacks) = agent.source.check().await.unwrap();
    assert_eq!(lacks.len(), 1, "{lacks:?}");
    // Whoever may look again sees it.
    server.world().namespace_faults.clear();
    server.advance(END);
    agent.reaches(END).await;
    becomes(&agent, uid, Some(false)).await;
    eventually("no problem", || agent.stats().namespace_problem.map_or(Ok(()), Err)).await;
    assert!(agent.stats().namespace_failures > 0);
}

#[tokio::test]
async fn whatever_goes_wrong_ends_with_what_is_so() {
    let server = Server::start(END).await;
    let (uid, name) = some_pod(END);
    server.world().namespaces = vec![namespace(&name, 1, says("false"), json!({})), json!({"metadata": 7})];
    let faults = [
        Fault::Status(500, ""),
        Fault::Bytes(0, b"<html>"),
        Fault::Bytes(0, br#"{"metadata":{"resourceVersion":"1&x"},"items":null}"#),
        Fault::Status(410, ""),
        Fault::Status(429, "retry-after: 0\r\n"),
        Fault::Cut(0),
        Fault::Bytes(0, b"garbage\n"),
        Fault::Cut(0),
        Fault::Status(410, ""),
    ];
    server.world().namespace_faults.extend(faults);
    let agent = Agent::at(&server);
    agent.reaches(END).await;
    becomes(&agent, uid, Some(false)).await;
    eventually("the end", || if server.world().namespace_faults.is_empty() { Ok(()) } else { Err(()) }).await;
    server.tell("ERROR", json!({"code": 410}));
    server.tell("MODIFIED", namespace(&name, 7, says("true"), json!({})));
    server.world().namespaces = vec![namespace(&name, 7, says("true"), json!({}))];
    becomes(&agent, uid, Some(true)).await;
    assert_eq!((agent.state(), agent.stats().problem), (SourceState::Connected, None));
    assert!(agent.stats().garbage >= 2, "{:?}", agent.stats());
}
