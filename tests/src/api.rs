//! A Kubernetes API server with a few objects, which never change; it may be down.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use crate::wait::unique;

/// Serves on loopback, without credentials.
pub struct Api {
    kubeconfig: PathBuf,
    address: SocketAddr,
    running: Option<Running>,
    /// Paths that somebody watches, as often as they do.
    watched: Watched,
}

struct Running {
    acceptor: thread::JoinHandle<()>,
    /// None once the server is to end.
    streams: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

type Watched = Arc<Mutex<Vec<String>>>;

/// What is answered, by path.
type Answers = Arc<Vec<(String, String)>>;

/// Below it are single objects, each with a path of its own.
pub const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/";

impl Api {
    /// Serves one object for each path.
    #[track_caller]
    pub fn serve(objects: &[(&str, &str)]) -> Self {
        let mut api = Self::down();
        api.start(objects);
        api
    }

    /// Nobody answers there yet.
    #[track_caller]
    pub fn down() -> Self {
        // An address that no other test has, so that the port stays free for as long as nobody listens.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = SocketAddr::from(([127, 83, high, low.max(1)], 0));
        let free = TcpListener::bind(address).expect("a port of loopback");
        let address = free.local_addr().expect("its address");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}]\n\
             users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n"
        );
        let kubeconfig = std::env::temp_dir().join(format!("podwitness-test-{}.kubeconfig", unique()));
        fs::write(&kubeconfig, text).expect("a file for the kubeconfig");
        Self { kubeconfig, address, running: None, watched: Watched::default() }
    }

    /// Begins to answer: with a list of one, or below [`REPLICA_SETS`] with the object itself. An empty one is answered
    /// with 503.
    #[track_caller]
    pub fn start(&mut self, objects: &[(&str, &str)]) {
        let list = |item: &str| format!(r#"{{"metadata":{{"resourceVersion":"1"}},"items":[{item}]}}"#);
        let answer_at = |path: &str, item: &str| {
            if path.starts_with(REPLICA_SETS) { item.to_owned() } else { list(item) }
        };
        let answers: Answers = Arc::new(
            objects.iter().map(|(path, item)| ((*path).to_owned(), answer_at(path, item))).collect(),
        );
        let listener = TcpListener::bind(self.address).expect("the port of before");
        let streams = Arc::new(Mutex::new(Some(Vec::new())));
        let (open, watched) = (Arc::clone(&streams), Arc::clone(&self.watched));
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut open = open.lock().expect("no thread panics");
                let Some(open) = open.as_mut() else { return };
                open.extend(stream.try_clone());
                let (answers, watched) = (Arc::clone(&answers), Arc::clone(&watched));
                // An agent that is stopped hangs up.
                thread::spawn(move || drop(answer(stream, &answers, &watched)));
            }
        });
        self.running = Some(Running { acceptor, streams });
    }

    /// Ends, with every connection.
    pub fn stop(&mut self) {
        let Some(Running { acceptor, streams }) = self.running.take() else { return };
        let open = streams.lock().expect("no thread panics").take();
        // The acceptor waits for one more.
        let _ = TcpStream::connect(self.address);
        let _ = acceptor.join();
        for stream in open.into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether somebody watches what lies at this path.
    pub fn is_watched(&self, path: &str) -> bool {
        self.watched.lock().expect("no thread panics").iter().any(|watched| watched == path)
    }

    /// The file that leads to the server.
    pub fn kubeconfig(&self) -> &str {
        self.kubeconfig.to_str().expect("a path of our own making")
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_file(&self.kubeconfig);
    }
}

/// Answers one request after the other. A watch says nothing, for as long as the client listens.
fn answer(
    mut stream: TcpStream,
    answers: &[(String, String)],
    watched: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut target = String::new();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if target.is_empty() {
                target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
        }
        let path = target.split('?').next().unwrap_or_default();
        if target.contains("watch=1") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            watched.lock().expect("no thread panics").push(path.to_owned());
            let end = reader.read(&mut [0]).map(drop);
            let mut watched = watched.lock().expect("no thread panics");
            if let Some(at) = watched.iter().position(|watched| watched == path) {
                watched.swap_remove(at);
            }
            return end;
        }
        let (status, body) = match answers.iter().find(|(known, _)| known == path) {
            Some((_, empty)) if empty.is_empty() => ("503 Service Unavailable", "{}"),
            Some((_, body)) => ("200 OK", body.as_str()),
            None => ("404 Not Found", "{}"),
        };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    }
}
