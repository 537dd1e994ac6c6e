//! Stands between a client and the agent's debug listener, and holds back what the test says.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use crate::http;

/// Answers that are let through before they are asked for.
const PERMITS: usize = 16;

/// Answers with what the agent answers. Each answer to one path waits until the test lets it be asked for.
pub struct Relay {
    pub address: SocketAddr,
    /// What was answered at the path, in order.
    answers: Arc<Mutex<Vec<String>>>,
    let_through: SyncSender<()>,
}

impl Relay {
    /// Ends with the process: a client may still wait for its answer.
    #[track_caller]
    pub fn before(agent: SocketAddr, held: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let address = listener.local_addr().expect("its address");
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (let_through, permits) = sync_channel(PERMITS);
        let (told, permits) = (Arc::clone(&answers), Arc::new(Mutex::new(permits)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, permits) = (Arc::clone(&told), Arc::clone(&permits));
                thread::spawn(move || drop(relay(stream, agent, held, &permits, &told)));
            }
        });
        Self { address, answers, let_through }
    }

    /// One more answer.
    pub fn let_through(&self) {
        let _ = self.let_through.send(());
    }

    pub fn answers(&self) -> Vec<String> {
        self.answers.lock().expect("no thread panics").clone()
    }
}

fn relay(
    mut stream: TcpStream,
    agent: SocketAddr,
    held: &str,
    permits: &Mutex<Receiver<()>>,
    told: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut path = String::new();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
    }
    let is_held = path == held;
    if is_held {
        permits.lock().expect("no thread panics").recv()?;
    }
    let answer = http::get(agent, &path)?;
    write!(
        stream,
        "HTTP/1.1 {} OK\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        answer.status,
        answer.content_type,
        answer.body.len(),
        answer.body
    )?;
    if is_held {
        told.lock().expect("no thread panics").push(answer.body);
    }
    Ok(())
}
