//! The source against an engine that misbehaves in every way.

mod server;
mod words;

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::server::{Mood, Server, World};
use super::*;
use crate::identity::{Placement, names::NameBounds, testing::Scratch};

/// Between requests.
const SPACED: Duration = Duration::from_millis(100);

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn container(id: &str, name: &str) -> Value {
    json!({"Id": id, "Names": [format!("/{name}")], "Labels": {}, "State": "running"})
}

fn world() -> World {
    World { containers: vec![container(ID, "db")], ..World::default() }
}

/// A source, and an engine that it asks.
struct Bench {
    _scratch: Scratch,
    server: Server,
    names: Arc<Names>,
    source: Source,
    _tasks: JoinSet<()>,
}

impl Bench {
    fn new(name: &str, world: World) -> Self {
        let scratch = Scratch::new(name);
        let source = if world.is_podman { Source::Podman } else { Source::Docker };
        let server = Server::new(scratch.path(), world);
        let names = Arc::new(Names::new(NameBounds { containers: 100, grace: Duration::from_secs(60) }));
        let mut tasks = JoinSet::new();
        tasks.spawn(quick(source, &server.socket, &names).run());
        Self { _scratch: scratch, server, names, source, _tasks: tasks }
    }

    fn called(&self, id: &str) -> String {
        let (directory, prefix) = match self.source {
            Source::Podman => ("machine.slice", "libpod"),
            _ => ("system.slice", "docker"),
        };
        // The engine runs as whoever runs this test.
        let user = own_user();
        let above = user.map_or(directory.to_owned(), |user| format!("user.slice/user-{user}.slice"));
        let place = Placement::parse(format!("/{above}/{prefix}-{id}.scope"));
        self.names.labels(&place).labels.values().join(" ")
    }

    async fn wait_state(&self, state: SourceState) {
        wait(&format!("{state:?}"), || self.names.state(self.source) == state).await;
    }

    /// Sends the same again and again, and counts.
    fn flood(&self, bytes: Bytes) -> (JoinSet<()>, Arc<AtomicUsize>) {
        let mut sender = self.server.world().events.take().expect("somebody listens");
        let sent = Arc::new(AtomicUsize::new(0));
        let (mut tasks, count) = (JoinSet::new(), Arc::clone(&sent));
        tasks.spawn(async move {
            while sender.send_data(bytes.clone()).await.is_ok() {
                count.fetch_add(1, Relaxed);
            }
        });
        (tasks, sent)
    }

    async fn wait_listener(&self) {
        self.wait_state(SourceState::Connected).await;
        wait("a listener", || self.server.is_listened_to()).await;
    }
}

fn quick(source: Source, socket: &Path, names: &Arc<Names>) -> Docker {
    let choice = SocketChoice::Path(socket.to_owned());
    let docker = Docker::new(source, &choice, 32, Arc::clone(names)).unwrap();
    let retry = (Duration::from_millis(20), Duration::from_millis(40));
    Docker { patience: Duration::from_millis(300), retry, spacing: SPACED, ..docker }
}

fn own_user() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Some(fs::metadata("/proc/self").unwrap().uid()).filter(|user| *user != 0)
}

async fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn what_runs_is_listed_and_what_is_new_is_told() {
    run(async {
        let bench = Bench::new("docker-events", world());
        bench.wait_listener().await;
        assert_eq!(bench.called(ID), " docker db  db");
        bench.server.happens("exec_start: /bin/sh", &id('b'), "").await;
        // Nobody has waited for it, the next list is a minute away, and wouldn't have it.
        bench.server.happens("create", &id('b'), "").await;
        wait("the new one", || bench.called(&id('b')) == " docker told  told").await;

        let mut created = container(&id('b'), "shop");
        created["State"] = "created".into();
        bench.server.world().containers.push(created);
        bench.server.happens("rename", &id('b'), "").await;
        wait("its new name", || bench.called(&id('b')) == " docker shop  shop").await;
        bench.server.happens("die", &id('b'), "").await;
        bench.server.happens("destroy", ID, "").await;
        let later = || std::time::Instant::now() + Duration::from_secs(61);
        wait("the end", || {
            bench.names.expire(later());
            bench.names.stats().facts == 0
        })
        .await;
        assert_eq!(bench.server.requests_to("/events?filters="), 1);
        assert_eq!(bench.server.requests_to("/containers/json?all=true&filters="), 1);
    });
}

#[test]
fn who_waits_for_a_name_is_looked_for() {
    run(async {
        let bench = Bench::new("docker-wanted", world());
        bench.wait_listener().await;
        bench.server.world().containers.push(container(&id('c'), "late"));
        bench.names.want(vec!["../../version".into(), id('c'), id('d')]);
        wait("the name", || bench.called(&id('c')) == " docker late  late").await;
        assert_eq!(bench.server.requests_to(".."), 0, "only ids go into a path");
    });
}

#[test]
fn podman_tells_of_pods() {
    run(async {
        let listed = |id: &str, name: &str, pod: &str, is_infra: bool| json!({"Id": id, "Names": [name], "Labels": null, "Pod": "p", "PodName": pod, "IsInfra": is_infra, "State": "running"});
        let containers = vec![
            json!({"Id": ID, "Names": ["alone"], "Pod": "", "PodName": "", "State": "running"}),
            listed(&id('b'), "web", "shop", false),
            listed(&id('c'), "1f2e-infra", "shop", true),
        ];
        let bench = Bench::new("podman-pods", World { is_podman: true, containers, ..World::default() });
        bench.wait_listener().await;
        assert_eq!(bench.called(ID), " podman alone  alone");
        assert_eq!(bench.called(&id('b')), " podman shop shop web");
        assert_eq!(bench.called(&id('c')), " podman shop shop ");
        assert!(bench.server.requests_to("/v4.3.1/libpod/containers/json") > 0);
        // It is gone before it can be asked for; of an unknown pod nothing is said.
        bench.server.happens("start", &id('d'), "p").await;
        bench.server.happens("start", &id('e'), "q").await;
        bench.server.happens("start", &id('c'), "p").await;
        wait("the brief one", || bench.called(&id('d')) == " podman shop shop told").await;
        assert_eq!(bench.called(&id('e')), " podman eeeeeeeeeeee  eeeeeeeeeeee");
        assert_eq!(bench.called(&id('c')), " podman shop shop ");
        // One that is gone before it can be asked for, and one that is here again by then.
        for (action, who) in
            [("start", 'f'), ("remove", 'f'), ("start", '1'), ("remove", '1'), ("start", '1')]
        {
            bench.server.happens(action, &id(who), "p").await;
        }
        wait("the one that is here", || bench.called(&id('1')) == " podman shop shop told").await;
        bench.server.happens("remove", ID, "").await;
        wait("the end", || {
            bench.names.expire(std::time::Instant::now() + Duration::from_secs(61));
            bench.names.stats().facts == 4
        })
        .await;
    });
}

#[test]
fn every_fault_ends_the_session_and_nothing_else() {
    run(async {
        let bench = Bench::new("docker-faults", world());
        bench.wait_listener().await;
        for mood in [
            Mood::Hangs,
            Mood::HangsAtLists,
            Mood::Dribbles,
            Mood::Garbage,
            Mood::BadJson,
            Mood::Strange,
            Mood::Huge,
            Mood::Cut,
            Mood::Refuses,
        ] {
            bench.server.world().mood = mood;
            bench.names.want(vec![id('f')]);
            bench.wait_state(SourceState::Failed).await;
            assert_eq!(bench.called(ID), " docker db  db", "{mood:?}");
            bench.server.world().mood = Mood::Well;
            bench.wait_state(SourceState::Connected).await;
        }
    });
}

#[test]
fn an_engine_that_goes_and_comes_back() {
    run(async {
        let mut bench = Bench::new("docker-restart", world());
        bench.wait_listener().await;
        bench.server.stop().await;
        bench.wait_state(SourceState::Failed).await;
        assert_eq!(bench.called(ID), " docker db  db");
        // What has gone meanwhile is gone, by the next list.
        bench.server.world().containers = vec![container(&id('b'), "web")];
        bench.server.start();
        bench.wait_state(SourceState::Connected).await;
        bench.names.expire(std::time::Instant::now() + Duration::from_secs(61));
        assert_eq!(bench.called(&id('b')), " docker web  web");
        assert_eq!(bench.names.stats().facts, 1);
    });
}

#[test]
fn an_event_that_cannot_be_read_is_followed_by_a_list() {
    run(async {
        let bench = Bench::new("docker-garbled", world());
        bench.wait_listener().await;
        for garbage in ["\u{0} garbage", "[]", "{\"Action\":7}", &"x".repeat(2 << 20)] {
            let name = format!("web-{}", garbage.len());
            bench.server.world().containers[0] = container(ID, &name);
            bench.server.tell(garbage).await;
            wait(&name, || bench.called(ID) == format!(" docker {name}  {name}")).await;
        }
        assert_eq!(bench.names.state(Source::Docker), SourceState::Connected);
        assert_eq!(bench.server.requests_to("/events"), 1);
    });
}

#[test]
fn an_engine_that_never_stops_is_seldom_asked() {
    run(async {
        let rename = json!({"Type": "container", "Action": "rename", "Actor": {"ID": ID}}).to_string();
        for (name, line) in [("garbage", "x"), ("rename", rename.as_str())] {
            let bench = Bench::new(&format!("docker-endless-{name}"), world());
            bench.wait_listener().await;
            let begin = Instant::now();
            let before = bench.server.requests_to("/containers/json");
            let _flood = bench.flood(Bytes::from(format!("{line}\n")));
            wait("requests", || bench.server.requests_to("/containers/json") >= before + 5).await;
            // The first may come at once.
            assert!(begin.elapsed() >= SPACED * 3, "{name}: {:?}", begin.elapsed());
            assert_eq!(bench.names.state(Source::Docker), SourceState::Connected);
        }
    });
}

#[test]
fn an_engine_that_never_stops_has_to_wait() {
    run(async {
        let bench = Bench::new("docker-endless", world());
        bench.wait_listener().await;
        let begin = Instant::now();
        // Nothing that matters, and as much as fits on the way.
        let idle = json!({"Type": "container", "Action": "exec_start", "Actor": {"ID": ID}, "x": "x".repeat(1 << 16)});
        let (_tasks, sent) = bench.flood(Bytes::from(format!("{idle}\n")));
        wait("4 MiB", || sent.load(Relaxed) >= 64).await;
        assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());

        let bench = Bench::new("docker-endless-lines", world());
        bench.wait_listener().await;
        let begin = Instant::now();
        let _flood = bench.flood(Bytes::from_static(b"x\n"));
        wait("as many lines", || bench.names.garbled_by(Source::Docker) >= 8192).await;
        assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    });
}

#[test]
fn more_containers_than_there_is_room_for() {
    run(async {
        let letters = (0..150_u32).map(|n| container(&format!("{n:064x}"), &format!("c{n}")));
        let bench = Bench::new("docker-room", World { containers: letters.collect(), ..World::default() });
        bench.wait_state(SourceState::Connected).await;
        let stats = bench.names.stats();
        assert_eq!(stats.facts as u64 + stats.refused, 150);
        assert!(stats.refused >= 50, "{stats:?}");
    });
}

#[test]
fn another_engine_at_the_socket_is_told() {
    run(async {
        let bench = Bench::new("podman-at-docker", World { is_podman: true, ..world() });
        bench.wait_state(SourceState::Connected).await;
        let found = quick(Source::Docker, &bench.server.socket, &bench.names).probe().await;
        let text = found[0].1.as_ref().unwrap_err().to_string();
        assert_eq!(text, "podman answers there: its socket is identity.podman_socket");
        let found = quick(Source::Podman, &bench.server.socket, &bench.names).probe().await;
        assert_eq!(found[0].1.as_ref().unwrap(), "podman 4.3.1");
        let found = quick(Source::Docker, Path::new("/nonexistent/docker.sock"), &bench.names).probe().await;
        assert!(matches!(found[0].1, Err(DockerError::Connect(_))));
        assert!(Docker::new(Source::Docker, &SocketChoice::Off, 32, Arc::clone(&bench.names)).is_none());
    });
}

#[test]
fn sockets_beyond_the_bound_are_left_out_and_counted() {
    run(async {
        let scratch = Scratch::new("docker-sockets");
        let directory = |number: u32| scratch.path().join(format!("user/{number}"));
        for number in 1..=3 {
            fs::create_dir_all(directory(number)).unwrap();
        }
        let mut servers: Vec<_> = (1..=3).map(|number| Server::new(&directory(number), world())).collect();
        let names = Arc::new(Names::new(NameBounds { containers: 100, grace: Duration::from_secs(60) }));
        let docker = Docker::new(Source::Docker, &SocketChoice::Auto, 2, Arc::clone(&names)).unwrap();
        let (retry, look) = (Duration::from_millis(20), Duration::from_millis(20));
        let run = scratch.path().to_owned();
        let mut tasks = JoinSet::new();
        tasks.spawn(Docker { run, look, retry: (retry, retry), ..docker }.run());
        let listened = |servers: &[Server]| servers.iter().filter(|server| server.is_listened_to()).count();
        wait("two of three", || listened(&servers) == 2 && names.left_out(Source::Docker) == 1).await;
        // A user goes, and the one who was left out comes in.
        let gone = servers.iter().position(Server::is_listened_to).unwrap();
        let mut gone = servers.remove(gone);
        gone.stop().await;
        wait("the other two", || listened(&servers) == 2 && names.left_out(Source::Docker) == 0).await;
    });
}
