//! A reader of the live events.

use std::{
    io::BufRead,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    http,
    wait::{PATIENCE, wait_for},
};

/// Events that are kept at most; a test that expects more than that is wrong.
const BOUND: usize = 500_000;

/// Reads `/v1/events` in a thread of its own until this goes.
pub struct Tail {
    stream: TcpStream,
    events: Arc<Mutex<Vec<Value>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Tail {
    /// Subscribes; events from now on are read.
    pub fn open(address: SocketAddr, path: &str) -> Result<Self> {
        let (status, content_type, mut body) = http::open(address, path, "application/x-ndjson")?;
        ensure!(status == 200, "{path}: status {status}");
        ensure!(content_type.starts_with("application/x-ndjson"), "{path}: {content_type}");
        let stream = body.get_ref().try_clone()?;
        // Silence is no fault here: nothing may happen for as long as it likes.
        stream.set_read_timeout(None)?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let reader = thread::spawn(move || {
            let mut line = String::new();
            while body.read_line(&mut line).is_ok_and(|length| length > 0) {
                if !line.trim().is_empty() {
                    let event = serde_json::from_str(&line).unwrap_or_else(|_| Value::from(line.as_str()));
                    let mut events = sink.lock().expect("no reader panics");
                    assert!(events.len() < BOUND, "more events than any test expects");
                    events.push(event);
                }
                line.clear();
            }
        });
        Ok(Self { stream, events, reader: Some(reader) })
    }

    /// The events so far that satisfy `wanted`.
    pub fn events(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let events = self.events.lock().expect("the reader of the events is alive");
        events.iter().filter(|event| wanted(event)).cloned().collect()
    }

    /// The events of one kind that belong to one workload.
    pub fn of(&self, kind: &str, workload: &str) -> Vec<Value> {
        self.events(|event| event["kind"] == kind && event["workload"] == workload)
    }

    /// Waits until there are `count` events of one kind that belong to one workload.
    #[track_caller]
    pub fn wait_of(&self, kind: &str, workload: &str, count: usize) -> Vec<Value> {
        self.wait(&format!("{count} × {kind} of {workload} in the tail"), |tail| {
            let events = tail.of(kind, workload);
            (events.len() >= count).then_some(events)
        })
    }

    /// Waits until `look` finds what it looks for.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        wait_for(PATIENCE, what, || look(self))
    }

    /// Whether the agent has ended the stream.
    pub fn ended(&self) -> bool {
        self.reader.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
