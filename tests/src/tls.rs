//! A client that speaks TLS, and certificates.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{
    http::Response,
    otlp::Directory,
    wait::{scaled, unique},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs OpenSSL in a directory.
#[track_caller]
pub fn openssl(directory: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(directory).output();
    let output = output.expect("openssl");
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A directory as Kubernetes mounts a Secret: its files are links into `..data`, a link that is replaced at one stroke.
pub struct Secret(Directory);

impl Secret {
    /// With a new certificate for 127.0.0.1.
    #[track_caller]
    pub fn new() -> Self {
        let secret = Self(Directory::new());
        secret.rotate();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), secret.0.0.join(name)).expect("a link");
        }
        secret
    }

    /// Puts another certificate with its key in place.
    #[track_caller]
    pub fn rotate(&self) {
        let directory = self.0.0.join(format!("..{}", unique()));
        fs::create_dir(&directory).expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(directory.join("tls.crt"), certificate.pem()).expect("the certificate");
        fs::write(directory.join("tls.key"), key.serialize_pem()).expect("the key");
        self.swap(&directory);
    }

    /// Puts half of the certificate in place.
    #[track_caller]
    pub fn tear(&self) {
        let whole = fs::read(self.certificate()).expect("the certificate");
        let directory = self.0.0.join(format!("..{}", unique()));
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join("tls.crt"), &whole[..whole.len() / 2]).expect("half a certificate");
        fs::copy(self.key(), directory.join("tls.key")).expect("the key");
        self.swap(&directory);
    }

    pub fn certificate(&self) -> PathBuf {
        self.0.0.join("tls.crt")
    }

    pub fn key(&self) -> PathBuf {
        self.0.0.join("tls.key")
    }

    fn swap(&self, to: &Path) {
        let new = self.0.0.join("..data_tmp");
        symlink(to.file_name().expect("a name"), &new).expect("a link");
        fs::rename(new, self.0.0.join("..data")).expect("the other link");
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self::new()
    }
}

/// Fetches `path` as a whole from whoever shows this certificate. `more` are further lines of the head.
pub fn get(address: SocketAddr, certificate: &[u8], path: &str, more: &str) -> Result<Response> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate).context("the certificate")?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(address.ip().to_string())?)?;
    let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
    stream.set_read_timeout(Some(scaled(TIMEOUT)))?;
    let mut stream = StreamOwned::new(session, stream);
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{more}\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    Ok(Response { status, content_type: String::new(), body: body.to_owned() })
}
