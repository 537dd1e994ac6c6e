//! Connects that connect(2) refuses by itself: the socket's state never changes, only the return value tells.

use agent_ebpf::contract::{
    event::EventKind,
    stats::SensorId,
    tcp::{ACTIVE, SOCKET_GONE, SOCKET_TOLD, SOCKET_UNEXPLAINED, TcpEvent},
};

use super::{
    IPPROTO_MPTCP, IPPROTO_TCP, NR_CONNECT, TCP,
    record::{self, AF_INET, AF_INET6},
    table,
};
use crate::kernel::{
    event::{Admission, Ring, fill_header, filtered, now_ns, reserve},
    load::{KernelPtr, copied},
    offset,
    registers::Registers,
    task,
};

/// Whether the call is connect(2), and somebody wants to know.
#[inline(always)]
pub(in crate::sensor) fn is_connect(number: u64) -> bool {
    TCP.load() != 0 && number == NR_CONNECT.load()
}

/// connect(2) has returned: what it refused by itself. `took_ns` is 0 if the entry was not seen.
#[inline(never)]
pub(in crate::sensor) fn connect_returned<R: Registers>(regs: R, result: i64, took_ns: u64) {
    if result >= 0 || result == -EINPROGRESS {
        return;
    }
    let task = task::current();
    let (fd, address) = (regs.read::<u64>(&offset::REGS_ARG0) as u32, regs.read::<u64>(&offset::REGS_ARG1));
    let Some(sk) = socket_of(task, fd) else { return };
    if !is_news(sk, -result) {
        return;
    }
    let ids = task::current_ids(task);
    if task::is_self(ids.0) {
        return filtered(SensorId::Tcp);
    }
    // The socket is the caller's own.
    let cgroup_id = task::current_cgroup_id(task);
    let now = now_ns();
    let (sensor, admission) = (SensorId::Tcp, Admission::Throttled);
    let Some(mut reserved) = reserve::<TcpEvent>(sensor, cgroup_id, Ring::Rare, admission, now) else {
        return;
    };
    let event = reserved.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written.
    unsafe {
        fill_header(&raw mut (*event).header, EventKind::TcpConnect, cgroup_id, ids, Some(task), now);
        let duration_ns = (took_ns != 0).then_some(took_ns);
        record::fill_outcome(event, duration_ns, -result as u16, ACTIVE);
        record::fill_target(event, sk, address);
    }
    reserved.submit();
}

const EINPROGRESS: i64 = 115;

/// Whether an attempt has failed of which no transition has told.
#[inline(always)]
fn is_news(sk: KernelPtr, errno: i64) -> bool {
    let place = table::place(sk);
    if let Some(socket) = place.of(SOCKET_UNEXPLAINED) {
        table::forget(sk, socket, SOCKET_GONE);
        return true;
    }
    // A socket that has got as far as to number its bytes has changed its state before. Whether that was of this
    // attempt or of an earlier one, its entry says; if it has none, it is better not to tell twice.
    if copied::<u32>(sk, &offset::TCP_WRITE_SEQ) != 0 && place.of(SOCKET_GONE).is_none() {
        if let Some(socket) = place.of(SOCKET_TOLD) {
            // SAFETY: an entry of our own map, of a socket that its caller holds.
            unsafe { (*socket).phase = SOCKET_GONE };
        }
        return false;
    }
    is_refusal(errno)
}

/// Errors by which connect(2) refuses a TCP socket before it has sent anything; others are mistakes in the call
/// (EBADF, EINVAL) or news of an attempt under way (EINPROGRESS, EALREADY).
#[inline(always)]
fn is_refusal(errno: i64) -> bool {
    const EPERM: i64 = 1;
    const EACCES: i64 = 13;
    const EADDRNOTAVAIL: i64 = 99;
    const ENETDOWN: i64 = 100;
    const ENETUNREACH: i64 = 101;
    const EHOSTUNREACH: i64 = 113;
    matches!(errno, EPERM | EACCES | EADDRNOTAVAIL | ENETDOWN | ENETUNREACH | EHOSTUNREACH)
}

/// The TCP socket behind a file descriptor of the task, if it is one. Of a multipath socket it is the first of those
/// that connections are made by; where the kernel has no such sockets, it has no such protocol either.
#[inline(always)]
fn socket_of(task: KernelPtr, fd: u32) -> Option<KernelPtr> {
    let file = task::file(task, fd)?;
    // connect(2) has returned an error that only sockets give, so this is one.
    let socket = copied::<u64>(file, &offset::FILE_PRIVATE_DATA) as KernelPtr;
    let mut sk = copied::<u64>(socket, &offset::SOCKET_SK) as KernelPtr;
    if copied::<u16>(sk, &offset::SOCK_PROTOCOL) == IPPROTO_MPTCP {
        sk = copied::<u64>(sk, &offset::MPTCP_FIRST) as KernelPtr;
    }
    let family = copied::<u16>(sk, &offset::SOCK_FAMILY);
    let is_inet = family == AF_INET || family == AF_INET6;
    (is_inet && copied::<u16>(sk, &offset::SOCK_PROTOCOL) == IPPROTO_TCP).then_some(sk)
}
