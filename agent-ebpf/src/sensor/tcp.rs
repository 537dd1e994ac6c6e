//! TCP connections: every attempt with its outcome, every accept, every close.
//!
//! One hook sees all of it, `sock:inet_sock_set_state`. A connect's first transition runs in the caller; later
//! ones mostly don't, so the caller is remembered with the socket, and the container is the socket's own. What
//! connect(2) refuses before the first transition (no route) is told by its return value ([`refusal`]).
//! Transitions nest, so two programs share the hook ([`turn`]).

mod record;
mod refusal;
mod table;
mod turn;

use agent_ebpf::contract::{
    event::EventKind,
    stats::SensorId,
    tcp::{
        ABORTED, ACTIVE, SIDE_UNKNOWN, SOCKET_ALIVE, SOCKET_GONE, SOCKET_TOLD, SOCKET_UNEXPLAINED, Socket,
        TcpEvent, UNEXPLAINED,
    },
};
use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};
pub(super) use refusal::{connect_returned, is_connect};
use table::Place;

use super::syscalls::{REGS_TELL, abi, registers};
use crate::kernel::{
    cell,
    event::{Admission, Ring, fill_header, filtered, now_ns, reserve},
    load::{KernelPtr, field},
    log::trace_event,
    offset,
    shared::CONTROL,
    task,
};

/// Whether this sensor is on; `sys_exit` serves `syscalls` too.
#[unsafe(no_mangle)]
static TCP: Global<u8> = Global::new(1);
/// Number of connect(2).
#[unsafe(no_mangle)]
static NR_CONNECT: Global<u64> = Global::new(u64::MAX);

// States of a socket (include/net/tcp_states.h).
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;
const TCP_FIN_WAIT1: u32 = 4;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;
/// State of a `struct socket` (include/uapi/linux/net.h).
const SS_UNCONNECTED: u32 = 1;

/// match-proto: `void(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let (sk, old, new) = arguments(&ctx);
    if is_tcp(sk) {
        trace_event!(&ctx, "tcp: state {} -> {}", old, new);
        transition(sk, old, new);
        turn::take(sk, new);
    }
    0
}

/// The same, for the transitions that the kernel withholds from the program above.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_nested(ctx: BtfTracePointContext) -> i32 {
    let (sk, old, new) = arguments(&ctx);
    if !turn::is_taken(sk, new) && is_tcp(sk) {
        turn::count();
        transition(sk, old, new);
    }
    0
}

#[inline(always)]
fn arguments(ctx: &BtfTracePointContext) -> (KernelPtr, u32, u32) {
    (ctx.arg(0), ctx.arg::<u64>(1) as u32, ctx.arg::<u64>(2) as u32)
}

#[inline(always)]
fn is_tcp(sk: KernelPtr) -> bool {
    // SAFETY: the hook's typed argument.
    unsafe { field::<u16>(sk, &offset::SOCK_PROTOCOL) == IPPROTO_TCP }
}

#[inline(always)]
fn transition(sk: KernelPtr, old: u32, new: u32) {
    // With TCP Fast Open, a connection may be accepted and closed before its handshake has ended.
    let new = if old == TCP_SYN_RECV && new == TCP_FIN_WAIT1 { TCP_ESTABLISHED } else { new };
    // The others are steps on the way out.
    if !matches!(new, TCP_SYN_SENT | TCP_ESTABLISHED | TCP_CLOSE) {
        return;
    }
    let now = now_ns();
    let place = table::place(sk);
    if new == TCP_SYN_SENT {
        return attempt(sk, place, now);
    }
    // Before the ways part: the verifier takes long for a pointer that comes out of a socket ([`task::current_cgroup_id`]).
    // SAFETY: the hook's typed argument.
    let subject = unsafe { Subject { sk, cgroup_id: task::cgroup_of_socket(sk), netns: record::netns(sk) } };
    let socket = place.socket();
    let outcome = match (old, new) {
        (TCP_SYN_SENT | TCP_SYN_RECV, TCP_ESTABLISHED) => established(subject, place, old, now),
        // A simultaneous open that failed is an attempt; a listener's child that was never established is not.
        (TCP_SYN_SENT, TCP_CLOSE) => match failed(sk, socket, now) {
            None => return,
            outcome => outcome,
        },
        (TCP_SYN_RECV, TCP_CLOSE) if socket.is_some() => match failed(sk, socket, now) {
            None => return,
            outcome => outcome,
        },
        // Not connections: listeners, sockets closed unused.
        (TCP_LISTEN | TCP_SYN_RECV | TCP_CLOSE, TCP_CLOSE) => None,
        (_, TCP_CLOSE) => closed(subject, socket, now),
        _ => return,
    };
    if let Some(outcome) = outcome {
        report(subject, outcome, now);
    }
    if new != TCP_CLOSE {
        return;
    }
    let (gone, phase) = match old {
        // Also if the beginning was missed and the entry is an older socket's: connect(2) may still return.
        TCP_SYN_SENT => (place.any(), SOCKET_TOLD),
        TCP_SYN_RECV => (socket, SOCKET_TOLD),
        _ => (socket, SOCKET_GONE),
    };
    if let Some(socket) = gone {
        table::forget(sk, socket, phase);
    }
}

/// The socket that changes its state.
#[derive(Clone, Copy)]
struct Subject {
    /// The hook's typed argument.
    sk: KernelPtr,
    /// 0 where the socket doesn't tell.
    cgroup_id: u64,
    /// Inode number of its network namespace.
    netns: u32,
}

/// A SYN is about to be sent: the caller is running.
#[inline(always)]
fn attempt(sk: KernelPtr, place: Place, now: u64) {
    let current = task::current();
    let ((pid, tid), comm) = (task::current_ids(current), task::current_comm(current));
    let cgroup_id = if task::sockets_tell() { 0 } else { task::current_cgroup_id(current) };
    let socket = Socket { since_ns: now, cgroup_id, pid, tid, comm, flags: ACTIVE, phase: SOCKET_ALIVE };
    place.remember(sk, socket);
}

/// Whether connect(2) itself gives up a socket that it has taken to `SYN_SENT`, before anything could come back: its
/// caller is told why, the socket is not. Not so for TCP Fast Open or io_uring, whose callers nobody hears.
#[inline(always)]
fn is_given_up_in_connect(sk: KernelPtr) -> bool {
    // SAFETY: the hook's typed argument; the field is typed as well.
    let state = unsafe { field::<u32>(field(sk, &offset::SOCK_SOCKET), &offset::SOCKET_STATE) };
    // It becomes `SS_CONNECTING` when the attempt has begun, before the socket's lock is given back.
    state == SS_UNCONNECTED && in_connect()
}

/// Whether the current task is inside of connect(2). An older kernel doesn't tell: there it is taken for granted unless
/// another call is known to have begun.
#[inline(always)]
fn in_connect() -> bool {
    if REGS_TELL.load() == 0 {
        let cell = cell::of(cell::processor());
        // SAFETY: this CPU's cell; the current task can't leave its CPU in here.
        return unsafe { (*cell).entered == 0 || (*cell).number == NR_CONNECT.load() };
    }
    abi::number(registers()) == NR_CONNECT.load()
}

/// What is to be told of a socket.
struct Outcome {
    kind: EventKind,
    socket: Option<*mut Socket>,
    duration_ns: Option<u64>,
    errno: u32,
    flags: u32,
}

#[inline(always)]
fn established(subject: Subject, place: Place, old: u32, now: u64) -> Option<Outcome> {
    if let Some(socket) = place.socket() {
        // SAFETY: an entry of our own map, alive in this program.
        let since_ns = unsafe { core::mem::replace(&mut (*socket).since_ns, now) };
        return Some(Outcome {
            kind: EventKind::TcpConnect,
            socket: Some(socket),
            duration_ns: Some(now.wrapping_sub(since_ns)),
            errno: 0,
            flags: ACTIVE,
        });
    }
    // Nobody was seen to call. A listener's child, whose handshake ends in a softirq; or an attempt older than
    // the agent, or one that found no room.
    let (kind, flags) =
        if old == TCP_SYN_SENT { (EventKind::TcpConnect, ACTIVE) } else { (EventKind::TcpAccept, 0) };
    // Who asks the agent for its metrics is the agent's own affair: from here on the socket is known as its own.
    // SAFETY: the hook's typed argument.
    let pid = if flags == 0 { own_listener(subject, unsafe { record::bound_port(subject.sk) }) } else { 0 };
    let (cgroup_id, tid, comm) = (0, 0, [0; 2]);
    place.remember(
        subject.sk,
        Socket { since_ns: now, cgroup_id, pid, tid, comm, flags, phase: SOCKET_ALIVE },
    );
    if pid != 0 {
        filtered(SensorId::Tcp);
        return None;
    }
    Some(Outcome { kind, socket: None, duration_ns: None, errno: 0, flags })
}

/// The agent's process id, if the socket was accepted by one of its listeners; else 0.
#[inline(always)]
fn own_listener(subject: Subject, port: u16) -> u32 {
    let control = CONTROL.at();
    // SAFETY: memory of ours; the hook's typed argument.
    unsafe {
        let listeners = &(*control).own_listeners;
        if !listeners.iter().any(|listener| listener.has_port(port)) {
            return 0;
        }
        let address = record::local_half(subject.sk);
        let is_own = listeners.iter().any(|listener| listener.has_port(port) && listener.accepts_at(address));
        if is_own && u64::from(subject.netns) == (*control).own_netns {
            (*control).self_pid as u32
        } else {
            0
        }
    }
}

/// An attempt came to nothing. The kernel has said why in `sk_err`, unless somebody closed the socket, or
/// connect(2) itself gives up (no local port is left, say): then it will return the reason, and there is no outcome yet.
#[inline(always)]
fn failed(sk: KernelPtr, socket: Option<*mut Socket>, now: u64) -> Option<Outcome> {
    // SAFETY: the hook's typed argument.
    let errno = unsafe { field::<u32>(sk, &offset::SOCK_ERR) };
    if errno == 0 && is_given_up_in_connect(sk) {
        if let Some(socket) = socket {
            // SAFETY: the entry lives until `forget`.
            unsafe { (*socket).phase = SOCKET_UNEXPLAINED };
        }
        return None;
    }
    // SAFETY: the entry lives until `forget`.
    let duration_ns = socket.map(|socket| unsafe { now.wrapping_sub((*socket).since_ns) });
    let flags = match errno {
        0 if is_closed_by_its_owner(sk) => ACTIVE | ABORTED,
        0 => ACTIVE | UNEXPLAINED,
        _ => ACTIVE,
    };
    Some(Outcome { kind: EventKind::TcpConnect, socket, duration_ns, errno, flags })
}

/// Whether it is a system call that closes a socket in `SYN_SENT`, and not the kernel because of an error: that, too, may
/// happen while a call owns the socket (what came meanwhile is looked at when it gives it back), but then the kernel has
/// dropped the SYN that was not yet answered (`tcp_write_queue_purge`).
#[inline(always)]
fn is_closed_by_its_owner(sk: KernelPtr) -> bool {
    // SAFETY: the hook's typed argument.
    let (is_owned, tcp) = unsafe { (field::<u32>(sk, &offset::SOCK_OWNED) != 0, record::tcp_sock(sk)) };
    // SAFETY: typed as well, and not null.
    is_owned && !tcp.is_null() && unsafe { field::<u32>(tcp, &offset::TCP_PACKETS_OUT) } != 0
}

#[inline(always)]
fn closed(subject: Subject, socket: Option<*mut Socket>, now: u64) -> Option<Outcome> {
    let Some(entry) = socket else {
        // SAFETY: the hook's typed argument.
        let port = unsafe { record::port_at_the_end(record::tcp_sock(subject.sk)) };
        if own_listener(subject, port) != 0 {
            filtered(SensorId::Tcp);
            return None;
        }
        let (kind, flags) = (EventKind::TcpClose, SIDE_UNKNOWN);
        return Some(Outcome { kind, socket, duration_ns: None, errno: 0, flags });
    };
    // SAFETY: the entry lives until `forget`.
    let (duration_ns, flags) = unsafe { (now.wrapping_sub((*entry).since_ns), (*entry).flags) };
    Some(Outcome { kind: EventKind::TcpClose, socket, duration_ns: Some(duration_ns), errno: 0, flags })
}

#[inline(always)]
fn report(subject: Subject, outcome: Outcome, now: u64) {
    let socket = outcome.socket;
    // SAFETY: an entry of our own map, alive in this program; see `established`.
    let ids = socket.map_or((0, 0), |socket| unsafe { ((*socket).pid, (*socket).tid) });
    if ids.0 != 0 && task::is_self(ids.0) {
        return filtered(SensorId::Tcp);
    }
    let cgroup_id = match (subject.cgroup_id, socket) {
        // The socket doesn't tell on a node with v1 alone: the caller's, then.
        // SAFETY: an entry as above.
        (0, Some(socket)) => unsafe { (*socket).cgroup_id },
        (cgroup_id, _) => cgroup_id,
    };
    let is_failure = outcome.errno != 0 || outcome.flags & (ABORTED | UNEXPLAINED) != 0;
    let ring = if is_failure { Ring::Rare } else { Ring::Bulk };
    let (sensor, admission) = (SensorId::Tcp, Admission::Throttled);
    let Some(mut reserved) = reserve::<TcpEvent>(sensor, cgroup_id, ring, admission, now) else { return };
    let event = reserved.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written; the hook's typed argument.
    unsafe {
        fill_header(&raw mut (*event).header, outcome.kind, cgroup_id, ids, None, now);
        let comm = socket.map_or([0; 2], |socket| (*socket).comm);
        (&raw mut (*event).header.comm).cast::<[u64; 2]>().write(comm);
        record::fill_outcome(event, outcome.duration_ns, outcome.errno as u16, outcome.flags);
        (*event).netns = subject.netns;
        record::fill_socket(event, subject.sk);
        match (outcome.kind, is_failure) {
            (EventKind::TcpClose, _) => record::fill_end(event, subject.sk),
            (_, true) => record::fill_failure(event, subject.sk),
            _ => record::fill_beginning(event, subject.sk),
        }
    }
    reserved.submit();
}
