//! Everything goes wrong, and the end is always the same.

use super::*;

/// One server, one fault after the other.
async fn survives(list: Vec<Fault>, watch: Vec<Fault>) -> (Server, Agent) {
    let server = Server::start(1).await;
    server.world().list_faults.extend(list);
    server.world().watch_faults.extend(watch);
    let agent = Agent::at(&server);
    for version in [300, 450, LISTED, 700, END] {
        server.advance(version);
        agent.reaches(version).await;
    }
    assert!(server.world().list_faults.is_empty() && server.world().watch_faults.is_empty());
    (server, agent)
}

#[tokio::test]
async fn lists_that_fail() {
    let faults = vec![
        Fault::Status(500, ""),
        Fault::Status(503, "retry-after: 0\r\n"),
        Fault::Status(429, "retry-after: 0\r\n"),
        Fault::Status(410, ""),
        Fault::Status(401, ""),
        Fault::Status(403, ""),
        Fault::Cut(0),
        Fault::Stall(0),
        Fault::Bytes(0, b"<html>please log in</html>"),
        Fault::Bytes(0, br#"{"metadata":{"resourceVersion":"1&x"},"items":null}"#),
    ];
    let count = faults.len() as u64;
    let (_server, agent) = survives(faults, vec![]).await;
    // The token may be a newer one: that is tried at once.
    assert_eq!((agent.stats().failures, agent.stats().lists), (count - 1, 1));
    assert_eq!(agent.stats().problem, None);
    assert_eq!(agent.state(), SourceState::Connected);
}

#[tokio::test]
async fn watches_that_break_off_go_on_from_where_they_were() {
    let faults = (0..6).flat_map(|after| [Fault::Cut(after), Fault::CutLine(after)]);
    let (server, agent) = survives(vec![], faults.collect()).await;
    assert_eq!(agent.stats().lists, 1, "{:?}", agent.stats());
    assert_eq!(server.requests_to("node1&watch=1"), 13);
}

#[tokio::test]
async fn watches_that_go_silent() {
    let (_server, agent) = survives(vec![], vec![Fault::Stall(0), Fault::Stall(7)]).await;
    assert!(agent.stats().failures >= 2);
    assert_eq!(agent.stats().lists, 1);
}

#[tokio::test]
async fn events_that_come_twice_and_in_disorder() {
    let (_server, agent) = survives(vec![], vec![Fault::Echo]).await;
    assert!(agent.stats().stale > 200, "{:?}", agent.stats());
    let (_server, agent) = survives(vec![], vec![Fault::Swap]).await;
    assert_eq!((agent.stats().lists, agent.stats().watches), (1, 1));
}

#[tokio::test]
async fn versions_that_are_gone() {
    let faults = vec![
        Fault::Status(410, ""),
        Fault::Error(3, 410),
        Fault::Error(0, 410),
        Fault::Error(9, 500),
        Fault::Status(504, ""),
        Fault::Status(429, "retry-after: 0\r\n"),
        Fault::Status(500, ""),
        Fault::Status(401, ""),
    ];
    let (server, agent) = survives(vec![], faults).await;
    assert_eq!(agent.stats().lists, 4);
    assert_eq!(server.requests_to("resourceVersionMatch=NotOlderThan"), 3);
}

#[tokio::test]
async fn a_list_that_is_gone_too_is_asked_of_etcd() {
    let server = Server::start(LISTED).await;
    let agent = Agent::at(&server);
    agent.reaches(LISTED).await;
    server.world().watch_faults.push_back(Fault::Error(0, 410));
    server.world().list_faults.push_back(Fault::Status(410, ""));
    server.hang_up();
    server.advance(END);
    agent.reaches(END).await;
    eventually("a list", || if agent.stats().lists == 2 { Ok(()) } else { Err(agent.stats()) }).await;
    assert_eq!(server.requests_to("resourceVersionMatch=NotOlderThan"), 1);
    assert_eq!(server.requests_to("&limit=500 "), 1);
}

#[tokio::test]
async fn garbage_between_the_events() {
    let faults = vec![
        Fault::Bytes(2, b"\x00\xff garbage\n"),
        Fault::Bytes(4, b"{\"type\":\"MODIFIED\",\"object\":{\"metadata\":7}}\n"),
        Fault::Bytes(3, b"[]\n"),
        Fault::Bytes(1, b"{\"type\":\"ADDED\"}\n"),
        Fault::Bytes(1, b"{\"type\":\"REJOICE\",\"object\":null}\n\n  \r\n"),
    ];
    let (_server, agent) = survives(vec![], faults).await;
    assert_eq!((agent.stats().garbage, agent.stats().lists), (5, 1), "{:?}", agent.stats());
}

#[tokio::test]
async fn garbage_that_comes_again_and_again_ends_in_a_list() {
    let server = Server::start(LISTED).await;
    server.world().watch_faults.extend(std::iter::repeat_n(Fault::Bytes(0, b"garbage\n"), 2));
    let agent = Agent::at(&server);
    agent.reaches(LISTED).await;
    server.advance(END);
    agent.reaches(END).await;
    assert_eq!((agent.stats().lists, agent.stats().garbage), (2, 2), "{:?}", agent.stats());
}

#[tokio::test]
async fn a_server_that_is_down_from_the_start_and_away_in_between() {
    let first = Server::start(300).await;
    let address = first.address;
    drop(first);
    let agent = Agent::start(Access::Plain(format!("http://{address}")));
    agent.becomes(SourceState::Failed).await;
    let problem = agent.stats().problem.unwrap();
    assert!(problem.contains("can't be reached") && problem.contains("refused"), "{problem}");

    let server = Server::on(address, 450).await;
    agent.reaches(450).await;
    agent.becomes(SourceState::Connected).await;
    assert_eq!(agent.stats().problem, None);

    drop(server);
    agent.becomes(SourceState::Failed).await;
    assert_eq!(agent.differences(450), Vec::<String>::new());

    let server = Server::on(address, END).await;
    agent.reaches(END).await;
    agent.becomes(SourceState::Connected).await;
    assert!(agent.stats().problem.is_none());
    drop(server);
}
