//! Connects with measured latencies.

use std::{
    collections::BTreeMap,
    io, mem,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::json;

use super::enter_netns;
use crate::{Arguments, ready, report, share};

/// What one thread saw.
#[derive(Default)]
struct Seen {
    tid: i32,
    /// Results by errno, 0 for success.
    results: BTreeMap<i32, u64>,
    latencies: Vec<Duration>,
}

/// `--addr A --count N [--threads T] [--netns PATH] [--nonblocking true] [--multipath true] [--after B]`: connects, each
/// measured from just before connect(2) until its outcome is known here, so that the kernel's own measure can't be
/// longer. `B` is where each socket is refused before.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let address: SocketAddr = arguments.required("addr")?;
    let count: u64 = arguments.required("count")?;
    let threads: u64 = arguments.or("threads", 1)?;
    let flags = if arguments.or("nonblocking", false)? { libc::SOCK_NONBLOCK } else { 0 };
    let protocol = if arguments.or("multipath", false)? { libc::IPPROTO_MPTCP } else { libc::IPPROTO_TCP };
    let after = arguments.optional("after")?;
    ready()?;
    let workers: Result<Vec<_>, _> = (0..threads)
        .map(|index| {
            let part = share(count, threads, index);
            thread::Builder::new()
                .name("pw-connect".into())
                .spawn(move || work(address, part, flags, protocol, after))
        })
        .collect();
    let mut tids = Vec::new();
    let mut latencies = Vec::new();
    let mut results = BTreeMap::new();
    for worker in workers? {
        let seen = worker.join().map_err(|_| anyhow!("a thread panicked"))??;
        tids.push(seen.tid);
        latencies.extend(seen.latencies);
        for (errno, count) in seen.results {
            *results.entry(errno.to_string()).or_insert(0) += count;
        }
    }
    let seconds = |latency: Option<&Duration>| latency.map(Duration::as_secs_f64);
    report(&json!({
        "tids": tids,
        "results": results,
        "min": seconds(latencies.iter().min()),
        "max": seconds(latencies.iter().max()),
        "sum": latencies.iter().sum::<Duration>().as_secs_f64(),
    }));
    Ok(())
}

fn work(
    address: SocketAddr,
    count: u64,
    flags: i32,
    protocol: i32,
    after: Option<SocketAddr>,
) -> Result<Seen> {
    // SAFETY: gettid takes nothing and can't fail.
    let tid = unsafe { libc::gettid() };
    let mut seen = Seen { tid, ..Seen::default() };
    for _ in 0..count {
        let socket = Socket::of(address, flags, protocol)?;
        if let Some(closed) = after {
            socket.be_refused(closed)?;
        }
        let begin = Instant::now();
        let result = match socket.connect(address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => socket.outcome(),
            result => result,
        };
        seen.latencies.push(begin.elapsed());
        let errno = result.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        *seen.results.entry(errno).or_default() += 1;
    }
    Ok(seen)
}

/// `--addr A --count N [--netns PATH]`: attempts in non-blocking mode to where nobody listens, while another thread takes
/// the error of each socket as soon as it has one.
pub(crate) fn rob(arguments: &Arguments) -> Result<()> {
    enter_netns(arguments)?;
    let address: SocketAddr = arguments.required("addr")?;
    let count: u64 = arguments.required("count")?;
    ready()?;
    // Nobody connects before the other thread waits for it.
    let (sockets, victims) = mpsc::sync_channel::<Arc<Socket>>(0);
    let robber = thread::spawn(move || victims.iter().filter(Socket::is_robbed).count());
    for _ in 0..count {
        let socket = Arc::new(Socket::new(address, libc::SOCK_NONBLOCK)?);
        sockets.send(Arc::clone(&socket))?;
        let error = socket.connect(address).err().context("connected at once")?;
        ensure!(error.raw_os_error() == Some(libc::EINPROGRESS), "{error}");
        socket.wait()?;
    }
    drop(sockets);
    let robbed = robber.join().map_err(|_| anyhow!("a thread panicked"))?;
    report(&json!({ "robbed": robbed }));
    Ok(())
}

/// A TCP socket before it is connected, which std has no type for.
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// A socket of the family of `address`; a v4-mapped address makes it an IPv6 one.
    pub(super) fn new(address: SocketAddr, flags: i32) -> io::Result<Self> {
        Self::of(address, flags, libc::IPPROTO_TCP)
    }

    fn of(address: SocketAddr, flags: i32, protocol: i32) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: socket(2) takes three numbers.
        let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn connect(&self, address: SocketAddr) -> io::Result<()> {
        match address {
            SocketAddr::V4(address) => self.connect_raw(&raw_v4(address)),
            SocketAddr::V6(address) => self.connect_raw(&raw_v6(address)),
        }
    }

    /// Drops whatever comes, before TCP sees it.
    pub(super) fn be_deaf(&self) -> io::Result<()> {
        let mut drop_all = libc::sock_filter { code: libc::BPF_RET as u16, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &raw mut drop_all };
        // SAFETY: the program is valid for the call, as long as it says.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Connects, and sends data with the first packet.
    pub(super) fn open_with(&self, data: &[u8], address: SocketAddr) -> Result<()> {
        let SocketAddr::V4(address) = address else { bail!("an IPv4 address, please") };
        let address = raw_v4(address);
        // SAFETY: data and address are valid for the call, as long as it says.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                data.as_ptr().cast(),
                data.len(),
                libc::MSG_FASTOPEN,
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        ensure!(sent == data.len() as isize, "sendto: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Has an attempt refused, after which the socket may be connected anew.
    fn be_refused(&self, closed: SocketAddr) -> Result<()> {
        let errno = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        let mut result = errno(self.connect(closed));
        if result == Some(libc::EINPROGRESS) {
            result = errno(self.outcome());
            // This call only takes note of it.
            ensure!(errno(self.connect(closed)) == Some(libc::ECONNABORTED), "the socket isn't free again");
        }
        ensure!(result == Some(libc::ECONNREFUSED), "{closed} refuses nobody: {result:?}");
        Ok(())
    }

    /// Waits for the outcome of an attempt in non-blocking mode.
    fn outcome(&self) -> io::Result<()> {
        self.wait()?;
        self.error()
    }

    /// Until there is an outcome. The kernel has an error ready a moment before it changes the socket's state: who takes it
    /// then keeps it from everybody else.
    fn wait(&self) -> io::Result<()> {
        let mut wait = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        loop {
            // SAFETY: one pollfd, valid for the call.
            if unsafe { libc::poll(&raw mut wait, 1, -1) } != 1 {
                return Err(io::Error::last_os_error());
            }
            if wait.revents & libc::POLLERR == 0 || wait.revents & libc::POLLHUP != 0 {
                return Ok(());
            }
        }
    }

    /// Takes the socket's error, as soon as it has one; false if it is given up before.
    fn is_robbed(victim: &Arc<Self>) -> bool {
        while Arc::strong_count(victim) > 1 {
            if victim.error().is_err() {
                return true;
            }
        }
        false
    }

    /// Takes the socket's error, if it has one.
    fn error(&self) -> io::Result<()> {
        let mut error = 0_i32;
        let mut length = size_of_val(&error) as libc::socklen_t;
        // SAFETY: the value and its length are ours and valid for the call.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &raw mut length,
            )
        };
        match (result, error) {
            (0, 0) => Ok(()),
            (0, errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn connect_raw<T>(&self, address: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: both callers give a sockaddr of the length that its type says, valid for the call.
        let result = unsafe { libc::connect(self.0.as_raw_fd(), (&raw const *address).cast(), length) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn raw_v4(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
    raw.sin_family = libc::AF_INET as libc::sa_family_t;
    raw.sin_port = address.port().to_be();
    raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
    raw
}

fn raw_v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut raw: libc::sockaddr_in6 = unsafe { mem::zeroed() };
    raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    raw.sin6_port = address.port().to_be();
    raw.sin6_addr.s6_addr = address.ip().octets();
    raw
}
