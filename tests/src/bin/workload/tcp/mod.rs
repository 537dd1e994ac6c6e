//! TCP from both ends.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::PathBuf,
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use crate::{Arguments, ready, report, share};

pub(crate) mod connect;

/// Backlog that holds all connects of a test: a full one would drop handshakes and repeat them a second later.
const BACKLOG: i32 = 4096;

/// `--netns PATH`: goes into that network namespace. Threads that are made later follow.
fn enter_netns(arguments: &Arguments) -> Result<()> {
    let path: PathBuf = arguments.or("netns", PathBuf::new())?;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let namespace = File::open(&path).with_context(|| path.display().to_string())?;
    // SAFETY: setns(2) takes an open descriptor and a number.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    ensure!(result == 0, "setns {}: {}", path.display(), io::Error::last_os_error());
    Ok(())
}

/// `--addr A --count N [--netns PATH]`: reports where it listens, then accepts and closes N connections.
pub(crate) fn listen(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let address: SocketAddr = arguments.required("addr")?;
    let count: u64 = arguments.required("count")?;
    ready()?;
    let listener = listener(address)?;
    report(&json!({ "listening": listener.local_addr()?.to_string() }));
    for _ in 0..count {
        drop(listener.accept()?);
    }
    report(&json!({ "accepted": count }));
    Ok(())
}

fn listener(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // std's backlog is 128; listening again changes it.
    // SAFETY: listen(2) takes an open descriptor and a number.
    let result = unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
    ensure!(result == 0, "listen: {}", io::Error::last_os_error());
    Ok(listener)
}

/// `--count N [--threads T]`: N connections over loopback, both ends here, one after the other in each thread.
pub(crate) fn loopback(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let count: u64 = arguments.required("count")?;
    let threads: u64 = arguments.or("threads", 1)?;
    ready()?;
    let part = |index| move || loopback_part(share(count, threads, index));
    let workers: Vec<_> = (0..threads).map(|index| thread::spawn(part(index))).collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    report(&json!({ "connections": count }));
    Ok(())
}

fn loopback_part(count: u64) -> Result<()> {
    let listener = listener(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    for _ in 0..count {
        let client = TcpStream::connect(address)?;
        reset_on_close(&client)?;
        let (server, _) = listener.accept()?;
        drop(client);
        drop(server);
    }
    Ok(())
}

/// `--count N --request B --response B`: N connections over loopback, both ends here. Over each the client sends a
/// request of so many bytes and its end, the server then a response.
pub(crate) fn exchange(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let count: u64 = arguments.required("count")?;
    let request = vec![1; arguments.required("request")?];
    let response = vec![2; arguments.required("response")?];
    ready()?;
    let listener = listener(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let expected = request.len();
    let server = thread::spawn(move || -> Result<()> {
        for _ in 0..count {
            let (mut stream, _) = listener.accept()?;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard)?;
            ensure!(heard.len() == expected, "the server heard {} bytes", heard.len());
            stream.write_all(&response)?;
        }
        Ok(())
    });
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&request)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())?;
    }
    server.join().map_err(|_| anyhow!("the server panicked"))??;
    report(&json!({ "exchanged": count }));
    Ok(())
}

/// `--count N`: N connections over loopback, both ends here, open until the word to close them.
pub(crate) fn hold(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let count: u64 = arguments.required("count")?;
    ready()?;
    let listener = listener(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mut ends = Vec::new();
    for _ in 0..count {
        ends.push(TcpStream::connect(listener.local_addr()?)?);
        ends.push(listener.accept()?.0);
    }
    report(&json!({ "held": count }));
    crate::wait_for_line()?;
    drop(ends);
    report(&json!({ "closed": count }));
    Ok(())
}

/// Lets close(2) reset the connection, which leaves no TIME_WAIT behind: ports don't run out.
fn reset_on_close(stream: &TcpStream) -> Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is valid for the call and as long as its size says.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            u32::try_from(size_of_val(&linger))?,
        )
    };
    ensure!(result == 0, "SO_LINGER: {}", io::Error::last_os_error());
    Ok(())
}

/// `--count N --netns PATH`: N connections with TCP Fast Open that their server has read from and closed before the
/// handshake has ended. It never does, since the client hears nothing.
pub(crate) fn fast_open(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let count: u64 = arguments.required("count")?;
    ready()?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = connect::Socket::new(address, libc::SOCK_NONBLOCK)?;
        client.be_deaf()?;
        client.open_with(b"?", address)?;
        let (mut server, _) = listener.accept()?;
        server.read_exact(&mut [0])?;
        clients.push(client);
    }
    report(&json!({ "accepted": count }));
    Ok(())
}

/// `--addr A --count N [--netns PATH]`: attempts in non-blocking mode that are given up by close(2) at once.
pub(crate) fn abort(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let address: SocketAddr = arguments.required("addr")?;
    let count: u64 = arguments.required("count")?;
    ready()?;
    for _ in 0..count {
        let socket = connect::Socket::new(address, libc::SOCK_NONBLOCK)?;
        let error = socket.connect(address).err().context("connected at once")?;
        ensure!(error.raw_os_error() == Some(libc::EINPROGRESS), "{error}");
    }
    report(&json!({ "aborted": count }));
    Ok(())
}
