//! HTTP/1.1 in the raw.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::DEADLINE;

pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// One request on a connection of its own.
pub(super) fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n"))
}

/// The same with a head of one's own; `Connection: close` and the empty line are added.
pub(super) fn request(address: SocketAddr, head: &str) -> Answer {
    let mut connection = connect(address, &format!("{head}Connection: close\r\n\r\n"));
    let (status, head) = read_head(&mut connection);
    let mut body = String::new();
    connection.read_to_string(&mut body).unwrap();
    Answer { status, head, body }
}

/// A stream of lines that goes on.
pub(super) struct Lines {
    connection: BufReader<TcpStream>,
    pub(super) head: String,
    pending: Vec<u8>,
}

impl Lines {
    /// Returns once the head has come: the reader is subscribed.
    pub(super) fn open(address: SocketAddr, path: &str) -> Self {
        let mut connection = connect(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let (status, head) = read_head(&mut connection);
        assert_eq!(status, 200, "{head}");
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
        Self { connection, head, pending: Vec::new() }
    }

    /// The next line as it came, newline included; nothing once the stream has ended as it should.
    pub(super) fn next_raw(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                return Some(self.pending.drain(..=end).collect());
            }
            let chunk = self.chunk();
            if chunk.is_empty() {
                assert!(self.pending.is_empty(), "the stream ended within a line");
                return None;
            }
            self.pending.extend(chunk);
        }
    }

    pub(super) fn next(&mut self) -> Option<Value> {
        self.next_raw().map(|line| serde_json::from_slice(&line).unwrap())
    }

    fn chunk(&mut self) -> Vec<u8> {
        let mut size = String::new();
        self.connection.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.connection.read_exact(&mut chunk).unwrap();
        assert!(chunk.ends_with(b"\r\n"));
        chunk.truncate(size);
        chunk
    }
}

pub(super) fn connect(address: SocketAddr, bytes: &str) -> BufReader<TcpStream> {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    connection.write_all(bytes.as_bytes()).unwrap();
    BufReader::new(connection)
}

pub(super) fn read_head(connection: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(
            connection.read_line(&mut head).unwrap(),
            0,
            "the connection ended within a head: {head:?}"
        );
    }
    let status = head.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    (status, head)
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
