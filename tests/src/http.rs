//! The least HTTP client that does: GET in HTTP/1.0, so that the body ends with the connection and no chunk
//! has to be taken apart.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::wait::scaled;

/// A silent server is a failure after this long.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

/// Fetches `path` as a whole.
pub fn get(address: SocketAddr, path: &str) -> Result<Response> {
    get_as(address, path, "*/*")
}

/// Fetches `path` as one of the media types in `accept`.
pub fn get_as(address: SocketAddr, path: &str, accept: &str) -> Result<Response> {
    let (status, content_type, mut reader) = open(address, path, accept)?;
    let mut body = String::new();
    reader.read_to_string(&mut body).with_context(|| format!("the body of {path}"))?;
    Ok(Response { status, content_type, body })
}

/// Asks for `path` and reads up to the body: status, content type, and the rest to be read.
pub fn open(address: SocketAddr, path: &str, accept: &str) -> Result<(u16, String, BufReader<TcpStream>)> {
    let timeout = scaled(TIMEOUT);
    let mut stream = TcpStream::connect_timeout(&address, timeout).with_context(|| address.to_string())?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // At one stroke: a server may answer, and close, before it has read everything.
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(head.as_bytes())?;

    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("{path}: not a status line: {line:?}"))?;
    let mut content_type = String::new();
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "{path}: the head has no end");
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-type") {
            content_type = value.trim().to_owned();
        }
    }
    Ok((status, content_type, reader))
}

/// `text` with everything percent-encoded that a query parameter can't carry as it is.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
