//! Mistakes in what the user has typed, as far as only the command itself sees them: clap and the configuration tell theirs.

use anyhow::Error;

use crate::remote::RemoteError;

/// What is wrong, and what to type instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// Whether a command has failed for such a mistake, which has an exit code of its own.
pub fn is_one(error: &Error) -> bool {
    error.is::<Mistake>() || error.downcast_ref().is_some_and(RemoteError::is_mistake)
}
