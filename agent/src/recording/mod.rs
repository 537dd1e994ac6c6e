//! Observations in a file: `podwitness record` writes it, `podwitness replay` reads it, without a kernel.
//!
//! The first line says whose it is, each of the others is one observation as in `/v1/events`, with its time by the boot
//! clock and its cgroup, and what else is known of its container, where that is news. What is made of a recording is the
//! same every time.

mod details;
mod parse;
mod replay;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use self::details::Told;
pub use self::{
    parse::{Damage, observation},
    replay::{ReplayError, run},
};
use crate::{
    identity::Container,
    otlp::{Host, Seen},
};

/// Changes when older readers can't read what is written.
const FORMAT: u32 = 1;
/// Where a recording ends at the latest.
const LARGEST: u64 = 1 << 30;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    podwitness: String,
    format: u32,
    boot_id: String,
    host: String,
    node: Option<String>,
}

/// Why there is no recording, or not all of it.
#[derive(Debug, Error)]
#[error("cannot write {path}: {why}; is there room, and may podwitness write there?")]
pub struct RecordError {
    path: String,
    why: io::Error,
}

/// Writes observations to a file.
#[derive(Debug)]
pub struct Recorder {
    path: String,
    /// None after it has failed, or is full.
    file: Option<BufWriter<File>>,
    failure: Option<RecordError>,
    written: u64,
    told: Told,
}

impl Recorder {
    pub fn create(path: &Path, host: &Host) -> Result<Self, RecordError> {
        let name = path.display().to_string();
        let error = |why| RecordError { path: path.display().to_string(), why };
        let file = Some(BufWriter::new(File::create(path).map_err(error)?));
        let mut recorder = Self { path: name, file, failure: None, written: 0, told: Told::default() };
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let head = Head {
            podwitness: env!("CARGO_PKG_VERSION").to_owned(),
            format: FORMAT,
            boot_id: boot_id.trim().to_owned(),
            host: host.name.clone(),
            node: host.node.clone(),
        };
        recorder.write(&json!(head)).and_then(|()| recorder.flush()).map_err(error)?;
        Ok(recorder)
    }

    /// Adds what was seen; afterwards it is in the file, whatever becomes of the agent. A recording that can't go on ends,
    /// and the agent doesn't.
    pub fn put(&mut self, seen: &[Seen]) {
        if seen.is_empty() || self.file.is_none() {
            return;
        }
        if let Err(why) = self.append(seen) {
            // What is left of it in memory would follow a line that is torn.
            let _ = self.file.take().map(BufWriter::into_parts);
            let error = RecordError { path: self.path.clone(), why };
            tracing::error!("the recording ends here, and the agent goes on: {error}");
            self.failure = Some(error);
        } else if self.written >= LARGEST {
            self.file = None;
            tracing::warn!("the recording ends here: it has {} MiB", LARGEST >> 20);
        }
    }

    /// Nothing more will be seen. Says so if something that was seen could not be written; that it is full has been said.
    pub fn finish(self) -> Result<(), RecordError> {
        self.failure.map_or(Ok(()), Err)
    }

    fn append(&mut self, seen: &[Seen]) -> io::Result<()> {
        for seen in seen {
            let mut line = line(seen);
            if let Some(details) = self.told.news(seen) {
                line["details"] = details;
            }
            self.write(&line)?;
        }
        self.flush()
    }

    fn write(&mut self, line: &Value) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let text = line.to_string();
        self.written += text.len() as u64 + 1;
        writeln!(file, "{text}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

fn line(seen: &Seen) -> Value {
    let mut line = json!(seen.observation);
    let path = |container: &std::sync::Arc<Container>| container.path.display().to_string();
    line["boot_ns"] = seen.boot_ns.into();
    line["offset_ns"] = seen.offset_ns.into();
    line["cgroup_id"] = seen.cgroup_id.into();
    line["cgroup_path"] = seen.container.as_ref().map(path).into();
    line
}
