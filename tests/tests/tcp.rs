//! The `tcp` sensor against a helper that connects, and measures how long that takes.

use integration_tests::{
    Cgroup, Workload,
    netns::{
        BLACK_HOLE_V4, BLACK_HOLE_V6, CLOSED_MAPPED, CLOSED_V4, CLOSED_V6, NO_ROUTE_V4, NO_ROUTE_V6,
        UNREACHABLE_V4, UNREACHABLE_V6,
    },
    require_kernel,
    tcp::{
        ACCEPTS, CLOSES, CONNECTS, ESTABLISHED, FAILURES, HOST_UNREACHABLE, NET_UNREACHABLE, REFUSED, Scene,
        TIMED_OUT,
    },
};

/// 1,000 connections to a listener in another cgroup: all four ends are counted where they belong.
fn established(scene: &Scene, listen: &str, to: &str) {
    let server_cgroup = Cgroup::new("server");
    let netns = scene.netns();
    let mut server = Workload::prepare(
        &["listen", "--addr", listen, "--count", "1000", "--netns", &netns],
        &server_cgroup,
    );
    server.go();
    let listening = server.report();
    let port = listening["listening"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    scene.connect(&format!("{to}:{port}"), 1_000, 1, ESTABLISHED);
    assert_eq!(server.report()["accepted"], 1_000);

    let of = [("workload", server_cgroup.path())];
    scene.agent.wait_count(ACCEPTS, &of, 1_000);
    scene.agent.wait_count(CLOSES, &of, 1_000);
    let metrics = scene.agent.scrape();
    assert_eq!(metrics.count(ACCEPTS, &of), 1_000);
    assert_eq!(metrics.count(CONNECTS, &of), 0, "a server connects to nobody");
    server.finish();

    let accepts = scene.tail.wait_of("tcp.accept", server_cgroup.path(), 1_000);
    let closes = scene.tail.wait_of("tcp.close", server_cgroup.path(), 1_000);
    assert_eq!((accepts.len(), closes.len()), (1_000, 1_000));
    for event in accepts.iter().chain(&closes) {
        assert_eq!(event["side"], "server", "{event}");
        assert_eq!(event["local_port"].to_string(), port, "{event}");
    }
    for event in closes {
        let duration = event["duration"].as_f64();
        assert!(duration.is_some_and(|seconds| seconds > 0.0), "a connection's life: {event}");
    }
}

#[test]
fn connections_over_ipv4_are_counted_on_both_sides() {
    require_kernel!();
    established(&Scene::new(), "127.0.0.1:0", "127.0.0.1");
}

#[test]
fn connections_over_ipv6_are_counted_on_both_sides() {
    require_kernel!();
    established(&Scene::new(), "[::1]:0", "[::1]");
}

#[test]
fn connections_over_mapped_addresses_are_counted_on_both_sides() {
    require_kernel!();
    established(&Scene::new(), "127.0.0.1:0", "[::ffff:127.0.0.1]");
}

#[test]
fn closes_of_clients_are_counted_where_they_belong() {
    require_kernel!();
    let scene = Scene::new();
    let cgroup = Cgroup::new("both");
    let netns = scene.netns();
    let (workload, _) = Workload::run(&["loopback", "--count", "50", "--netns", &netns], &cgroup);
    let of = [("workload", cgroup.path())];
    scene.agent.wait_count(CONNECTS, &of, 50);
    scene.agent.wait_count(ACCEPTS, &of, 50);
    scene.agent.wait_count(CLOSES, &of, 100);
    let closes = scene.tail.wait_of("tcp.close", cgroup.path(), 100);
    let clients = closes.iter().filter(|event| event["side"] == "client").count();
    assert_eq!((clients, closes.len()), (50, 100), "one close of each end");
    workload.finish();
}

#[test]
fn refused_connects_are_counted_by_reason() {
    require_kernel!();
    let scene = Scene::new();
    for address in [CLOSED_V4, CLOSED_V6, CLOSED_MAPPED] {
        scene.connect(address, 300, 1, REFUSED);
    }
}

#[test]
fn connects_into_a_black_hole_time_out() {
    require_kernel!();
    let scene = Scene::new();
    // All at once, since each takes seconds; and from threads of their own, so that each has to be told.
    scene.connect(BLACK_HOLE_V4, 5, 5, TIMED_OUT);
    scene.connect(BLACK_HOLE_V6, 5, 5, TIMED_OUT);
}

#[test]
fn connects_without_a_way_are_counted_by_reason() {
    require_kernel!();
    let scene = Scene::new();
    for address in [NO_ROUTE_V4, NO_ROUTE_V6] {
        scene.connect(address, 10, 1, NET_UNREACHABLE);
    }
    for address in [UNREACHABLE_V4, UNREACHABLE_V6] {
        scene.connect(address, 10, 1, HOST_UNREACHABLE);
    }
}

#[test]
fn connects_given_up_by_their_caller_are_aborted() {
    require_kernel!();
    let scene = Scene::new();
    for address in [BLACK_HOLE_V4, BLACK_HOLE_V6] {
        let cgroup = Cgroup::new("abort");
        let netns = scene.netns();
        let (workload, _) =
            Workload::run(&["abort", "--addr", address, "--count", "7", "--netns", &netns], &cgroup);
        let of = [("workload", cgroup.path())];
        scene.agent.wait_count(CONNECTS, &of, 7);
        scene.agent.wait_count(FAILURES, &of, 7);
        assert_eq!(scene.agent.scrape().count(FAILURES, &[of[0], ("reason", "aborted")]), 7);
        workload.finish();
    }
}
