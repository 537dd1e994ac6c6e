//! The configuration file as bytes: bounded, and text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More than any configuration needs; keeps a wrong path (a log, a device) from filling the memory.
const MAX_BYTES: u64 = 1 << 20;

/// The text of the file, or in which line what is wrong with it.
pub(super) fn read(path: &Path) -> Result<String, (Option<usize>, String)> {
    let bytes = bytes(path).map_err(|why| (None, why))?;
    String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let newlines = error.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count();
        (Some(newlines + 1), "isn't UTF-8 text".to_owned())
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| format!("can't be opened: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("can't be examined: {error}"))?;
    if metadata.is_dir() {
        return Err("is a directory; name the file in it".to_owned());
    }
    let mut bytes = Vec::new();
    // The length in the metadata means nothing for pipes and devices: read, and stop one past the bound.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("is larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}
