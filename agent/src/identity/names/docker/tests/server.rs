//! An engine that does what a test tells it to.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::channel::{Channel, Sender};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::UnixListener, task::JoinHandle};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Well,
    /// Takes connections and says nothing.
    Hangs,
    /// Answers the greeting, then nothing.
    HangsAtLists,
    /// Begins a list and doesn't end it.
    Dribbles,
    /// Isn't HTTP at all.
    Garbage,
    /// No JSON.
    BadJson,
    /// JSON of another kind.
    Strange,
    /// A list without an end.
    Huge,
    /// Breaks off in the middle of a list.
    Cut,
    /// Says no.
    Refuses,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) mood: Mood,
    pub(super) is_podman: bool,
    /// As listed; those whose `State` isn't `running` only if all or one is asked for.
    pub(super) containers: Vec<Value>,
    pub(super) requests: Vec<String>,
    pub(super) events: Option<Sender<Bytes, io::Error>>,
}

pub(super) struct Server {
    pub(super) socket: PathBuf,
    world: Arc<Mutex<World>>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn new(directory: &Path, world: World) -> Self {
        let socket = directory.join("docker.sock");
        let mut server = Self { socket, world: Arc::new(Mutex::new(world)), task: None };
        server.start();
        server
    }

    pub(super) fn start(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let world = Arc::clone(&self.world);
        self.task = Some(tokio::spawn(async move {
            // Connections end with the server.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&world)));
            }
        }));
    }

    pub(super) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        self.world().events = None;
        std::fs::remove_file(&self.socket).unwrap();
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn is_listened_to(&self) -> bool {
        self.world().events.is_some()
    }

    pub(super) fn requests_to(&self, part: &str) -> usize {
        self.world().requests.iter().filter(|request| request.contains(part)).count()
    }

    pub(super) async fn tell(&self, line: &str) {
        let mut sender = self.world().events.take().expect("somebody listens");
        sender.send_data(Bytes::from(format!("{line}\n"))).await.unwrap();
        self.world().events = Some(sender);
    }

    /// To a container called `told`.
    pub(super) async fn happens(&self, action: &str, id: &str, pod: &str) {
        let attributes = json!({"name": "told", "image": "i", "podId": pod});
        let event =
            json!({"Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": attributes}});
        self.tell(&event.to_string()).await;
    }
}

async fn serve(mut stream: tokio::net::UnixStream, world: Arc<Mutex<World>>) {
    let mood = world.lock().unwrap().mood;
    match mood {
        Mood::Hangs => std::future::pending().await,
        Mood::Garbage => {
            let _ = stream.write_all(&[0xa5; 4096]).await;
        }
        _ => {
            let answer = service_fn(move |request| respond(request, Arc::clone(&world)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    world: Arc<Mutex<World>>,
) -> Result<Response<Channel<Bytes, io::Error>>, Infallible> {
    let (mut sender, body) = Channel::new(4);
    let uri = request.uri().to_string();
    let is_list = uri.contains("/containers/json");
    let (mood, answer) = {
        let mut world = world.lock().unwrap();
        world.requests.push(uri.clone());
        if uri.starts_with("/events") {
            world.events = Some(sender);
            return Ok(Response::new(body));
        }
        (world.mood, if is_list { list(&world, &uri) } else { version(world.is_podman) })
    };
    if mood == Mood::Refuses {
        let _ = sender.send_data(Bytes::from_static(b"no\nway")).await;
        return Ok(Response::builder().status(403).body(body).unwrap());
    }
    if !is_list {
        let _ = sender.send_data(answer.to_string().into()).await;
        return Ok(Response::new(body));
    }
    tokio::spawn(async move {
        let text = Bytes::from(answer.to_string());
        let half = text.slice(..text.len() / 2);
        let piece = match mood {
            Mood::HangsAtLists => std::future::pending().await,
            Mood::Dribbles => {
                let _ = sender.send_data(half).await;
                std::future::pending().await
            }
            Mood::Cut => {
                let _ = sender.send_data(half).await;
                return sender.abort(io::Error::other("cut"));
            }
            Mood::Huge => {
                let megabyte = Bytes::from(vec![b' '; 1 << 20]);
                while sender.send_data(megabyte.clone()).await.is_ok() {}
                return;
            }
            Mood::BadJson => Bytes::from_static(b"[{\"Id\":"),
            Mood::Strange => Bytes::from_static(b"{\"message\":\"hello\"}"),
            _ => text,
        };
        let _ = sender.send_data(piece).await;
    });
    Ok(Response::new(body))
}

fn version(is_podman: bool) -> Value {
    if is_podman {
        let details = json!({"APIVersion": "4.3.1", "MinAPIVersion": "4.0.0"});
        let engine = json!({"Name": "Podman Engine", "Version": "4.3.1", "Details": details});
        return json!({"Version": "4.3.1", "ApiVersion": "1.41", "Components": [engine, {"Name": "Conmon"}]});
    }
    json!({"Version": "27.0.1", "ApiVersion": "1.46", "Components": [{"Name": "Engine", "Details": null}]})
}

fn list(world: &World, uri: &str) -> Value {
    let is_wanted = |container: &&Value| {
        let id = container["Id"].as_str().unwrap_or("-");
        if uri.contains("filters") { uri.contains(id) } else { container["State"] == "running" }
    };
    world.containers.iter().filter(is_wanted).cloned().collect()
}
