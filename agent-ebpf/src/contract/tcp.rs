//! Records of the `tcp` sensor.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::event::Header;

/// `TcpConnect`, `TcpAccept` and `TcpClose`: one record per attempt that ended, per handshake completed on a
/// listening socket, and per connection closed.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TcpEvent {
    pub header: Header,
    /// Nanoseconds: of the attempt (connect), of the connection's life (close); 0 unless [`DURATION_KNOWN`].
    pub duration_ns: u64,
    /// Local address: 4 bytes and zeros for `AF_INET`, 16 for `AF_INET6`, in network order.
    pub local: [u8; 16],
    /// Remote address, in the same form.
    pub remote: [u8; 16],
    /// Local port in host order; 0 where the kernel had given it back already.
    pub local_port: u16,
    /// Remote port in host order.
    pub remote_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Why a connect failed, as errno (`sk->sk_err`, or what connect(2) returned); 0 if it was established.
    pub errno: u16,
    /// Bits: [`DURATION_KNOWN`], [`ABORTED`], [`ACTIVE`], [`SIDE_UNKNOWN`], [`UNEXPLAINED`].
    pub flags: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// Of a close; else 0.
    pub traffic: Traffic,
}

/// What went over a connection until it was closed, as its socket has counted it (`struct tcp_sock`,
/// include/linux/tcp.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Traffic {
    /// Bytes of data that were sent, each counted once.
    pub sent_bytes: u64,
    /// Bytes of data that came in order.
    pub received_bytes: u64,
    /// Segments that were sent once more.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds; 0 if it was never measured.
    pub rtt_us: u32,
}

const _: () = assert!(size_of::<TcpEvent>() == 128);

/// The beginning was seen, so `duration_ns` holds.
pub const DURATION_KNOWN: u32 = 1;
/// The caller closed the socket before the attempt had an outcome.
pub const ABORTED: u32 = 2;
/// This end called connect(2); otherwise it listened, unless [`SIDE_UNKNOWN`].
pub const ACTIVE: u32 = 4;
/// The connection is older than the agent, or its beginning found no room.
pub const SIDE_UNKNOWN: u32 = 8;
/// The attempt failed, and somebody had taken the reason from its socket (`SO_ERROR`) before the program looked.
pub const UNEXPLAINED: u32 = 16;

/// What the kernel half remembers of a socket between its first transition and its last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// `CLOCK_BOOTTIME` ns: of connect(2) while connecting, of the handshake's end afterwards.
    pub since_ns: u64,
    /// Cgroup of the caller; 0 where nobody called, or where the socket tells its own.
    pub cgroup_id: u64,
    pub pid: u32,
    pub tid: u32,
    /// Name of the caller, in the words that it is copied by.
    pub comm: [u64; super::COMM_LEN / 8],
    /// [`ACTIVE`] or 0.
    pub flags: u32,
    /// One of those below.
    pub phase: u32,
}

pub const SOCKET_GONE: u32 = 0;
pub const SOCKET_ALIVE: u32 = 1;
/// connect(2) has given it up, and is about to say why.
pub const SOCKET_UNEXPLAINED: u32 = 2;
/// Its attempt has failed, as was told: if the caller hears of it from connect(2), that is nothing new.
pub const SOCKET_TOLD: u32 = 3;

/// Of how many sockets that are tracked at once one more may be remembered that is gone.
pub const SOCKETS_PER_GONE: u32 = 4;
