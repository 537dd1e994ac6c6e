use std::{io::Read, sync::mpsc, thread, time::Duration};

use axum::{Router, http::StatusCode, routing::get as route};

use super::{
    DEADLINE, Site,
    client::{connect, get, read_head},
};
use crate::http::{
    server::{Limits, serve},
    text,
};

fn site(limits: Limits) -> Site {
    let router = Router::new().route("/", route(async || text(StatusCode::OK, "ok\n")));
    Site::new(|listener, shutdown| serve(listener, router, limits, shutdown))
}

#[test]
fn connections_beyond_the_limit_wait() {
    let site = site(Limits { connections: 1, patience: Some(Duration::from_secs(10)) });
    let mut first = connect(site.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(read_head(&mut first).0, 200);
    let (answered, answers) = mpsc::sync_channel(1);
    let address = site.address;
    let second = thread::spawn(move || answered.send(get(address, "/").status));
    first.read_exact(&mut [0; "ok\n".len()]).unwrap();
    assert!(answers.try_recv().is_err(), "the first still has its connection");
    drop(first);
    assert_eq!(answers.recv_timeout(DEADLINE), Ok(200));
    second.join().unwrap().unwrap();
    site.stop();
}

#[test]
fn whoever_says_nothing_or_half_a_request_does_not_hold_up_the_end() {
    let site = site(Limits { connections: 8, patience: None });
    let _silent = connect(site.address, "");
    let _halting = connect(site.address, "GET / HTTP/1.1\r\nHo");
    assert_eq!(get(site.address, "/").status, 200);
    site.stop();
}
