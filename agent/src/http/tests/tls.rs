//! A client that speaks TLS, and several that don't.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get as route};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{
    DEADLINE, Site,
    client::{connect, get},
    debug::debug,
    wait_until,
};
use crate::{
    http::{
        Debug, Handshake, Tls, TlsError, serve_debug,
        server::{Door, serve},
        text,
    },
    live::{Hub, testing::exec},
};

const ONE: [&str; 2] = [include_str!("certificates/one.crt"), include_str!("certificates/one.key")];
const OTHER: [&str; 2] = [include_str!("certificates/other.crt"), include_str!("certificates/other.key")];

/// A directory laid out as a mounted Secret: `tls.crt → ..data/tls.crt`, `..data → ` what counts now.
struct Secret(PathBuf);

impl Secret {
    fn new(pair: [&str; 2]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let secret =
            Self(std::env::temp_dir().join(format!("podwitness-tls-{}-{number}", std::process::id())));
        fs::create_dir_all(&secret.0).unwrap();
        secret.put(pair);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), secret.0.join(name)).unwrap();
        }
        secret
    }

    /// All at once, by one rename, as the kubelet does it.
    fn put(&self, [certificate, key]: [&str; 2]) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("..{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = self.0.join(&name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("tls.crt"), certificate).unwrap();
        fs::write(directory.join("tls.key"), key).unwrap();
        symlink(&name, self.0.join("..tmp")).unwrap();
        fs::rename(self.0.join("..tmp"), self.0.join("..data")).unwrap();
    }

    fn read(&self) -> Result<Tls, TlsError> {
        Tls::read(self.0.join("tls.crt"), self.0.join("tls.key"))
    }

    fn tls(&self) -> Arc<Tls> {
        Arc::new(self.read().unwrap())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn small(tls: &Arc<Tls>, first_request: Duration) -> Site {
    let router = Router::new().route("/", route(async || text(StatusCode::OK, "ok\n")));
    let door = Door {
        places: 8,
        patience: DEADLINE,
        first_request,
        dismissal: DEADLINE,
        tls: Some(Arc::clone(tls)),
        connections: Arc::default(),
    };
    Site::new(|listener, shutdown| serve(listener, router, door, shutdown))
}

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts this certificate and no other, after its request.
fn ask(
    address: SocketAddr,
    certificate: &str,
    protocols: &[&str],
    path: &str,
) -> Result<Encrypted, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(address.ip().to_string()).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    Ok(stream)
}

fn answer(address: SocketAddr, certificate: &str) -> Result<String, std::io::Error> {
    let mut said = String::new();
    ask(address, certificate, &["h2", "http/1.1"], "/")?.read_to_string(&mut said)?;
    Ok(said)
}

#[test]
fn the_stream_is_read_encrypted() {
    let secret = Secret::new(ONE);
    let hub = Arc::new(Hub::new(64, 2));
    let tls = secret.tls();
    let shown = Debug { tls: Some(Arc::clone(&tls)), ..debug(&hub) };
    let site = Site::new(|listener, shutdown| serve_debug(listener, shown, shutdown));
    let mut stream = ask(site.address, ONE[0], &["http/1.1"], "/v1/events?limit=1").unwrap();
    wait_until("somebody reads", || hub.clients() == 1);
    hub.publish(exec(7, "sh"));
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("\"pid\":7,"), "{said}");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let words = ask(site.address, ONE[0], &[], "/").map(|mut stream| {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    });
    assert!(words.unwrap().contains(&format!("curl -N 'https://{}/v1/events'", site.address)));
    site.stop();
}

#[test]
fn a_replaced_certificate_is_shown_to_the_next_client() {
    let secret = Secret::new(ONE);
    let tls = secret.tls();
    let site = small(&tls, DEADLINE);
    assert!(answer(site.address, ONE[0]).unwrap().ends_with("ok\n"));
    secret.put(OTHER);
    assert!(answer(site.address, ONE[0]).is_err());
    assert!(answer(site.address, OTHER[0]).unwrap().ends_with("ok\n"));
    assert_eq!((tls.rotations(), tls.is_outdated()), ((1, 0), false));

    // What can't be used changes nothing, and counts once however many come.
    let torn = &ONE[0][..ONE[0].len() / 2];
    let cases = [[torn, ONE[1]], [ONE[0], "no key"], [ONE[0], OTHER[1]], ["", ""]];
    for (number, pair) in (1..).zip(cases) {
        secret.put(pair);
        for _ in 0..2 {
            assert!(answer(site.address, OTHER[0]).unwrap().ends_with("ok\n"), "{pair:?}");
        }
        assert_eq!((tls.rotations(), tls.is_outdated()), ((1, number), true), "{pair:?}");
    }
    fs::remove_file(secret.0.join("tls.key")).unwrap();
    assert!(answer(site.address, OTHER[0]).is_ok());
    assert_eq!((tls.rotations(), tls.is_outdated()), ((1, 5), true));
    symlink("..data/tls.key", secret.0.join("tls.key")).unwrap();
    secret.put(ONE);
    assert!(answer(site.address, ONE[0]).is_ok());
    assert_eq!((tls.rotations(), tls.is_outdated()), ((2, 5), false));
    site.stop();
}

#[test]
fn what_can_not_be_used_is_named_at_the_start() {
    let torn = &ONE[0][..ONE[0].len() / 2];
    for (pair, expected) in [
        ([torn, ONE[1]], "tls.crt (debug.tls_certificate_file) is cut short"),
        (["", ONE[1]], "tls.crt (debug.tls_certificate_file) holds no certificate"),
        ([ONE[0], &ONE[1][..40]], "tls.key (debug.tls_key_file) is cut short"),
        ([ONE[0], ONE[0]], "tls.key (debug.tls_key_file) holds no private key"),
        ([ONE[0], OTHER[1]], "tls.key (debug.tls_key_file) is not that of the certificate in"),
    ] {
        let secret = Secret::new(pair);
        let error = secret.read().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let secrets = ONE[1].lines().chain(OTHER[1].lines()).filter(|line| !line.starts_with('-'));
        assert!(secrets.into_iter().all(|line| !error.contains(line)), "{error}");
    }
    let nowhere = Tls::read("/nowhere/tls.crt".into(), "/nowhere/tls.key".into()).unwrap_err();
    assert!(matches!(nowhere, TlsError::Unreadable { option: "debug.tls_certificate_file", .. }));
}

#[test]
fn failed_handshakes_are_counted_by_reason() {
    let secret = Secret::new(ONE);
    let tls = secret.tls();
    let site = small(&tls, DEADLINE);
    let count = |outcome: Handshake| {
        wait_until(outcome.name(), || tls.handshakes(outcome) > 0);
        Handshake::ALL.map(|outcome| tls.handshakes(outcome))
    };
    assert!(answer(site.address, ONE[0]).is_ok());
    assert_eq!(count(Handshake::Completed), [1, 0, 0, 0, 0, 0, 0]);

    let plain = get(site.address, "/");
    assert_eq!((plain.status, plain.body.as_str()), (400, "this listener speaks TLS: use https://\n"));
    assert_eq!(count(Handshake::Plain), [1, 0, 1, 0, 0, 0, 0]);
    // Nobody is answered amid the question: the rest of it would meet a closed connection.
    let mut slow = connect(site.address, "G");
    for byte in "ET / HTTP/1.1\r\nhost: localhost\r\n\r\n".bytes() {
        slow.get_mut().write_all(&[byte]).unwrap();
        std::thread::yield_now();
    }
    let mut answer_to_slow = String::new();
    slow.read_to_string(&mut answer_to_slow).unwrap();
    assert!(answer_to_slow.ends_with("use https://\n"), "{answer_to_slow}");
    wait_until("the second", || tls.handshakes(Handshake::Plain) == 2);

    let strange = ask(site.address, ONE[0], &["h2"], "/").and_then(|mut stream| stream.read(&mut [0]));
    assert!(strange.is_err());
    assert_eq!(count(Handshake::NothingCommon), [1, 0, 2, 1, 0, 0, 0]);

    assert!(answer(site.address, OTHER[0]).is_err());
    assert_eq!(count(Handshake::Refused), [1, 0, 2, 1, 1, 0, 0]);

    let mut garbage = connect(site.address, "\u{80}\u{80}\u{80}\u{80}");
    let _ = garbage.read(&mut [0; 16]);
    assert_eq!(count(Handshake::Invalid), [1, 0, 2, 1, 1, 1, 0]);

    let gone = connect(site.address, "\u{16}");
    gone.get_ref().shutdown(Shutdown::Both).unwrap();
    assert_eq!(count(Handshake::BrokenOff), [1, 0, 2, 1, 1, 1, 1]);

    site.stop();
}

/// Both who says nothing and who stops in the middle.
#[test]
fn a_handshake_has_its_time() {
    let secret = Secret::new(ONE);
    let tls = secret.tls();
    let site = small(&tls, Duration::from_millis(100));
    let waiting = ["", "\u{16}\u{3}"].map(|begin| connect(site.address, begin));
    wait_until("both are given up", || tls.handshakes(Handshake::TimedOut) == 2);
    for mut stream in waiting {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    site.stop();
}
