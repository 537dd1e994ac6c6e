//! A port of a pod over a websocket: of each port there is a channel for data and one for what goes wrong, both of which
//! begin with the port's number.

use std::{io, sync::Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{State, Stream, lock, refuse};

const PROTOCOL: &str = "v4.channel.k8s.io";
const DATA: u8 = 0;
const ERROR: u8 = 1;

pub(super) async fn answer(
    mut stream: Stream,
    head: &str,
    path: &str,
    query: &str,
    state: &Mutex<State>,
    mut cut: watch::Receiver<u64>,
) -> io::Result<()> {
    let parts: Vec<&str> = path.split('/').collect();
    let [_, "api", "v1", "namespaces", namespace, "pods", name] = parts[..] else {
        return refuse(&mut stream, 404, "NotFound", path).await;
    };
    let pod = format!("{namespace}/{name}");
    let ports = query.split('&').find_map(|pair| pair.strip_prefix("ports=")).unwrap_or_default();
    let Ok(port) = ports.parse::<u16>() else {
        return refuse(&mut stream, 400, "BadRequest", "one port, and no other").await;
    };
    let (is_down, is_there, to) = {
        let state = lock(state);
        let is_there = state
            .pods
            .iter()
            .any(|known| known["metadata"]["namespace"] == namespace && known["metadata"]["name"] == name);
        let to = state.ports.iter().rev().find(|(of, number, _)| *of == pod && *number == port);
        (state.is_down, is_there, to.map(|(_, _, to)| *to))
    };
    if is_down {
        return refuse(&mut stream, 500, "InternalError", "error dialing backend: no route to host").await;
    }
    if !is_there {
        return refuse(&mut stream, 404, "NotFound", &format!("pods {name:?} not found")).await;
    }
    let header = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let offers = header("sec-websocket-protocol").unwrap_or_default();
    let Some(key) = header("sec-websocket-key").filter(|_| offers.split(", ").any(|offer| offer == PROTOCOL))
    else {
        return refuse(&mut stream, 400, "BadRequest", "unable to upgrade").await;
    };
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    cut.mark_unchanged();
    for channel in [DATA, ERROR] {
        say(&mut socket, channel, &port.to_le_bytes()).await?;
    }
    let connected = match to {
        Some(to) => TcpStream::connect(to).await,
        None => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    let target = match connected {
        Ok(target) => target,
        Err(error) => {
            let text =
                format!("error forwarding port {port} to pod {name}: dial tcp4 127.0.0.1:{port}: {error}\n");
            say(&mut socket, ERROR, text.as_bytes()).await?;
            return socket.close(None).await.map_err(io::Error::other);
        }
    };
    pump(socket, target, cut).await
}

async fn pump(
    mut socket: WebSocketStream<Stream>,
    mut target: TcpStream,
    mut cut: watch::Receiver<u64>,
) -> io::Result<()> {
    let mut bytes = vec![0; 32 << 10];
    loop {
        tokio::select! {
            // Without a word of farewell.
            _ = cut.changed() => return Ok(()),
            read = target.read(&mut bytes) => match read? {
                0 => return socket.close(None).await.map_err(io::Error::other),
                length => say(&mut socket, DATA, &bytes[..length]).await?,
            },
            message = socket.next() => match message.transpose().map_err(io::Error::other)? {
                Some(Message::Binary(message)) if message.first() == Some(&DATA) => {
                    target.write_all(&message[1..]).await?;
                }
                Some(Message::Close(_)) | None => return Ok(()),
                Some(_) => {}
            },
        }
    }
}

async fn say(socket: &mut WebSocketStream<Stream>, channel: u8, bytes: &[u8]) -> io::Result<()> {
    let message = Message::binary([&[channel], bytes].concat());
    socket.send(message).await.map_err(io::Error::other)
}
