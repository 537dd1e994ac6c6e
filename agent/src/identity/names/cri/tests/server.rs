//! A container runtime that does what a test tells it to.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{
    BodyExt as _,
    channel::{Channel, Sender},
};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{io::AsyncWriteExt as _, net::UnixListener, task::JoinHandle};

use super::super::api;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Takes connections and says nothing.
    Hangs,
    /// Answers the greeting, then nothing.
    HangsAtLists,
    /// Isn't HTTP at all.
    Garbage,
    /// Frames that are no messages.
    BadMessages,
    /// Announces a message of 4 GiB.
    Huge,
    /// Knows no CRI.
    Unimplemented,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) version: (String, String),
    pub(super) sandboxes: Vec<api::Sandbox>,
    pub(super) containers: Vec<api::Container>,
}

pub(super) struct Server {
    pub(super) socket: PathBuf,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    mood: Mutex<Mood>,
    world: Mutex<World>,
    events: Mutex<Option<Sender<Bytes>>>,
    has_events: bool,
    calls: AtomicUsize,
}

impl Server {
    pub(super) fn new(directory: &Path, mood: Mood, world: World, has_events: bool) -> Self {
        let shared = Shared {
            mood: Mutex::new(mood),
            world: Mutex::new(world),
            events: Mutex::new(None),
            has_events,
            calls: AtomicUsize::new(0),
        };
        let mut server = Self { socket: directory.join("cri.sock"), shared: Arc::new(shared), task: None };
        server.start();
        server
    }

    pub(super) fn start(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let shared = Arc::clone(&self.shared);
        self.task = Some(tokio::spawn(async move {
            // Connections end with the server.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        }));
    }

    pub(super) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        std::fs::remove_file(&self.socket).unwrap();
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.world.lock().unwrap());
    }

    pub(super) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    pub(super) fn is_listened_to(&self) -> bool {
        self.shared.events.lock().unwrap().is_some()
    }

    pub(super) async fn send(&self, event: api::Event) {
        let mut sender = self.shared.events.lock().unwrap().take().expect("somebody listens");
        sender.send_data(frame(&event)).await.unwrap();
        *self.shared.events.lock().unwrap() = Some(sender);
    }
}

async fn serve(mut stream: tokio::net::UnixStream, shared: Arc<Shared>) {
    let mood = *shared.mood.lock().unwrap();
    match mood {
        Mood::Hangs => std::future::pending().await,
        Mood::Garbage => {
            let _ = stream.write_all(&[0xa5; 4096]).await;
        }
        _ => {
            let answer = service_fn(move |request| respond(request, Arc::clone(&shared)));
            let server = http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Channel<Bytes>>, Infallible> {
    let (mut sender, body) = Channel::new(4);
    let mood = *shared.mood.lock().unwrap();
    let call = request.uri().path().rsplit_once('/').unwrap().1.to_owned();
    shared.calls.fetch_add(1, Ordering::Relaxed);
    let mut status = "0";
    let body_in = request.into_body().collect().await.unwrap().to_bytes();
    let list = api::ListRequest::decode(&body_in[5..]).unwrap_or_default();
    let is_wanted = |id: &str| list.filter.as_ref().is_none_or(|filter| filter.id == id);
    let answer = {
        let world = shared.world.lock().unwrap();
        match (mood, call.as_str()) {
            (Mood::Unimplemented, _) => None,
            (Mood::Huge, "ListPodSandbox") => Some(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1])),
            (Mood::BadMessages, "ListPodSandbox") => Some(Bytes::from_static(&[0, 0, 0, 0, 2, 0x0a, 0xff])),
            (_, "Version") => {
                let (runtime_name, runtime_version) = world.version.clone();
                Some(frame(&api::VersionResponse { runtime_name, runtime_version }))
            }
            (_, "ListPodSandbox") => {
                let items = world.sandboxes.iter().filter(|item| is_wanted(&item.id)).cloned().collect();
                Some(frame(&api::ListSandboxesResponse { items }))
            }
            (_, "ListContainers") => {
                let containers =
                    world.containers.iter().filter(|item| is_wanted(&item.id)).cloned().collect();
                Some(frame(&api::ListContainersResponse { containers }))
            }
            _ => None,
        }
    };
    if mood == Mood::HangsAtLists && call != "Version" {
        std::future::pending::<()>().await;
    }
    if call == "GetContainerEvents" && shared.has_events {
        *shared.events.lock().unwrap() = Some(sender);
        return Ok(grpc(body));
    }
    if answer.is_none() {
        status = "12";
    }
    tokio::spawn(async move {
        if let Some(answer) = answer {
            let _ = sender.send_data(answer).await;
        }
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
        let _ = sender.send_trailers(trailers).await;
    });
    Ok(grpc(body))
}

fn grpc(body: Channel<Bytes>) -> Response<Channel<Bytes>> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// Not compressed, length, message.
fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

/// A pod's sandbox.
pub(super) fn sandbox(id: &str, uid: &str, name: &str) -> api::Sandbox {
    let metadata = api::SandboxMetadata { name: name.into(), uid: uid.into(), namespace: "shop".into() };
    api::Sandbox { id: id.into(), metadata: Some(metadata), ..Default::default() }
}

pub(super) fn container(id: &str, sandbox: &str, name: &str) -> api::Container {
    let metadata = Some(api::ContainerMetadata { name: name.into(), attempt: 0 });
    api::Container { id: id.into(), sandbox_id: sandbox.into(), metadata, ..Default::default() }
}
