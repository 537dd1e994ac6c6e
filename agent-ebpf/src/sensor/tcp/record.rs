//! Filling a record in place.

use agent_ebpf::contract::tcp::{DURATION_KNOWN, TcpEvent, Traffic};
use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_skc_to_tcp_sock};

use crate::kernel::{
    load::{KernelPtr, copied, copy_to, field},
    offset,
};

pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;
/// Bit of `skc_flags`: the other end has sent its last byte (`SOCK_DONE`, include/net/sock.h).
const SOCK_DONE: u32 = 1;
/// The kernel keeps eight times the round-trip time (net/ipv4/tcp_input.c, `tcp_rtt_estimator`).
const SRTT_SHIFT: u32 = 3;

#[derive(Clone, Copy)]
pub(super) struct Outcome {
    pub(super) duration_ns: Option<u64>,
    pub(super) errno: u16,
    pub(super) flags: u32,
}

/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
pub(super) unsafe fn fill_outcome(event: *mut TcpEvent, outcome: Outcome) {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).duration_ns = outcome.duration_ns.unwrap_or(0);
        (*event).errno = outcome.errno;
        let known = if outcome.duration_ns.is_some() { DURATION_KNOWN } else { 0 };
        (*event).flags = outcome.flags | known;
    }
}

/// Both ends, as the socket has them.
///
/// # Safety
///
/// `event` is a reserved record, `sk` a typed argument of the hook.
#[inline(always)]
pub(super) unsafe fn fill_addresses(event: *mut TcpEvent, sk: KernelPtr) {
    // SAFETY: the caller's promise.
    unsafe {
        let family: u16 = field(sk, &offset::SOCK_FAMILY);
        (*event).family = family;
        let (local, remote) =
            ((&raw mut (*event).local).cast::<u8>(), (&raw mut (*event).remote).cast::<u8>());
        if family == AF_INET6 {
            copy_to(local, 16, sk.wrapping_add(offset::SOCK_V6_RCV_SADDR.load() as usize));
            copy_to(remote, 16, sk.wrapping_add(offset::SOCK_V6_DADDR.load() as usize));
        } else {
            write_v4(local, field(sk, &offset::SOCK_RCV_SADDR));
            write_v4(remote, field(sk, &offset::SOCK_DADDR));
        }
        // `inet_sport` keeps what `skc_num` loses when the port is given back before the last transition.
        (*event).local_port = u16::from_be(copied(sk, &offset::INET_SOCK_SPORT));
        (*event).remote_port = u16::from_be(field(sk, &offset::SOCK_DPORT));
        (*event).netns = netns(sk);
    }
}

/// What the socket has counted, if it is closed; else nothing.
///
/// # Safety
///
/// As for [`fill_addresses`].
#[inline(always)]
pub(super) unsafe fn fill_traffic(event: *mut TcpEvent, sk: KernelPtr, is_closed: bool) {
    let mut traffic = Traffic { sent_bytes: 0, received_bytes: 0, retransmits: 0, rtt_us: 0 };
    if is_closed {
        // SAFETY: the caller's promise; the helper gives the same socket as what it is, or null.
        let socket = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) } as KernelPtr;
        if !socket.is_null() {
            // SAFETY: typed, as the helper's result is.
            unsafe {
                // What was sent again is counted again.
                let sent: u64 = field(socket, &offset::TCP_BYTES_SENT);
                traffic.sent_bytes = sent.wrapping_sub(field(socket, &offset::TCP_BYTES_RETRANS));
                // The end takes a place among the bytes.
                let end = field::<u64>(sk, &offset::SOCK_FLAGS) >> SOCK_DONE & 1;
                let received: u64 = field(socket, &offset::TCP_BYTES_RECEIVED);
                traffic.received_bytes = received.wrapping_sub(end);
                traffic.retransmits = field(socket, &offset::TCP_TOTAL_RETRANS);
                traffic.rtt_us = field::<u32>(socket, &offset::TCP_SRTT) >> SRTT_SHIFT;
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { (*event).traffic = traffic };
}

/// Nothing local yet, and the address that connect(2) was given: `sockaddr_in` or `sockaddr_in6`, in user memory.
///
/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
pub(super) unsafe fn fill_target(event: *mut TcpEvent, sk: KernelPtr, address: u64) {
    /// `sockaddr_in6`, whose first four bytes are those of `sockaddr_in`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct SockAddr {
        family: u16,
        port: u16,
        v4_or_flow: u32,
        v6: [u64; 2],
    }
    let mut given = SockAddr { family: 0, port: 0, v4_or_flow: 0, v6: [0; 2] };
    // SAFETY: the helper writes into `given` only, whole for IPv6 and its first 8 bytes for IPv4, and checks the
    // user's memory; the caller's promise for `event`.
    unsafe {
        let target = (&raw mut given).cast();
        if bpf_probe_read_user(target, size_of::<SockAddr>() as u32, address as *const _) != 0 {
            bpf_probe_read_user(target, 8, address as *const _);
        }
        (*event).family = copied(sk, &offset::SOCK_FAMILY);
        (*event).netns = netns(sk);
        (*event).traffic = Traffic { sent_bytes: 0, received_bytes: 0, retransmits: 0, rtt_us: 0 };
        write_v4((&raw mut (*event).local).cast(), 0);
        (*event).local_port = 0;
        (*event).remote_port = u16::from_be(given.port);
        let remote = (&raw mut (*event).remote).cast::<u8>();
        if given.family == AF_INET6 {
            remote.cast::<u64>().write_unaligned(given.v6[0]);
            remote.cast::<u64>().add(1).write_unaligned(given.v6[1]);
        } else {
            (*event).family = AF_INET;
            write_v4(remote, given.v4_or_flow);
        }
    }
}

/// Inode number of the socket's network namespace.
#[inline(always)]
fn netns(sk: KernelPtr) -> u32 {
    copied(copied::<u64>(sk, &offset::SOCK_NET) as KernelPtr, &offset::NET_INUM)
}

/// An IPv4 address in network order, and zeros behind it.
///
/// # Safety
///
/// `target` is 16 bytes of a reserved record.
#[inline(always)]
unsafe fn write_v4(target: *mut u8, address: u32) {
    // SAFETY: the caller's promise. Addresses lie at multiples of 8 in the record.
    unsafe {
        target.cast::<u32>().write(address);
        target.cast::<u32>().add(1).write(0);
        target.cast::<u64>().add(1).write(0);
    }
}
