//! Everything goes well.

use super::{
    recording::{LIST, WATCH, lines},
    *,
};

#[test]
fn the_servers_truth_is_the_recorded_list() {
    let recorded: Value = serde_json::from_str(LIST).unwrap();
    let recorded = recorded["items"].as_array().unwrap();
    let computed = pods_at(LISTED);
    assert_eq!(computed.len(), recorded.len());
    for pod in recorded {
        let computed = &computed[pod["metadata"]["uid"].as_str().unwrap()];
        assert_eq!(computed["metadata"]["resourceVersion"], pod["metadata"]["resourceVersion"]);
        assert_eq!(container_ids(computed), container_ids(pod));
    }
    assert_eq!(lines(WATCH).count(), 123);
}

#[tokio::test]
async fn the_whole_recording_from_an_empty_node() {
    let server = Server::start(1).await;
    let agent = Agent::at(&server);
    agent.becomes(SourceState::Connected).await;
    for version in [LISTED, END] {
        server.advance(version);
        agent.reaches(version).await;
    }
    let stats = agent.stats();
    assert_eq!((stats.lists, stats.watches, stats.events, stats.stale), (1, 1, 122, 0));
    assert_eq!((stats.garbage, stats.failures, stats.problem.clone()), (0, 0, None));
    assert_eq!(stats.pods, pods_at(END).len());
}

#[tokio::test]
async fn a_list_in_the_middle_and_every_single_step_from_there() {
    let server = Server::start(450).await;
    let agent = Agent::at(&server);
    agent.reaches(450).await;
    for version in 451..=END {
        server.advance(version);
        agent.reaches(version).await;
    }
    assert_eq!(agent.stats().lists, 1);
}

#[tokio::test]
async fn only_this_node_and_from_the_servers_cache() {
    let server = Server::start(END).await;
    let agent = Agent::at(&server);
    agent.reaches(END).await;
    eventually("a watch", || if server.requests_to("node1&watch=1") > 0 { Ok(()) } else { Err(()) }).await;
    let world = server.world();
    let pods: Vec<_> = world.requests.iter().filter(|request| request.contains("/api/v1/pods")).collect();
    assert!(pods.iter().all(|request| request.contains("?fieldSelector=spec.nodeName%3Dnode1&")), "{pods:?}");
    assert!(pods[0].contains("&limit=500&resourceVersion=0 "), "{}", pods[0]);
    assert!(pods[1].contains("&allowWatchBookmarks=true&resourceVersion=792&"), "{}", pods[1]);
}

#[tokio::test]
async fn pages() {
    let server = Server::start(LISTED).await;
    server.world().page = Some(2);
    let agent = Agent::at(&server);
    agent.reaches(LISTED).await;
    assert_eq!(server.requests_to("continue=p%2B"), 5);
    server.advance(END);
    agent.reaches(END).await;
    assert_eq!(agent.stats().lists, 1);
}

#[tokio::test]
async fn pods_of_other_nodes_are_left_out_even_if_the_server_sends_them() {
    let server = Server::start(LISTED).await;
    let names = Arc::new(Names::new(NameBounds { containers: 100, grace: Duration::ZERO }));
    let access = Access::Plain(server.url());
    let source = Kubernetes::with(access, "node2".into(), 1000, pace(), Arc::clone(&names));
    let task = tokio::spawn(source.clone().run());
    eventually("a list", || if source.stats().lists > 0 { Ok(()) } else { Err(source.stats()) }).await;
    server.advance(END);
    eventually("events", || if source.stats().stale > 20 { Ok(()) } else { Err(source.stats()) }).await;
    assert_eq!((source.stats().pods, names.stats().facts), (0, 0));
    task.abort();
}

#[tokio::test]
async fn more_pods_than_there_is_room_for() {
    let server = Server::start(LISTED).await;
    let names = Arc::new(Names::new(NameBounds { containers: 100, grace: Duration::ZERO }));
    let source = Kubernetes::with(Access::Plain(server.url()), NODE.into(), 5, pace(), Arc::clone(&names));
    let task = tokio::spawn(source.clone().run());
    eventually("a list", || if source.stats().lists > 0 { Ok(()) } else { Err(source.stats()) }).await;
    assert_eq!((source.stats().pods, source.stats().refused), (5, 6));
    server.advance(END);
    eventually("events", || if source.stats().events > 30 { Ok(()) } else { Err(source.stats()) }).await;
    assert!(source.stats().pods <= 5);
    task.abort();
}
