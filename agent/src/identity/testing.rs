//! What the tests of this module share.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::names::{NameBounds, Names};

/// A store of names that nobody fills.
pub(super) fn no_names() -> Arc<Names> {
    Arc::new(Names::new(NameBounds { containers: 16, grace: Duration::from_secs(60) }))
}

/// A directory that is gone after the test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podwitness-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary directory is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}
