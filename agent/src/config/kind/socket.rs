//! Unix sockets of programs that are asked.

use std::path::{Component, Path};

use super::{Field, Invalid, Kind};
use crate::config::model::{Config, SocketChoice};

/// `auto`, `off`, or the path of a socket.
pub(in crate::config) struct Socket {
    pub field: Field<SocketChoice>,
}

impl Kind for Socket {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        *(self.field)(config) = match text {
            "auto" => SocketChoice::Auto,
            "off" => SocketChoice::Off,
            path => SocketChoice::Path(absolute(path)?.to_owned()),
        };
        Ok(text.to_owned())
    }

    fn allowed(&self) -> String {
        "auto, off, or the absolute path of a Unix socket".to_owned()
    }

    fn placeholder(&self) -> &'static str {
        "auto|off|PATH"
    }
}

/// The kernel takes at most 107 bytes for the address of a socket.
fn absolute(text: &str) -> Result<&Path, Invalid> {
    let path = Path::new(text);
    if text.starts_with("unix:") {
        return Err(Invalid::new("is a URL instead of a path"));
    }
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Invalid::new("is not an absolute path"));
    }
    if text.len() > 107 || text.contains('\0') {
        return Err(Invalid::new(
            "can't be the path of a socket: it is longer than 107 bytes or holds a zero",
        ));
    }
    Ok(path)
}
