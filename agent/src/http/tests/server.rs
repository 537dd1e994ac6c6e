use std::{
    io::{Read as _, Write as _},
    sync::Arc,
    time::Duration,
};

use axum::{Extension, Router, http::StatusCode, routing::get as route};

use super::{
    DEADLINE, Site,
    client::{connect, get, read_head},
    wait_until,
};
use crate::http::{
    Connections,
    server::{Door, serve},
    text,
    visit::Visit,
};

const OK: usize = "ok\n".len();

fn door(places: usize) -> Door {
    Door {
        places,
        patience: DEADLINE,
        first_request: DEADLINE,
        dismissal: DEADLINE,
        tls: None,
        connections: Arc::default(),
    }
}

fn site(door: Door) -> (Site, Arc<Connections>) {
    let connections = Arc::clone(&door.connections);
    let router = Router::new()
        .route("/", route(async || text(StatusCode::OK, "ok\n")))
        .route(
            "/slow",
            route(async |Extension(visit): Extension<Arc<Visit>>| {
                visit.allow_slowness();
                text(StatusCode::OK, "ok\n")
            }),
        )
        .route("/large", route(async || text(StatusCode::OK, "x".repeat(64 << 20))));
    (Site::new(|listener, shutdown| serve(listener, router, door, shutdown)), connections)
}

#[test]
fn connections_beyond_the_limit_are_refused_and_counted() {
    let (site, connections) = site(door(1));
    let mut first = connect(site.address, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(read_head(&mut first).0, 200);
    let mut second = connect(site.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let (status, head) = read_head(&mut second);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    let mut body = vec![0; length];
    second.read_exact(&mut body).unwrap();
    assert!(status == 503 && head.contains("retry-after: 10\r\n"), "{head}");
    assert!(body.starts_with(b"as many connections as allowed") && body.ends_with(b"them\n"));
    assert_eq!((connections.open(), connections.admitted(), connections.refused()), (1, 1, 1));
    drop(first);
    wait_until("the end of the first", || connections.open() == 0);
    assert_eq!(get(site.address, "/").status, 200);
    site.stop();
}

#[test]
fn whoever_says_nothing_or_half_a_request_does_not_hold_up_the_end() {
    let (site, _) = site(door(8));
    let _silent = connect(site.address, "");
    let _halting = connect(site.address, "GET / HTTP/1.1\r\nHo");
    assert_eq!(get(site.address, "/").status, 200);
    site.stop();
}

#[test]
fn a_connection_that_asks_for_nothing_is_given_up() {
    let (site, connections) = site(Door { first_request: Duration::from_millis(50), ..door(8) });
    let mut kept = connect(site.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(read_head(&mut kept).0, 200);
    kept.read_exact(&mut [0; OK]).unwrap();
    for half in ["", "GET / HTTP/1.1\r\nHo"] {
        // Longer than the one that is kept has been waiting for its next request.
        assert_eq!(connect(site.address, half).read(&mut [0]).unwrap_or(0), 0, "{half}");
    }
    assert_eq!((connections.silent(), connections.admitted()), (2, 3));
    kept.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut kept).0, 200);
    site.stop();
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let (site, connections) = site(Door { patience: Duration::from_millis(50), ..door(8) });
    let _stuck = connect(site.address, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the end of who doesn't read", || connections.admitted() == 1 && connections.open() == 0);
    site.stop();
}

#[test]
fn only_the_answer_that_may_be_slow_may_be_slow() {
    let (site, connections) = site(Door { patience: Duration::from_millis(50), ..door(8) });
    let mut stuck = connect(site.address, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(read_head(&mut stuck).0, 200);
    stuck.read_exact(&mut [0; OK]).unwrap();
    stuck.get_mut().write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait_until("the end of who doesn't read", || connections.admitted() == 1 && connections.open() == 0);
    site.stop();
}

/// A probe of whoever watches over the agent asks at once.
#[test]
fn whoever_asks_for_nothing_keeps_nobody_out() {
    let (site, connections) = site(door(4));
    let silent: Vec<_> = ["", "GET / HTTP/1.1\r\nHo"].into_iter().cycle().take(40).collect();
    let _silent: Vec<_> = silent.into_iter().map(|half| connect(site.address, half)).collect();
    for _ in 0..10 {
        assert_eq!(get(site.address, "/").status, 200);
    }
    assert_eq!((connections.refused(), connections.silent()), (0, 0));
    assert!(connections.displaced() >= 36, "{}", connections.displaced());
    site.stop();
}

#[test]
fn whoever_has_been_idle_for_longest_makes_place_for_a_new_one() {
    let (site, connections) = site(door(4));
    let ask = || {
        let mut kept = connect(site.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(read_head(&mut kept).0, 200);
        kept.read_exact(&mut [0; OK]).unwrap();
        kept
    };
    let mut busy = connect(site.address, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(read_head(&mut busy).0, 200);
    let mut kept = [(); 3].map(|()| ask());
    // The first has asked once more, so the second is the one.
    kept[0].get_mut().write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut kept[0]).0, 200);
    kept[0].read_exact(&mut [0; OK]).unwrap();
    let _new = ask();
    assert_eq!(kept[1].read(&mut [0]).unwrap(), 0);
    for kept in [0, 2].map(|number| &kept[number]) {
        kept.get_ref().set_nonblocking(true).unwrap();
        assert_eq!(kept.get_ref().peek(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    let counts = (connections.open(), connections.admitted(), connections.displaced(), connections.refused());
    assert_eq!(counts, (4, 5, 1, 0));
    // An answer that is under way is no pause.
    let mut body = vec![0; 64 << 20];
    busy.read_exact(&mut body).unwrap();
    site.stop();
}
