//! An API server that has one recording to tell, and that can be told to misbehave.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::recording::{OWNERS, is_recorded, lines, objects_at, script};

/// How one request goes wrong. The number is that of the events which a watch tells before.
#[derive(Clone, Debug)]
pub(in super::super) enum Fault {
    /// An answer with this status and header lines.
    Status(u16, &'static str),
    /// The connection is closed, after the events.
    Cut(usize),
    /// As before, in the middle of a line.
    CutLine(usize),
    /// Nothing comes any more.
    Stall(usize),
    /// These bytes come before the next event.
    Bytes(usize, &'static [u8]),
    /// An ERROR event.
    Error(usize, u16),
    /// Every event comes twice, and the one before once more.
    Echo,
    /// Neighbours change places.
    Swap,
}

#[derive(Default)]
pub(in super::super) struct World {
    /// What has happened up to now.
    pub at: u64,
    /// Watches from before this are gone.
    pub oldest: u64,
    pub list_faults: VecDeque<Fault>,
    pub watch_faults: VecDeque<Fault>,
    pub owner_faults: VecDeque<Fault>,
    /// Path of what nobody may read.
    pub forbidden: Option<&'static str>,
    pub namespace_faults: VecDeque<Fault>,
    /// As listed, and what a watch tells after it.
    pub namespaces: Vec<Value>,
    pub namespace_events: Vec<Value>,
    /// The only one that is accepted.
    pub token: Option<String>,
    /// Watches from an earlier one are cut.
    pub epoch: u64,
    /// Objects of a page.
    pub page: Option<usize>,
    pub requests: Vec<String>,
}

pub(in super::super) struct Server {
    pub address: SocketAddr,
    world: Arc<Mutex<World>>,
    moved: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(in super::super) async fn start(at: u64) -> Self {
        Self::on(SocketAddr::from(([127, 0, 0, 1], 0)), at).await
    }

    pub(in super::super) async fn on(address: SocketAddr, at: u64) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World { at, ..World::default() }));
        let (moved, seen) = watch::channel(());
        let task = tokio::spawn(accept(listener, Arc::clone(&world), seen));
        Self { address, world, moved, task }
    }

    pub(in super::super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(in super::super) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// Lets time go on to the version.
    pub(in super::super) fn advance(&self, at: u64) {
        self.world().at = at;
        self.moved.send_replace(());
    }

    /// Something happens to a namespace.
    pub(super) fn tell(&self, kind: &str, namespace: Value) {
        self.world().namespace_events.push(json!({"type": kind, "object": namespace}));
        self.moved.send_replace(());
    }

    /// Cuts every watch.
    pub(in super::super) fn hang_up(&self) {
        self.world().epoch += 1;
        self.moved.send_replace(());
    }

    pub(in super::super) fn requests_to(&self, part: &str) -> usize {
        self.world().requests.iter().filter(|request| request.contains(part)).count()
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, world: Arc<Mutex<World>>, seen: watch::Receiver<()>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(connection(stream, Arc::clone(&world), seen.clone()));
    }
}

async fn connection(mut stream: TcpStream, world: Arc<Mutex<World>>, seen: watch::Receiver<()>) {
    while let Some(request) = read_request(&mut stream).await {
        if answer(&mut stream, &request, &world, seen.clone()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.readable().await.ok()?;
        match stream.try_read(&mut byte) {
            Ok(0) => return None,
            Ok(_) => head.extend(byte),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    String::from_utf8(head).ok()
}

/// An error ends the connection.
async fn answer(
    stream: &mut TcpStream,
    request: &str,
    world: &Mutex<World>,
    seen: watch::Receiver<()>,
) -> io::Result<()> {
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target.split('?').next().unwrap_or_default();
    if target.starts_with("/api/v1/namespaces?") {
        return namespaces_answer(stream, request, &target, world, seen).await;
    }
    let is_watch = target.contains("watch=1");
    let is_list = is_recorded(path) && !is_watch;
    if lock(world).forbidden == Some(path) {
        return status(stream, 403, "").await;
    }
    let (fault, refused) = {
        let mut world = lock(world);
        world.requests.push(request.to_owned());
        let expected = world.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        let refused = expected.is_some_and(|line| !request.contains(&line));
        let faults = match (is_watch, is_list) {
            (true, _) => &mut world.watch_faults,
            (_, true) => &mut world.list_faults,
            _ => &mut world.owner_faults,
        };
        (if refused { None } else { faults.pop_front() }, refused)
    };
    match fault {
        _ if refused => return status(stream, 401, "").await,
        Some(Fault::Status(code, headers)) => return status(stream, code, headers).await,
        Some(Fault::Cut(_)) if !is_watch => return Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Stall(_)) if !is_watch => return std::future::pending().await,
        Some(Fault::Bytes(_, bytes)) if !is_watch => return whole(stream, 200, "", bytes).await,
        _ => {}
    }
    if is_watch {
        return watch_answer(stream, &target, world, seen, fault).await;
    }
    if is_list {
        let text = { list(&lock(world), &target) };
        return match text {
            Some(text) => whole(stream, 200, "", text.as_bytes()).await,
            None => status(stream, 410, "").await,
        };
    }
    let owner = lines(OWNERS).find(|owner| owner["path"] == target.as_str());
    match owner {
        Some(owner) => whole(stream, 200, "", owner.to_string().as_bytes()).await,
        None => status(stream, 404, "").await,
    }
}

async fn status(stream: &mut TcpStream, code: u16, headers: &str) -> io::Result<()> {
    let text = json!({"kind": "Status", "code": code, "message": format!("test {code}")}).to_string();
    whole(stream, code, headers, text.as_bytes()).await
}

async fn whole(stream: &mut TcpStream, code: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    write(stream, &[head.as_bytes(), body].concat()).await
}

async fn watch_answer(
    stream: &mut TcpStream,
    target: &str,
    world: &Mutex<World>,
    mut seen: watch::Receiver<()>,
    fault: Option<Fault>,
) -> io::Result<()> {
    let path = target.split('?').next().unwrap_or_default();
    let mut from: u64 = parameter(target, "resourceVersion").unwrap().parse().unwrap();
    if from < lock(world).oldest {
        return status(stream, 410, "").await;
    }
    write(stream, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    let mut told = 0;
    let epoch = lock(world).epoch;
    loop {
        let at = lock(world).at;
        for line in script(path, from, at, fault.as_ref()) {
            match &fault {
                Some(Fault::Cut(after)) if told == *after => return Err(io::ErrorKind::BrokenPipe.into()),
                Some(Fault::CutLine(after)) if told == *after => {
                    chunk(stream, &line.as_bytes()[..line.len() / 2]).await?;
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Some(Fault::Stall(after)) if told == *after => return std::future::pending().await,
                Some(Fault::Bytes(after, bytes)) if told == *after => {
                    chunk(stream, bytes).await?;
                    chunk(stream, format!("{line}\n").as_bytes()).await?;
                }
                Some(Fault::Error(after, code)) if told == *after => {
                    let error = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": code}});
                    chunk(stream, format!("{error}\n").as_bytes()).await?;
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                _ => chunk(stream, format!("{line}\n").as_bytes()).await?,
            }
            told += 1;
        }
        from = from.max(at);
        if seen.changed().await.is_err() || lock(world).epoch != epoch {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn namespaces_answer(
    stream: &mut TcpStream,
    request: &str,
    target: &str,
    world: &Mutex<World>,
    mut seen: watch::Receiver<()>,
) -> io::Result<()> {
    let fault = {
        let mut world = lock(world);
        world.requests.push(request.to_owned());
        world.namespace_faults.pop_front()
    };
    let mut told = match fault {
        Some(Fault::Status(code, headers)) => return status(stream, code, headers).await,
        Some(Fault::Stall(_)) => return std::future::pending().await,
        Some(Fault::Bytes(_, bytes)) => return whole(stream, 200, "", bytes).await,
        // A list from etcd itself asks for no version.
        _ => parameter(target, "resourceVersion").map_or(0, |version| version.parse().unwrap()),
    };
    if !target.contains("watch=1") {
        let text = {
            let world = lock(world);
            let version = world.namespace_events.len();
            json!({"metadata": {"resourceVersion": version.to_string()}, "items": world.namespaces})
                .to_string()
        };
        return whole(stream, 200, "", text.as_bytes()).await;
    }
    write(stream, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    let epoch = lock(world).epoch;
    loop {
        let news: Vec<Value> = lock(world).namespace_events.iter().skip(told).cloned().collect();
        told += news.len();
        for event in news {
            chunk(stream, format!("{event}\n").as_bytes()).await?;
        }
        if seen.changed().await.is_err() || lock(world).epoch != epoch {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let size = format!("{:x}\r\n", bytes.len());
    write(stream, &[size.as_bytes(), bytes, b"\r\n"].concat()).await
}

/// None if the page that is asked for is gone.
fn list(world: &World, target: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    let objects: Vec<_> = objects_at(path, world.at).into_values().collect();
    let start: usize = match parameter(target, "continue") {
        Some("gone") => return None,
        Some(token) => token.trim_start_matches("p%2B").parse().unwrap(),
        None => 0,
    };
    let end = world.page.map_or(objects.len(), |page| (start + page).min(objects.len()));
    let more = if end < objects.len() { format!("p+{end}") } else { String::new() };
    let metadata = json!({"resourceVersion": world.at.to_string(), "continue": more});
    Some(json!({"kind": "List", "metadata": metadata, "items": &objects[start..end]}).to_string())
}

fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
