use std::path::PathBuf;

use serde_json::Value;

use super::{details::Containers, *};
use crate::config::Config;

const RECORDING: &str = include_str!("testdata/life.jsonl");
const EXPECTED: &str = include_str!("testdata/life.expected.jsonl");

/// A file that goes with this.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podwitness-{name}-{}.jsonl", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn replay(name: &str, text: &str) -> Result<String, ReplayError> {
    let file = TempFile::new(name, text);
    let mut out = Vec::new();
    run(&file.0, &Config::default(), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// A container that serves, connects, in vain, too, and is killed for want of memory.
#[test]
fn a_recording_gives_the_same_telemetry_every_time() {
    let out = replay("golden", RECORDING).unwrap();
    assert_eq!(out, replay("again", RECORDING).unwrap());
    let version = format!("\"podwitness\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(RECORDING.contains("\"podwitness\""), "{version}");
    for (got, expected) in out.lines().zip(EXPECTED.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(out.lines().count(), EXPECTED.lines().count());
}

#[test]
fn what_is_written_is_read_back() {
    let lines: Vec<Value> =
        RECORDING.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut containers = Containers::default();
    let seen: Vec<Seen> = lines.iter().map(|line| parse::seen(line, &mut containers).unwrap()).collect();
    let file = TempFile::new("written", "");
    let mut recorder = Recorder::create(&file.0, &Host::default()).unwrap();
    assert_eq!(fs::read_to_string(&file.0).unwrap().lines().count(), 1, "whose it is");
    recorder.put(&seen);
    // Nobody who reads it waits for the agent's end.
    let text = fs::read_to_string(&file.0).unwrap();
    recorder.finish().unwrap();
    let again: Vec<Value> = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(again, lines);
}

#[test]
fn damaged_recordings_are_refused_with_the_line() {
    assert!(matches!(replay("empty", ""), Err(ReplayError::Head)));
    assert!(matches!(replay("no-head", "{}\n"), Err(ReplayError::Head)));
    let newer = RECORDING.replacen("\"format\":1", "\"format\":2", 1);
    assert!(matches!(replay("newer", &newer), Err(ReplayError::Format(2))));
    let garbled = RECORDING.replacen("process.exec", "process.dance", 1);
    let error = replay("garbled", &garbled).unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains("process.dance"), "{error}");
    for end in (0..RECORDING.len()).step_by(97) {
        let _ = replay("torn", &RECORDING[..end]);
    }
}
