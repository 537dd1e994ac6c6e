//! Any bytes as configuration.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::load::load_text;
use super::{Config, ConfigErrors, Effective, Flags, OPTIONS};

/// The text of a YAML file: an error that can be printed, or a configuration that says itself.
pub(crate) fn file(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        judge(load_text(text));
    }
}

/// The value of one option, which the first byte picks.
pub(crate) fn value(bytes: &[u8]) {
    let Some((pick, value)) = bytes.split_first() else { return };
    let option = &OPTIONS[usize::from(*pick) % OPTIONS.len()];
    let values = vec![(option, OsStr::from_bytes(value).to_owned())];
    judge(Config::load(&Flags { file: None, values }, []));
}

fn judge(loaded: Result<(Config, Effective), ConfigErrors>) {
    match loaded {
        Ok((config, effective)) => {
            let again = load_text(&effective.to_string()).map(|(config, _)| config);
            assert_eq!(again.map_err(|errors| errors.to_string()), Ok(config), "{effective}");
        }
        Err(errors) => {
            let text = errors.to_string();
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}
