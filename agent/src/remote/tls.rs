//! TLS on the way to an agent, and what to do when its certificate isn't believed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{connection::Stream, error::RemoteError};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("can't read {}: --ca-file wants a PEM file with the certificate of who signed the agent's", .path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} holds no certificate: --ca-file wants a PEM file with the certificate of who signed the agent's", .0.display())]
    Empty(PathBuf),
    #[error("{0:?} is no name that a certificate can have: --tls-server-name says the one that is in it")]
    Name(String),
    #[error("this system has no certificates of authorities: install them, or name some with --ca-file")]
    NoRoots,
    #[error("the certificates can't be used")]
    Certificates(#[source] rustls::Error),
    #[error("the certificate of {at} isn't believed ({why}): {todo}")]
    Distrusted { at: String, why: String, todo: String },
    #[error("{at} speaks no TLS: write http:// if it is plain HTTP, and leave --ca-file out")]
    Plain { at: String },
    #[error("no TLS with {at}: {why}")]
    Handshake { at: String, why: String },
    #[error("{at} did not shake hands within {HANDSHAKE:?}: does it speak TLS?")]
    Slow { at: String },
}

impl TlsError {
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Handshake { .. } | Self::Slow { .. })
    }
}

pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts who is in the file; without a file, whom this system trusts. `name` has to be in the certificate.
    pub(super) fn new(ca_file: Option<&Path>, name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.into()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificates)?
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn over(&self, stream: Stream) -> Result<Stream, RemoteError> {
        let Stream { io, host, at, word } = stream;
        let shaken = timeout(HANDSHAKE, self.connector.connect(self.name.clone(), io)).await;
        match shaken {
            Ok(Ok(io)) => Ok(Stream { io: Box::new(io), host, at, word }),
            Ok(Err(error)) => {
                let said = match word {
                    // Who forwards knows better why nothing came.
                    Some(word) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        timeout(Duration::from_secs(1), word).await.ok().flatten()
                    }
                    _ => None,
                };
                let refusal = match said {
                    Some(why) => TlsError::Handshake { at, why },
                    None => refusal(at, &self.name.to_str(), &error),
                };
                Err(refusal.into())
            }
            Err(_) => Err(TlsError::Slow { at }.into()),
        }
    }
}

/// What the handshake failed at, and what helps.
fn refusal(at: String, name: &str, error: &io::Error) -> TlsError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let todo = match cause {
        Some(rustls::Error::InvalidCertificate(problem)) => advice(problem, name),
        Some(rustls::Error::InvalidMessage(_)) => return TlsError::Plain { at },
        _ => return TlsError::Handshake { at, why: error.to_string() },
    };
    TlsError::Distrusted { at, why: error.to_string(), todo }
}

fn advice(problem: &CertificateError, name: &str) -> String {
    match problem {
        CertificateError::UnknownIssuer => {
            "name the certificate of the authority that signed it by --ca-file".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "it isn't {name}'s; call the agent by a name that is in it, or say that name by --tls-server-name"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has run out; give the agent a new one".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it isn't valid yet; look at the clocks of both machines".into()
        }
        CertificateError::BadSignature => {
            "--ca-file names another authority of the same name; take the one that signed it".into()
        }
        // rustls has no name for this one, which `openssl req -x509` makes.
        CertificateError::Other(_) => "a certificate that is an authority's (CA:TRUE) isn't taken as a server's: make the \
                                       agent's with basicConstraints=CA:FALSE, and name who signed it by --ca-file"
            .into(),
        _ => "look at it with `openssl s_client`, and at --ca-file".into(),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let source = |source| TlsError::Pem { path: path.to_owned(), source };
            for certificate in CertificateDer::pem_file_iter(path).map_err(source)? {
                roots.add(certificate.map_err(source)?).map_err(TlsError::Certificates)?;
            }
            if roots.is_empty() {
                return Err(TlsError::Empty(path.to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoRoots);
            }
        }
    }
    Ok(roots)
}
