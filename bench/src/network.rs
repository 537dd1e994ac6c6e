//! A network namespace for the worker: nobody else's connections in it, and no end of ports.

use std::{fs, io, mem};

/// Moves this process into a new network namespace, in which loopback works.
pub(crate) fn of_its_own() -> io::Result<()> {
    // SAFETY: unshare(2) takes a number; this process has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    // SAFETY: socket(2) takes numbers only.
    let socket = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a request may be all zeros; the name is shorter than its field, and the kernel reads no more than the
    // request. The descriptor is ours.
    let up = unsafe {
        let mut request: libc::ifreq = mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = (*from).cast_signed();
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
        let up = check(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request));
        libc::close(socket);
        up
    };
    up?;
    // Else ports run out after some ten thousand connections, each of which waits for a minute.
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0")
}

fn check(outcome: i32) -> io::Result<i32> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}
