//! A certificate and its key, as their files hold them.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::pem::PemObject as _;
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem},
};
use thiserror::Error;

const CERTIFICATE: &str = "debug.tls_certificate_file";
const KEY: &str = "debug.tls_key_file";
/// More is neither a chain of certificates nor a key.
const LONGEST: u64 = 1 << 20;

/// Why the listener can't speak TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{CERTIFICATE} and {KEY} go together, and only one is given")]
    Half,
    #[error(
        "can't read {} ({option}); the agent's user has to be able to without a capability", .path.display()
    )]
    Unreadable { path: PathBuf, option: &'static str, source: io::Error },
    #[error("{} ({option}) has more than {LONGEST} bytes: this is no PEM file of that kind", .path.display())]
    TooLong { path: PathBuf, option: &'static str },
    #[error("{} ({option}) {why}", .path.display())]
    Damaged { path: PathBuf, option: &'static str, why: String },
    #[error("the key in {} ({KEY}) is not that of the certificate in {} ({CERTIFICATE})", .key.display(), .certificate.display())]
    Strangers { certificate: PathBuf, key: PathBuf },
    #[error("the certificate in {} ({CERTIFICATE}) and its key can't be used", .certificate.display())]
    Unusable { certificate: PathBuf, source: rustls::Error },
    #[error("reading the certificate failed: {0}")]
    Panicked(String),
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self { certificate: read(certificate, CERTIFICATE)?, key: read(key, KEY)? })
    }

    /// What a listener with this certificate needs. The paths are for errors.
    pub(super) fn config(&self, certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
        let damaged = |path: &Path, option| {
            let path = path.to_owned();
            move |why: String| TlsError::Damaged { path, option, why }
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| damaged(certificate, CERTIFICATE)(said(&error, "certificate")))?;
        if chain.is_empty() {
            return Err(damaged(certificate, CERTIFICATE)(said(&pem::Error::NoItemsFound, "certificate")));
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key);
        let private = private.map_err(|error| damaged(key, KEY)(said(&error, "private key")))?;
        let unusable = |source| match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Strangers { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            source => TlsError::Unusable { certificate: certificate.to_owned(), source },
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The key is a secret.
impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

fn read(path: &Path, option: &'static str) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), option, source };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(TlsError::TooLong { path: path.to_owned(), option });
    }
    Ok(bytes)
}

/// Nothing of the file itself: it may be a key.
fn said(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is cut short: the last of its sections has no end".into(),
        pem::Error::NoItemsFound => {
            format!("holds no {what}: it has to be a PEM file with a {what} that is not encrypted")
        }
        _ => "is damaged: it has to be a PEM file".into(),
    }
}
