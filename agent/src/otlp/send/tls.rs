//! Whom to trust, and what to show.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{SendError, Target};

pub(super) fn config(target: &Target) -> Result<ClientConfig, SendError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(target)?);
    match (&target.client_certificate, &target.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let unreadable = |why| SendError::Pem { path: key.clone(), why };
            let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
            Ok(builder.with_client_auth_cert(certificates(certificate)?, key)?)
        }
        _ => Err(SendError::Half),
    }
}

fn roots(target: &Target) -> Result<RootCertStore, SendError> {
    let mut roots = RootCertStore::empty();
    // Reading the system's takes memory that a plain connection doesn't need.
    if target.uri.scheme_str() != Some("https") {
        return Ok(roots);
    }
    match &target.certificate {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(SendError::NoRoots);
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, SendError> {
    let unreadable = |why| SendError::Pem { path: path.to_owned(), why };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let certificates = read.map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(SendError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}
