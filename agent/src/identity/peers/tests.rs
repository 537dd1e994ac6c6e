//! Who is told by an address, in what order, and what that costs.

use super::*;
use crate::kernel::heap::live_bytes;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn claim(rank: Rank, workload: &str, addresses: &[&str]) -> Claim {
    Claim {
        rank,
        peer: Peer { namespace: "shop".into(), workload: workload.into() },
        addresses: addresses.iter().map(|text| address(text)).collect(),
        networks: Vec::new(),
    }
}

fn peers(limit: usize) -> Peers {
    let configured = [("10.0.0.0/8", "office"), ("10.244.0.0/16", "pods"), ("10.20.0.0/16", "database")];
    let configured = configured.map(|(network, name)| (network.parse().unwrap(), name.to_owned()));
    Peers::new(PeerBounds { addresses: limit, per_container: 8 }, &configured)
}

fn name(peers: &Peers, text: &str) -> String {
    let peer = peers.of(address(text));
    format!("{}/{}", peer.namespace, peer.workload)
}

#[test]
fn without_a_cluster() {
    let peers = peers(100);
    peers.put(Origin::Own, "", &Claim::node(vec![address("192.0.2.7"), address("127.0.0.1")], vec![]));
    for (text, expected) in [
        ("127.0.0.1", "/loopback"),
        ("127.9.9.9", "/loopback"),
        ("::1", "/loopback"),
        ("::ffff:127.0.0.1", "/loopback"),
        ("192.0.2.7", "/node"),
        ("::ffff:192.0.2.7", "/node"),
        ("10.20.1.1", "/database"),
        ("::ffff:10.20.1.1", "/database"),
        ("10.21.1.1", "/office"),
        ("192.0.2.8", "/external"),
        ("2001:db8::1", "/external"),
        ("0.0.0.0", "/loopback"),
    ] {
        assert_eq!(name(&peers, text), expected, "{text}");
    }
}

#[test]
fn with_a_cluster() {
    let peers = peers(100);
    let networks = vec!["10.244.0.0/24".parse().unwrap(), "fd00:244::/64".parse().unwrap()];
    peers.put(Origin::Nodes, "n1", &Claim::node(vec![address("192.0.2.1")], networks));
    peers.put(Origin::Services, "s1", &claim(Rank::Service, "web", &["10.96.0.1", "fd00:96::1"]));
    // One of the endpoints is a pod in the network of the node.
    peers.put(
        Origin::EndpointSlices,
        "e1",
        &claim(Rank::Endpoint, "web", &["10.244.0.5", "192.0.2.1", "fd00:244::5"]),
    );
    for (text, expected) in [
        ("10.96.0.1", "shop/web"),
        ("fd00:96::1", "shop/web"),
        ("10.244.0.5", "shop/web"),
        ("fd00:244::5", "shop/web"),
        ("192.0.2.1", "/node"),
        ("10.244.0.6", "/cluster-unknown"),
        ("fd00:244::6", "/cluster-unknown"),
        // In the network of another cluster, or of a node that isn't known.
        ("10.244.1.5", "/pods"),
        ("192.0.2.2", "/external"),
    ] {
        assert_eq!(name(&peers, text), expected, "{text}");
    }
    peers.remove(Origin::Nodes, "n1");
    assert_eq!(name(&peers, "10.244.0.6"), "/pods");
    assert_eq!(name(&peers, "192.0.2.1"), "shop/web");
}

#[test]
fn an_address_of_two_services_goes_by_the_first_name_whoever_came_first() {
    for names in [["web", "web-canary"], ["web-canary", "web"]] {
        let peers = peers(100);
        for (uid, name) in [("1", names[0]), ("2", names[1])] {
            peers.put(Origin::EndpointSlices, uid, &claim(Rank::Endpoint, name, &["10.244.0.5"]));
        }
        assert_eq!(name(&peers, "10.244.0.5"), "shop/web");
        let web = if names[0] == "web" { "1" } else { "2" };
        peers.remove(Origin::EndpointSlices, web);
        assert_eq!(name(&peers, "10.244.0.5"), "shop/web-canary");
    }
}

#[test]
fn the_same_address_in_two_slices_of_a_service_stays_until_both_are_gone() {
    let peers = peers(100);
    for uid in ["1", "2"] {
        peers.put(Origin::EndpointSlices, uid, &claim(Rank::Endpoint, "web", &["10.244.0.5"]));
    }
    peers.put(Origin::EndpointSlices, "1", &claim(Rank::Endpoint, "web", &[]));
    assert_eq!(name(&peers, "10.244.0.5"), "shop/web");
    peers.remove(Origin::EndpointSlices, "2");
    assert_eq!(name(&peers, "10.244.0.5"), "/pods");
    assert_eq!(peers.addresses(), 0);
}

#[test]
fn a_list_replaces_what_its_origin_has_told_and_nothing_else() {
    let peers = peers(100);
    peers.put(Origin::Services, "1", &claim(Rank::Service, "web", &["10.96.0.1"]));
    peers.put(Origin::EndpointSlices, "1", &claim(Rank::Endpoint, "web", &["10.244.0.5"]));
    peers.put(Origin::EndpointSlices, "2", &claim(Rank::Endpoint, "db", &["10.244.0.6"]));
    let claims = [("2".to_owned(), claim(Rank::Endpoint, "db", &["10.244.0.7"]))];
    peers.replace(Origin::EndpointSlices, claims.into());
    assert_eq!(name(&peers, "10.96.0.1"), "shop/web");
    assert_eq!(name(&peers, "10.244.0.5"), "/pods");
    assert_eq!(name(&peers, "10.244.0.6"), "/pods");
    assert_eq!(name(&peers, "10.244.0.7"), "shop/db");
    assert_eq!(peers.addresses(), 2);
}

#[test]
fn addresses_beyond_the_bound_are_refused_and_counted() {
    let peers = peers(2);
    let three = claim(Rank::Endpoint, "web", &["10.244.0.5", "10.244.0.6", "10.244.0.7"]);
    peers.put(Origin::EndpointSlices, "1", &three);
    assert_eq!((peers.addresses(), peers.refused()), (2, 1));
    assert_eq!(name(&peers, "10.244.0.7"), "/pods");
    peers.put(Origin::EndpointSlices, "1", &claim(Rank::Endpoint, "web", &["10.244.0.7"]));
    assert_eq!(name(&peers, "10.244.0.7"), "shop/web");
    assert_eq!((peers.addresses(), peers.refused()), (1, 1));
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let peers = peers(100_000);
    fill(&peers, 100, 100);
    let churn = |round: u32| {
        for number in 0..100 {
            let uid = format!("{round}-{number}");
            let name = format!("service-{round}-{number}");
            peers.put(Origin::Services, &uid, &claim(Rank::Service, &name, &["10.96.0.1"]));
            peers.remove(Origin::Services, &uid);
        }
    };
    // The tables grow once: removed entries of a hash take room until it is swept.
    (0..10).for_each(churn);
    let before = live_bytes();
    (10..20).for_each(churn);
    assert_eq!(live_bytes() - before, 0, "bytes are left of 1,000 services");
}

#[test]
fn fifty_thousand_endpoints() {
    for (services, endpoints, allowed) in [(500, 100, 30), (5_000, 10, 80), (50_000, 1, 500)] {
        let peers = peers(100_000);
        let before = live_bytes();
        fill(&peers, services, endpoints);
        assert_eq!(peers.addresses(), 50_000);
        let bytes = live_bytes() - before;
        println!(
            "{services} services with {endpoints} endpoints: {} KiB, {} bytes each",
            bytes / 1024,
            bytes / 50_000
        );
        assert!(bytes / 50_000 < allowed, "{} bytes for each endpoint", bytes / 50_000);
    }
}

/// Slices as a cluster has them: uids of 36 characters, names of some 20.
fn fill(peers: &Peers, services: u32, endpoints: u32) {
    for service in 0..services {
        let uid = format!("{service:08x}-0000-4000-8000-000000000000");
        let first = service * endpoints;
        let addresses = (first..first + endpoints)
            // In the order in which pods are scheduled: all over the cluster.
            .map(|n| std::net::Ipv4Addr::from_bits(0x0a80_0000 | n.wrapping_mul(2_654_435_761) >> 9).into())
            .collect();
        let peer = Peer {
            namespace: format!("team-{}", service % 100).into(),
            workload: format!("service-number-{service}").into(),
        };
        let claim = Claim { rank: Rank::Endpoint, peer, addresses, networks: Vec::new() };
        peers.put(Origin::EndpointSlices, &uid, &claim);
    }
}
