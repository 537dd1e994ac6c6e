//! Filling a record in place.

use agent_ebpf::contract::{
    control::half,
    tcp::{DURATION_KNOWN, TcpEvent, Traffic},
};
use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_skc_to_tcp_sock};

use crate::kernel::{
    load::{KernelPtr, copied, field},
    offset::{self, Field},
};

pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;
/// Bit of `skc_flags`: the other end has sent its last byte (`SOCK_DONE`, include/net/sock.h).
const SOCK_DONE: u32 = 1;
/// The kernel keeps eight times the round-trip time (net/ipv4/tcp_input.c, `tcp_rtt_estimator`).
const SRTT_SHIFT: u32 = 3;

/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
pub(super) unsafe fn fill_outcome(event: *mut TcpEvent, duration_ns: Option<u64>, errno: u16, flags: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).duration_ns = duration_ns.unwrap_or(0);
        (*event).errno = errno;
        let known = if duration_ns.is_some() { DURATION_KNOWN } else { 0 };
        (*event).flags = flags | known;
    }
}

/// The same socket as what it is, typed; null if it isn't TCP's.
///
/// # Safety
///
/// `sk` is a typed argument of the hook.
#[inline(always)]
pub(super) unsafe fn tcp_sock(sk: KernelPtr) -> KernelPtr {
    // SAFETY: the caller's promise.
    unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) as KernelPtr }
}

/// Local port in host order, as long as the socket has one.
///
/// # Safety
///
/// As for [`tcp_sock`].
#[inline(always)]
pub(super) unsafe fn bound_port(sk: KernelPtr) -> u16 {
    // SAFETY: the caller's promise.
    unsafe { field(sk, &offset::SOCK_NUM) }
}

/// The same at the last transition: the port may have been given back before, which `inet_sport` doesn't notice. 0 if
/// the socket is null.
///
/// # Safety
///
/// `tcp` is what [`tcp_sock`] returned.
#[inline(always)]
pub(super) unsafe fn port_at_the_end(tcp: KernelPtr) -> u16 {
    if tcp.is_null() {
        return 0;
    }
    // SAFETY: the caller's promise.
    u16::from_be(unsafe { field(tcp, &offset::INET_SOCK_SPORT) })
}

/// Inode number of the socket's network namespace.
///
/// # Safety
///
/// As for [`tcp_sock`].
#[inline(always)]
pub(super) unsafe fn netns(sk: KernelPtr) -> u32 {
    // SAFETY: the caller's promise; the field is typed as well.
    unsafe { field(field(sk, &offset::SOCK_NET), &offset::NET_INUM) }
}

/// Both ends as the socket has them, but for the local port.
///
/// # Safety
///
/// `event` is a reserved record, `sk` a typed argument of the hook.
#[inline(always)]
pub(super) unsafe fn fill_socket(event: *mut TcpEvent, sk: KernelPtr) {
    // SAFETY: the caller's promise.
    unsafe {
        let family: u16 = field(sk, &offset::SOCK_FAMILY);
        (*event).family = family;
        let (local, remote) = (&raw mut (*event).local, &raw mut (*event).remote);
        if family == AF_INET6 {
            write_v6(local.cast(), sk, &offset::SOCK_V6_RCV_SADDR);
            write_v6(remote.cast(), sk, &offset::SOCK_V6_DADDR);
        } else {
            write_v4(local.cast(), field(sk, &offset::SOCK_RCV_SADDR));
            write_v4(remote.cast(), field(sk, &offset::SOCK_DADDR));
        }
        (*event).remote_port = u16::from_be(field(sk, &offset::SOCK_DPORT));
    }
}

/// The socket's own address, as addresses are compared: see [`half`].
///
/// # Safety
///
/// `sk` is BTF-typed.
#[inline(always)]
pub(super) unsafe fn local_half(sk: KernelPtr) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        if field::<u16>(sk, &offset::SOCK_FAMILY) == AF_INET6 {
            field(sk.wrapping_add(8), &offset::SOCK_V6_RCV_SADDR)
        } else {
            half(field(sk, &offset::SOCK_RCV_SADDR))
        }
    }
}

/// The rest of a connection that begins.
///
/// # Safety
///
/// As for [`fill_socket`].
#[inline(always)]
pub(super) unsafe fn fill_beginning(event: *mut TcpEvent, sk: KernelPtr) {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).local_port = bound_port(sk);
        (*event).traffic = NO_TRAFFIC;
    }
}

/// The rest of one that never came to be.
///
/// # Safety
///
/// As for [`fill_socket`].
#[inline(always)]
pub(super) unsafe fn fill_failure(event: *mut TcpEvent, sk: KernelPtr) {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).local_port = port_at_the_end(tcp_sock(sk));
        (*event).traffic = NO_TRAFFIC;
    }
}

/// The rest of one that ends: what its socket has counted.
///
/// # Safety
///
/// As for [`fill_socket`].
#[inline(always)]
pub(super) unsafe fn fill_end(event: *mut TcpEvent, sk: KernelPtr) {
    // SAFETY: the caller's promise.
    unsafe {
        let tcp = tcp_sock(sk);
        (*event).local_port = port_at_the_end(tcp);
        (*event).traffic = NO_TRAFFIC;
        if !tcp.is_null() {
            // The end takes a place among the bytes.
            let end = field::<u64>(sk, &offset::SOCK_FLAGS) >> SOCK_DONE & 1;
            (*event).traffic = traffic(tcp, end);
        }
    }
}

const NO_TRAFFIC: Traffic = Traffic { sent_bytes: 0, received_bytes: 0, retransmits: 0, rtt_us: 0 };

/// # Safety
///
/// `tcp` is what [`tcp_sock`] returned, and not null.
#[inline(always)]
unsafe fn traffic(tcp: KernelPtr, end: u64) -> Traffic {
    // SAFETY: the caller's promise.
    unsafe {
        // What was sent again is counted again.
        let sent: u64 = field(tcp, &offset::TCP_BYTES_SENT);
        Traffic {
            sent_bytes: sent.wrapping_sub(field(tcp, &offset::TCP_BYTES_RETRANS)),
            received_bytes: field::<u64>(tcp, &offset::TCP_BYTES_RECEIVED).wrapping_sub(end),
            retransmits: field(tcp, &offset::TCP_TOTAL_RETRANS),
            rtt_us: field::<u32>(tcp, &offset::TCP_SRTT) >> SRTT_SHIFT,
        }
    }
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
        (*event).netns = copied(copied::<u64>(sk, &offset::SOCK_NET) as KernelPtr, &offset::NET_INUM);
        (*event).traffic = NO_TRAFFIC;
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

/// An IPv6 address: 16 bytes in two loads.
///
/// # Safety
///
/// `target` is 16 bytes of a reserved record, at a multiple of 8; `sk` is typed.
#[inline(always)]
unsafe fn write_v6(target: *mut u64, sk: KernelPtr, address: &impl Field) {
    // SAFETY: the caller's promise.
    unsafe {
        target.write(field(sk, address));
        target.add(1).write(field(sk.wrapping_add(8), address));
    }
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
