use std::{
    fs,
    future::pending,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Files that go when this does.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("podwitness-remote-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server of whom it says that he is `name`, until the end of a year.
    fn vouch(&self, name: &str, until: i32) -> ServerConfig {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        serve_by(certificate.der().clone(), &key)
    }
}

fn serve_by(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

/// Says `{"path": …, "host": …, "asked": …}` to every request, and counts the connections.
async fn agent(tls: Option<ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => answer(stream).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => answer(stream).await,
                        Err(_) => None,
                    },
                }
            });
        }
    });
    (address, connections)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
    let mut asked = 0;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
            if !head[0].is_ascii_alphabetic() {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.ok()?;
                return None;
            }
        }
        asked += 1;
        let head = String::from_utf8(head).unwrap();
        let header = |wanted: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
        };
        let path = head.split(' ').nth(1).unwrap();
        let (status, body) = match path {
            "/hang-up" => return None,
            "/secret" if header("authorization").is_none() => ("401 Unauthorized", "who?".to_owned()),
            "/nothing" => ("404 Not Found", "not found".to_owned()),
            "/full" => ("503 Busy", r#"{"error": "all places are taken"}"#.to_owned()),
            "/text" => ("200 OK", "hello".to_owned()),
            // One line, and nothing more, but the connection stays.
            "/silent" => {
                let stream_of = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello\n\r\n";
                stream.write_all(stream_of.as_bytes()).await.ok()?;
                return pending().await;
            }
            _ => {
                let said = serde_json::json!({
                    "path": path, "host": header("host"), "token": header("authorization"), "asked": asked,
                });
                ("200 OK", said.to_string())
            }
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.ok()?;
    }
}

fn config() -> Config {
    Config::default()
}

fn at(address: &str) -> Place {
    Place { which: Which::Address(address.into()), ..Place::default() }
}

async fn ask(place: &Place) -> Result<Value, RemoteError> {
    Remote::new(place, &config()).await?.json("/v1/status").await
}

async fn complaint_of(place: &Place) -> String {
    ask(place).await.unwrap_err().to_string()
}

#[tokio::test]
async fn one_connection_does_for_many_requests() {
    let (address, connections) = agent(None).await;
    let remote = Remote::new(&at(&address.to_string()), &config()).await.unwrap();
    for asked in 1..=3 {
        let said = remote.json("/v1/containers").await.unwrap();
        assert_eq!((&said["asked"], &said["host"]), (&asked.into(), &address.to_string().into()));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    // One that was closed meanwhile is replaced without a word.
    assert!(remote.json("/hang-up").await.unwrap_err().is_of_connection());
    assert_eq!(remote.json("/v1/containers").await.unwrap()["asked"], 1);
}

#[tokio::test]
async fn tokens_are_read_anew() {
    let (address, _) = agent(None).await;
    let directory = Directory::new();
    let place = at(&address.to_string());
    let remote = Remote::new(&place, &config()).await.unwrap();
    let error = remote.json("/secret").await.unwrap_err();
    assert!(matches!(error, RemoteError::Unauthorized { .. }) && !error.may_pass(), "{error}");
    let path = directory.file("token", "first\n");
    let remote = Remote::new(&Place { token_file: Some(path), ..place }, &config()).await.unwrap();
    assert_eq!(remote.json("/secret").await.unwrap()["token"], "Bearer first");
    directory.file("token", "second");
    assert_eq!(remote.json("/secret").await.unwrap()["token"], "Bearer second");
    fs::remove_file(directory.0.join("token")).unwrap();
    assert!(matches!(remote.json("/secret").await, Err(RemoteError::Token { .. })));
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let (address, _) = agent(None).await;
    let remote = Remote::new(&at(&address.to_string()), &config()).await.unwrap();
    let error = remote.json("/nothing").await.unwrap_err();
    assert!(error.to_string().contains("has no /nothing: is it the port of debug.listen"), "{error}");
    let error = remote.json("/full").await.unwrap_err();
    assert!(error.may_pass() && error.to_string().ends_with("answered 503: all places are taken"), "{error}");
    assert!(matches!(remote.json("/text").await, Err(RemoteError::NoJson { .. })));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(&at(&closed.to_string())).await.unwrap_err();
    assert!(error.may_pass() && error.to_string().contains("no agent answers at 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn an_agent_with_tls_is_believed_by_its_authority() {
    let authority = Authority::new();
    let directory = Directory::new();
    let ca = directory.file("ca.pem", &authority.pem);
    let (address, _) = agent(Some(authority.vouch("localhost", 2999))).await;
    let secure =
        |host: &str| Place { ca_file: Some(ca.clone()), ..at(&format!("https://{host}:{}", address.port())) };
    let said = ask(&secure("localhost")).await.unwrap();
    assert_eq!(said["host"], format!("localhost:{}", address.port()));
    // A CA is for TLS, said or not.
    let unsaid = Place { ca_file: Some(ca.clone()), ..at(&format!("localhost:{}", address.port())) };
    assert!(ask(&unsaid).await.is_ok());

    // Called by another name than the one in the certificate.
    let error = complaint_of(&secure("127.0.0.1")).await;
    assert!(error.contains("it isn't 127.0.0.1's") && error.contains("--tls-server-name"), "{error}");
    let named = Place { server_name: Some("localhost".into()), ..secure("127.0.0.1") };
    assert!(ask(&named).await.is_ok());
    let nonsense = Place { server_name: Some("a b".into()), ..secure("127.0.0.1") };
    assert!(complaint_of(&nonsense).await.contains("no name that a certificate can have"));

    // Plain HTTP to one that speaks TLS, and the other way round.
    let error = complaint_of(&at(&address.to_string())).await;
    assert!(error.contains("if it speaks TLS, write https://"), "{error}");
    let (plain, _) = agent(None).await;
    let error = complaint_of(&Place { ca_file: Some(ca.clone()), ..at(&plain.to_string()) }).await;
    assert!(error.contains("speaks no TLS: write http://"), "{error}");
}

#[tokio::test]
async fn certificates_that_arent_believed_say_what_to_do() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let directory = Directory::new();
    let ca = directory.file("ca.pem", &authority.pem);
    let place = |ca: &Path, address: SocketAddr| Place {
        ca_file: Some(ca.to_owned()),
        ..at(&format!("https://localhost:{}", address.port()))
    };

    let (expired, _) = agent(Some(authority.vouch("localhost", 2001))).await;
    let error = complaint_of(&place(&ca, expired)).await;
    assert!(error.contains("it has run out; give the agent a new one"), "{error}");
    // Both call themselves alike, so that only the signature tells.
    let (strange, _) = agent(Some(stranger.vouch("localhost", 2999))).await;
    let error = complaint_of(&place(&ca, strange)).await;
    assert!(error.contains("--ca-file"), "{error}");
    let without = Place { ca_file: None, ..place(&ca, strange) };
    let error = complaint_of(&without).await;
    assert!(error.contains("--ca-file"), "{error}");

    // One who vouches for himself: such a certificate is an authority's and a server's at the same time.
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    let (own_address, _) = agent(Some(serve_by(own.der().clone(), &key))).await;
    let own_ca = directory.file("own.pem", &own.pem());
    let error = complaint_of(&place(&own_ca, own_address)).await;
    assert!(error.contains("CA:FALSE"), "{error}");
    params.is_ca = IsCa::ExplicitNoCa;
    let own = params.self_signed(&key).unwrap();
    let (own_address, _) = agent(Some(serve_by(own.der().clone(), &key))).await;
    let own_ca = directory.file("own.pem", &own.pem());
    assert!(ask(&place(&own_ca, own_address)).await.is_ok());

    let missing = Path::new("/nonexistent/ca.pem");
    assert!(complaint_of(&place(missing, expired)).await.contains("can't read /nonexistent/ca.pem"));
    let empty = directory.file("empty.pem", "nothing");
    assert!(complaint_of(&place(&empty, expired)).await.contains("holds no certificate"));
}

#[test]
fn the_local_agent_is_called_where_it_listens() {
    let to = |listen: &str| local(listen.parse().unwrap()).to_string();
    assert_eq!(to("0.0.0.0:9482"), "127.0.0.1:9482");
    assert_eq!(to("[::]:1"), "[::1]:1");
    assert_eq!(to("10.0.0.7:9482"), "10.0.0.7:9482");
}

#[test]
fn queries_survive_what_filters_have_in_them() {
    let pairs = [("filter", "comm=\"a&b\" or pid>1".to_owned()), ("since", "30s".to_owned())];
    assert_eq!(query(&pairs), "filter=comm%3D%22a%26b%22%20or%20pid%3E1&since=30s");
}

/// A connection may be dead without anybody having said so: an agent that lives would say that it has nothing to tell.
#[tokio::test]
async fn an_agent_that_says_nothing_is_given_up() {
    let (address, _) = agent(None).await;
    let remote = Remote::new(&at(&address.to_string()), &config()).await.unwrap();
    let mut lines = remote.lines("/silent", &[]).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), ["hello"]);
    // From here on the time that is waited passes at once.
    tokio::time::pause();
    assert!(matches!(lines.next().await, Err(RemoteError::Silent(_))));
}
