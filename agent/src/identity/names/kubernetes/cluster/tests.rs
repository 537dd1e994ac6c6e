//! The watch of the cluster against the recording of a real one, whole and misbehaving.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    super::tests::{
        END, LISTED, eventually, pace,
        recording::{NODES, SERVICES, SLICES, objects_at},
        server::{Fault, Server},
    },
    *,
};
use crate::identity::peers::PeerBounds;

/// The source at work, until it is dropped.
struct Agent {
    peers: Arc<Peers>,
    cluster: Cluster,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    fn at(server: &Server) -> Self {
        let peers = Arc::new(Peers::new(PeerBounds { addresses: 1000, per_container: 10 }, &[]));
        let cluster = Cluster::with(Access::Plain(server.url()), 1000, pace(), &peers);
        let task = tokio::spawn(cluster.clone().run());
        Self { peers, cluster, task }
    }

    async fn reaches(&self, version: u64) {
        let truth = truth_at(version);
        eventually(&format!("the state of version {version}"), || {
            let found = |address: &IpAddr| {
                let peer = self.peers.of(*address);
                format!("{}/{}", peer.namespace, peer.workload)
            };
            let wrong: Vec<_> = truth.iter().filter(|(address, name)| found(address) != **name).collect();
            if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?} {:?}", self.cluster.stats())) }
        })
        .await;
    }

    async fn works(&self) {
        eventually("all are connected", || {
            let stats = self.cluster.stats();
            let works = stats.iter().all(|stats| stats.state == SourceState::Connected);
            if works { Ok(()) } else { Err(Vec::from(stats)) }
        })
        .await;
    }

    /// How the EndpointSlices do.
    fn slices(&self) -> ClusterStats {
        let [slices, ..] = self.cluster.stats();
        slices
    }
}

/// Every address that ever has a name, with the one that it has at a version, read independently of the code that is
/// tested.
fn truth_at(version: u64) -> BTreeMap<IpAddr, String> {
    let addresses = |value: &Value| -> Vec<IpAddr> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str()?.parse().ok()).collect()
    };
    let mut truth = BTreeMap::new();
    let everything: Vec<_> = (1..=END).flat_map(|version| objects_at(SLICES, version)).collect();
    let now: Vec<_> = objects_at(SLICES, version).into_iter().collect();
    for (slices, is_now) in [(everything, false), (now, true)] {
        for (_, slice) in slices {
            let meta = &slice["metadata"];
            let service = meta["labels"]["kubernetes.io/service-name"].as_str().unwrap();
            let name = format!("{}/{service}", meta["namespace"].as_str().unwrap());
            for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                for address in addresses(&endpoint["addresses"]) {
                    truth.insert(address, if is_now { name.clone() } else { "/external".into() });
                }
            }
        }
    }
    for (_, service) in objects_at(SERVICES, version) {
        let meta = |name: &str| service["metadata"][name].as_str().unwrap();
        for address in addresses(&service["spec"]["clusterIPs"]) {
            truth.insert(address, format!("{}/{}", meta("namespace"), meta("name")));
        }
    }
    for (_, node) in objects_at(NODES, version) {
        for address in node["status"]["addresses"].as_array().unwrap() {
            let address = address["address"].as_str().unwrap().parse();
            truth.extend(address.map(|address| (address, "/node".to_owned())));
        }
    }
    truth
}

#[tokio::test]
async fn the_whole_recording() {
    let truth = truth_at(LISTED);
    let name = |text: &str| truth[&text.parse().unwrap()].as_str();
    assert_eq!((name("10.0.0.75"), name("10.244.99.13")), ("shop/web", "shop/db"));
    // The API server has the node's address; its Service has one of its own.
    assert_eq!((name("10.0.0.1"), name("10.244.99.1")), ("default/kubernetes", "/node"));

    let server = Server::start(1).await;
    let agent = Agent::at(&server);
    agent.works().await;
    for version in [1, 300, 500, LISTED, 700, 760, END] {
        server.advance(version);
        agent.reaches(version).await;
    }
    for stats in agent.cluster.stats() {
        assert_eq!((stats.lists, stats.failures, stats.garbage), (1, 0, 0), "{stats:?}");
    }
    let world = server.world();
    let asks = |line: &str| world.requests.iter().any(|request| request.contains(line));
    assert!(asks(&format!("GET {SLICES}?limit=500&resourceVersion=0 ")));
    assert!(asks(&format!("GET {SLICES}?watch=1&allowWatchBookmarks=true&resourceVersion=1&")));
}

#[tokio::test]
async fn lists_and_watches_that_fail() {
    let server = Server::start(1).await;
    // Whichever kind they hit.
    server.world().list_faults.extend([
        Fault::Status(500, ""),
        Fault::Status(410, ""),
        Fault::Cut(0),
        Fault::Stall(0),
        Fault::Bytes(0, b"<html>please log in</html>"),
    ]);
    server.world().watch_faults.extend([
        Fault::Cut(0),
        Fault::CutLine(1),
        Fault::Stall(0),
        Fault::Error(0, 410),
        Fault::Status(410, ""),
        Fault::Bytes(0, b"\x00 garbage\n"),
        Fault::Echo,
    ]);
    let agent = Agent::at(&server);
    for version in [300, 500, LISTED, 700, 760] {
        server.advance(version);
        agent.reaches(version).await;
        server.hang_up();
    }
    eventually("all faults", || {
        let world = server.world();
        let left = (world.list_faults.len(), world.watch_faults.len());
        drop(world);
        server.hang_up();
        if left == (0, 0) { Ok(()) } else { Err(left) }
    })
    .await;
    server.advance(END);
    agent.reaches(END).await;
    agent.works().await;
}

#[test]
fn what_is_deleted_or_loses_its_service_is_forgotten() {
    let peers = Arc::new(Peers::new(PeerBounds { addresses: 10, per_container: 10 }, &[]));
    let cluster = Cluster::with(Access::Plain("http://127.0.0.1".into()), 10, pace(), &peers);
    let slice = |labels: &str| -> Object {
        let meta = format!(r#"{{"uid":"u","name":"web-x","namespace":"shop","labels":{labels}}}"#);
        let json = format!(r#"{{"metadata":{meta},"endpoints":[{{"addresses":["192.0.2.1"]}}]}}"#);
        serde_json::from_str(&json).unwrap()
    };
    let named = slice(r#"{"kubernetes.io/service-name":"web"}"#);
    let name = || peers.of("192.0.2.1".parse().unwrap()).workload.clone();
    let [slices, ..] = &*cluster.watched;
    slices.put(&named);
    assert_eq!(&*name(), "web");
    slices.put(&slice("null"));
    assert_eq!(&*name(), "external");
    slices.put(&named);
    slices.remove(&named);
    assert_eq!((&*name(), peers.addresses()), ("external", 0));
}

#[tokio::test]
async fn a_watch_whose_version_is_gone_is_followed_by_a_list() {
    let server = Server::start(LISTED).await;
    let agent = Agent::at(&server);
    agent.reaches(LISTED).await;
    server.world().oldest = END;
    server.hang_up();
    server.advance(END);
    agent.reaches(END).await;
    eventually("a second list", || if agent.slices().lists >= 2 { Ok(()) } else { Err(agent.slices()) })
        .await;
}

#[tokio::test]
async fn what_rbac_forbids_is_named_and_the_rest_goes_on() {
    let server = Server::start(LISTED).await;
    server.world().forbidden = Some(SLICES);
    let agent = Agent::at(&server);
    eventually("a problem", || if agent.slices().problem.is_some() { Ok(()) } else { Err(()) }).await;
    let problem = agent.slices().problem.unwrap();
    let rule = r#"apiGroups: ["discovery.k8s.io"], resources: [endpointslices], verbs: [list]"#;
    assert!(problem.contains(rule), "{problem}");
    assert_eq!(agent.slices().state, SourceState::Failed);
    eventually("the others", || {
        let [_, services, nodes] = agent.cluster.stats();
        let work = [&services, &nodes].iter().all(|stats| stats.state == SourceState::Connected);
        if work { Ok(()) } else { Err(vec![services, nodes]) }
    })
    .await;
    assert_eq!(&*agent.peers.of("10.0.0.75".parse().unwrap()).workload, "web");
    assert!(agent.cluster.check().await.unwrap_err().to_string().contains(rule));
    server.world().forbidden = None;
    assert!(agent.cluster.check().await.is_ok());
    agent.reaches(LISTED).await;
}

#[tokio::test]
async fn what_is_known_stays_while_the_server_is_away() {
    let server = Server::start(LISTED).await;
    let agent = Agent::at(&server);
    agent.reaches(LISTED).await;
    let address = server.address;
    drop(server);
    eventually("failures", || {
        let stats = agent.cluster.stats();
        let all_failed = stats.iter().all(|stats| stats.state == SourceState::Failed);
        if all_failed { Ok(()) } else { Err(Vec::from(stats)) }
    })
    .await;
    agent.reaches(LISTED).await;
    let server = Server::on(address, END).await;
    agent.reaches(END).await;
    drop(server);
}

#[tokio::test]
async fn no_more_addresses_than_there_is_room_for() {
    let server = Server::start(LISTED).await;
    let peers = Arc::new(Peers::new(PeerBounds { addresses: 3, per_container: 10 }, &[]));
    let cluster = Cluster::with(Access::Plain(server.url()), 3, pace(), &peers);
    let task = tokio::spawn(cluster.clone().run());
    eventually("three addresses and some refused", || {
        let known = (peers.addresses(), peers.refused());
        if known.0 == 3 && known.1 > 0 { Ok(()) } else { Err(known) }
    })
    .await;
    task.abort();
}
