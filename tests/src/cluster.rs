//! A cluster as a command sees it from outside: an API server that knows a few pods, wants a token, and forwards ports as
//! kubelets do, over websockets within TLS, subprotocol `v4.channel.k8s.io`. Forwards can be refused and cut.

mod forward;

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::wait::unique;

/// What its users have to show.
const TOKEN: &str = "open-sesame";

type Stream = TlsStream<TcpStream>;

/// What the cluster is like at the moment.
#[derive(Default)]
struct State {
    pods: Vec<Value>,
    nodes: Vec<String>,
    /// Where a port of a pod, `namespace/name` and number, leads to.
    ports: Vec<(String, u16, SocketAddr)>,
    /// Paths that RBAC keeps to itself.
    forbidden: Vec<String>,
    /// Forwards are answered with 500.
    is_down: bool,
    /// What was asked for, with its query.
    requests: Vec<String>,
}

/// Serves on loopback, over TLS and for those who have the token, until it goes.
pub struct Cluster {
    kubeconfig: PathBuf,
    authority: PathBuf,
    state: Arc<Mutex<State>>,
    /// Counts the cuts.
    cuts: watch::Sender<u64>,
    runtime: Option<Runtime>,
}

impl Cluster {
    /// The nodes have names, and nothing runs on them yet.
    #[track_caller]
    pub fn new(nodes: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port of loopback");
        let address = listener.local_addr().expect("its address");
        let (acceptor, pem) = tls();
        let authority = std::env::temp_dir().join(format!("podwitness-test-{}.pem", unique()));
        fs::write(&authority, pem).expect("a file for the authority");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters: [{{name: c, cluster: {{server: \"https://{address}\", certificate-authority: {}}}}}]\n\
             users: [{{name: u, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: here, context: {{cluster: c, user: u, namespace: shop}}}}]\n",
            authority.display(),
        );
        let kubeconfig = std::env::temp_dir().join(format!("podwitness-test-{}.kubeconfig", unique()));
        fs::write(&kubeconfig, text).expect("a file for the kubeconfig");
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        let state = Arc::new(Mutex::new(State { nodes, ..State::default() }));
        let (cuts, cut) = watch::channel(0);
        runtime.spawn(accept(listener, acceptor, Arc::clone(&state), cut));
        Self { kubeconfig, authority, state, cuts, runtime: Some(runtime) }
    }

    /// The file that leads to the server.
    pub fn kubeconfig(&self) -> &str {
        self.kubeconfig.to_str().expect("a path of our own making")
    }

    /// A pod comes, or takes the place of one of this name.
    pub fn put(&self, pod: Value) {
        let mut state = lock(&self.state);
        state.pods.retain(|known| known["metadata"]["name"] != pod["metadata"]["name"]);
        state.pods.push(pod);
    }

    /// A pod goes.
    pub fn remove(&self, name: &str) {
        lock(&self.state).pods.retain(|pod| pod["metadata"]["name"] != name);
    }

    /// An agent's port leads to this address.
    pub fn lead(&self, pod: &str, port: u16, to: SocketAddr) {
        lock(&self.state).ports.push((pod.to_owned(), port, to));
    }

    /// From now on this path is answered with 403; without one, none is.
    pub fn forbid(&self, path: Option<&str>) {
        lock(&self.state).forbidden = path.map(str::to_owned).into_iter().collect();
    }

    /// Ends every forward as a network does that breaks, and makes no other while it is down.
    pub fn cut(&self) {
        lock(&self.state).is_down = true;
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forwards again.
    pub fn mend(&self) {
        lock(&self.state).is_down = false;
    }

    /// How often something was asked for whose path and query have this in them.
    pub fn requests(&self, part: &str) -> usize {
        lock(&self.state).requests.iter().filter(|request| request.contains(part)).count()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        for path in [&self.kubeconfig, &self.authority] {
            let _ = fs::remove_file(path);
        }
    }
}

/// A pod that runs.
pub fn pod(namespace: &str, name: &str, node: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("uid-of-{name}"), "resourceVersion": "1",
            "creationTimestamp": "2026-11-22T08:51:34Z", "labels": {},
        },
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// An agent's pod.
pub fn agent_pod(name: &str, node: &str) -> Value {
    let mut pod = pod("podwitness", name, node);
    pod["metadata"]["labels"]["app.kubernetes.io/name"] = "podwitness".into();
    pod
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics")
}

/// Who shakes hands as 127.0.0.1, and the certificate of who vouches for it.
fn tls() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("an authority").pem();
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a server");
    (TlsAcceptor::from(Arc::new(config)), pem)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    state: Arc<Mutex<State>>,
    cut: watch::Receiver<u64>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state, cut) = (acceptor.clone(), Arc::clone(&state), cut.clone());
        // Who asks may hang up.
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(serve(stream, &state, cut).await);
            }
        });
    }
}

/// Answers one request after the other.
async fn serve(mut stream: Stream, state: &Mutex<State>, cut: watch::Receiver<u64>) -> io::Result<()> {
    while let Some(head) = read_head(&mut stream).await? {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let is_forbidden = {
            let mut state = lock(state);
            state.requests.push(target.clone());
            state.forbidden.iter().any(|forbidden| forbidden == path)
        };
        let token = format!("authorization: bearer {TOKEN}\r\n");
        if !head.to_ascii_lowercase().contains(&token) {
            refuse(&mut stream, 401, "Unauthorized", "Unauthorized").await?;
            continue;
        }
        if is_forbidden {
            refuse(&mut stream, 403, "Forbidden", "User \"jane\" cannot do this").await?;
            continue;
        }
        if let Some(pod) = path.strip_suffix("/portforward") {
            return forward::answer(stream, &head, pod, query, state, cut).await;
        }
        if query.contains("watch=1") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            stream.flush().await?;
            // It has nothing to say for as long as the client listens.
            return stream.read(&mut [0]).await.map(drop);
        }
        let found = look(&lock(state), path, query);
        match found {
            Some(body) => write(&mut stream, 200, &body).await?,
            None => refuse(&mut stream, 404, "NotFound", &format!("{path} not found")).await?,
        }
    }
    Ok(())
}

async fn read_head(stream: &mut Stream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte: what comes behind the head isn't ours.
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8(head).ok())
}

/// The object or list at a path.
fn look(state: &State, path: &str, query: &str) -> Option<Value> {
    let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
    let named = |of: &Value, namespace: &str| of["metadata"]["namespace"] == namespace;
    match parts[..] {
        ["nodes", name] => {
            state.nodes.iter().any(|node| node == name).then(|| json!({"metadata": {"name": name}}))
        }
        ["namespaces"] => Some(list(Vec::new())),
        ["pods"] => Some(list(state.pods.iter().filter(|pod| is_selected(pod, query)).collect())),
        ["namespaces", namespace, "pods"] => {
            let of = state.pods.iter().filter(|pod| named(pod, namespace) && is_selected(pod, query));
            Some(list(of.collect()))
        }
        ["namespaces", namespace, "pods", name] => {
            let mut of = state.pods.iter().filter(|pod| named(pod, namespace));
            of.find(|pod| pod["metadata"]["name"] == name).cloned()
        }
        _ => None,
    }
}

fn list(items: Vec<&Value>) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

/// By one label and one field, as far as they are asked for.
fn is_selected(pod: &Value, query: &str) -> bool {
    let query = query.replace("%3D", "=").replace("%2F", "/");
    query.split('&').filter_map(|pair| pair.split_once('=')).all(|(name, value)| match name {
        "labelSelector" => {
            let (label, value) = value.split_once('=').unwrap_or_default();
            pod["metadata"]["labels"][label] == value
        }
        "fieldSelector" => {
            value.strip_prefix("spec.nodeName=").is_some_and(|node| pod["spec"]["nodeName"] == node)
        }
        _ => true,
    })
}

async fn refuse(stream: &mut Stream, code: u16, reason: &str, message: &str) -> io::Result<()> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    });
    write(stream, code, &status).await
}

async fn write(stream: &mut Stream, code: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    stream.flush().await
}
