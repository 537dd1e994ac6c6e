//! TLS on the debug listener: its certificate and key, which may be replaced while the agent runs.

mod files;
mod handshake;

pub use files::TlsError;
pub use handshake::Handshake;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use rustls::ServerConfig;

use self::files::Files;

/// What the listener shows to its clients, and what came of that.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    state: Mutex<State>,
    is_outdated: AtomicBool,
    replaced: AtomicU64,
    refused: AtomicU64,
    handshakes: [AtomicU64; Handshake::ALL.len()],
}

#[derive(Debug)]
struct State {
    /// What the files held when they were last looked at; nothing if they couldn't be read.
    seen: Option<Files>,
    /// Made of the last ones that were good.
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files, as a thread that has given up its capabilities; `None` if there are none to be read.
    pub async fn load(certificate: Option<&str>, key: Option<&str>) -> Result<Option<Arc<Self>>, TlsError> {
        let (certificate, key) = match (certificate, key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (PathBuf::from(certificate), PathBuf::from(key)),
            _ => return Err(TlsError::Half),
        };
        // What is readable now only by a capability would not be so when it is replaced.
        let tls = tokio::task::spawn_blocking(move || Self::read(certificate, key)).await;
        tls.unwrap_or_else(|panic| Err(TlsError::Panicked(panic.to_string()))).map(Arc::new).map(Some)
    }

    /// The same on this thread.
    pub fn read(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let files = Files::read(&certificate, &key)?;
        let config = Arc::new(files.config(&certificate, &key)?);
        Ok(Self {
            certificate,
            key,
            state: Mutex::new(State { seen: Some(files), config }),
            is_outdated: AtomicBool::new(false),
            replaced: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            handshakes: Default::default(),
        })
    }

    /// Looks whether the files hold something else by now, and takes that if it can be used. Else what was good goes
    /// on. Reads files: call it on a thread that may block.
    pub fn look(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Files::read(&self.certificate, &self.key);
        if found.as_ref().ok() == state.seen.as_ref() {
            return Arc::clone(&state.config);
        }
        // Between two reads of the same, nobody was writing them, nor had replaced one of the two alone.
        let again = Files::read(&self.certificate, &self.key);
        if found.as_ref().ok() != again.as_ref().ok() {
            return Arc::clone(&state.config);
        }
        let made = again.and_then(|files| {
            let config = files.config(&self.certificate, &self.key);
            state.seen = Some(files);
            config
        });
        match made {
            Ok(config) => {
                state.config = Arc::new(config);
                self.is_outdated.store(false, Relaxed);
                self.replaced.fetch_add(1, Relaxed);
                tracing::info!("the debug listener has a new certificate");
            }
            Err(error) => {
                if matches!(error, TlsError::Unreadable { .. } | TlsError::TooLong { .. }) {
                    state.seen = None;
                }
                self.is_outdated.store(true, Relaxed);
                self.refused.fetch_add(1, Relaxed);
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the debug listener keeps the certificate that it has");
            }
        }
        Arc::clone(&state.config)
    }

    /// Times that files which were replaced were taken, and times that they could not be used.
    pub fn rotations(&self) -> (u64, u64) {
        (self.replaced.load(Relaxed), self.refused.load(Relaxed))
    }

    /// Whether the files can't be used as they are, so that a former certificate is shown.
    pub fn is_outdated(&self) -> bool {
        self.is_outdated.load(Relaxed)
    }

    /// Handshakes that ended in this way.
    pub fn handshakes(&self, outcome: Handshake) -> u64 {
        self.handshakes[outcome as usize].load(Relaxed)
    }
}
