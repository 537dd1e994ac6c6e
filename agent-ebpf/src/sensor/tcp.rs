//! TCP connections: every attempt with its outcome, every accept, every close.
//!
//! One hook sees all of it, `sock:inet_sock_set_state`. A connect's first transition runs in the caller; later
//! ones mostly don't, so the caller is remembered with the socket, and the container is the socket's own. What
//! connect(2) refuses before the first transition (no route) is told by its return value ([`refusal`]).
//! Transitions nest, so two programs share the hook ([`turn`]).

mod record;
mod refusal;
mod turn;

use agent_ebpf::contract::{
    control::has_port,
    event::EventKind,
    stats::SensorId,
    tcp::{ABORTED, ACTIVE, SIDE_UNKNOWN, SOCKET_CONNECTING, SOCKET_ESTABLISHED, Socket, TcpEvent},
};
use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    helpers::generated::{bpf_get_current_comm, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use record::Outcome;
pub(super) use refusal::{call_returned, is_connect};

use super::syscalls::{REGS_TELL, abi, registers};
use crate::kernel::{
    cell,
    event::{Admission, Ring, fill_header, filtered, reserve, submit, untracked},
    load::{KernelPtr, copied, field},
    log::trace_event,
    maps::{CONTROL, SOCKETS},
    offset, task,
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
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

const IPPROTO_TCP: u16 = 6;

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
    // Before the ways part: the verifier takes long for a pointer that comes out of a socket (`task::current_cgroup_id`).
    // SAFETY: the hook's typed argument.
    let subject = Subject { sk, cgroup_id: unsafe { task::cgroup_of_socket(sk) } };
    match (old, new) {
        (_, TCP_SYN_SENT) => attempt(sk),
        (TCP_SYN_SENT | TCP_SYN_RECV, TCP_ESTABLISHED) => established(subject, old),
        (TCP_SYN_SENT, TCP_CLOSE) => failed(subject),
        // A simultaneous open that failed is an attempt; a listener's child that was never established is not.
        (TCP_SYN_RECV, TCP_CLOSE) if SOCKETS.get_ptr(sk as u64).is_some() => failed(subject),
        // Not connections: listeners, sockets closed unused.
        (TCP_LISTEN | TCP_SYN_RECV | TCP_CLOSE, TCP_CLOSE) => forget(sk),
        (_, TCP_CLOSE) => closed(subject),
        _ => {}
    }
}

/// The socket that changes its state.
#[derive(Clone, Copy)]
struct Subject {
    /// The hook's typed argument.
    sk: KernelPtr,
    /// 0 where the socket doesn't tell.
    cgroup_id: u64,
}

/// A SYN is about to be sent: the caller is running.
#[inline(always)]
fn attempt(sk: KernelPtr) {
    let current = task::current();
    let ((pid, tid), cgroup_id) = (task::current_ids(current), task::current_cgroup_id(current));
    let mut socket = Socket {
        cgroup_id,
        // SAFETY: the helper takes nothing.
        since_ns: unsafe { bpf_ktime_get_ns() },
        pid,
        tid,
        comm: [0; 16],
        flags: ACTIVE,
        phase: SOCKET_CONNECTING,
    };
    // SAFETY: writes into our own array of 16 bytes.
    unsafe { bpf_get_current_comm((&raw mut socket.comm).cast(), 16) };
    if SOCKETS.insert(sk as u64, socket, BPF_ANY as u64).is_err() {
        untracked(SensorId::Tcp);
    }
    if in_connect() {
        // SAFETY: the current task; the state is ours.
        unsafe {
            if let Some(state) = task::state_or_new(current) {
                (*state).connecting = sk as u64;
                (*state).unexplained = 0;
            }
        }
    }
}

/// Whether the current task is inside of connect(2): not so for TCP Fast Open or io_uring. An older kernel doesn't
/// tell: there it is taken for granted unless another call is known to have begun.
#[inline(always)]
fn in_connect() -> bool {
    if REGS_TELL.load() == 0 {
        // SAFETY: this CPU's cell of our own map; the current task can't leave its CPU in here.
        return cell::of(cell::processor())
            .is_none_or(|cell| unsafe { (*cell).entered == 0 || (*cell).number == NR_CONNECT.load() });
    }
    abi::number(registers()) == NR_CONNECT.load()
}

#[inline(always)]
fn established(subject: Subject, old: u32) {
    let sk = subject.sk;
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(socket) = SOCKETS.get_ptr_mut(sk as u64) {
        // SAFETY: the entry lives until this socket's last transition, and transitions of one socket are
        // serialized by its lock.
        let since_ns = unsafe {
            let since_ns = (*socket).since_ns;
            (*socket).since_ns = now;
            (*socket).phase = SOCKET_ESTABLISHED;
            since_ns
        };
        let outcome = Outcome { duration_ns: Some(now.wrapping_sub(since_ns)), errno: 0, flags: ACTIVE };
        return report(EventKind::TcpConnect, subject, Some(socket), outcome, Ring::Bulk);
    }
    // Nobody was seen to call. A listener's child, whose handshake ends in a softirq; or an attempt older than
    // the agent, or one that found no room.
    let (kind, flags) =
        if old == TCP_SYN_SENT { (EventKind::TcpConnect, ACTIVE) } else { (EventKind::TcpAccept, 0) };
    // Who asks the agent for its metrics is the agent's own affair: from here on the socket is known as its own.
    let pid = if flags == 0 { own_listener(sk) } else { 0 };
    let socket =
        Socket { since_ns: now, cgroup_id: 0, pid, tid: 0, comm: [0; 16], flags, phase: SOCKET_ESTABLISHED };
    if SOCKETS.insert(sk as u64, socket, BPF_ANY as u64).is_err() {
        untracked(SensorId::Tcp);
    }
    if pid != 0 {
        return filtered(SensorId::Tcp);
    }
    report(kind, subject, None, Outcome { duration_ns: None, errno: 0, flags }, Ring::Bulk);
}

/// The agent's process id, if the socket was accepted by one of its listeners; else 0.
#[inline(always)]
fn own_listener(sk: KernelPtr) -> u32 {
    let Some(control) = CONTROL.get_ptr(0) else { return 0 };
    // SAFETY: a cell of our own array map; the hook's typed argument.
    unsafe {
        if !has_port((*control).own_ports, u16::from_be(copied(sk, &offset::INET_SOCK_SPORT))) {
            return 0;
        }
        let net = copied::<u64>(sk, &offset::SOCK_NET) as KernelPtr;
        if copied::<u32>(net, &offset::NET_INUM) as u64 == (*control).own_netns {
            (*control).self_pid as u32
        } else {
            0
        }
    }
}

/// An attempt came to nothing. The kernel has said why in `sk_err`, unless somebody closed the socket, or
/// connect(2) itself gives up (no local port is left, say): then it will return the reason.
#[inline(always)]
fn failed(subject: Subject) {
    let sk = subject.sk;
    let socket = SOCKETS.get_ptr_mut(sk as u64);
    // SAFETY: the hook's typed argument.
    let errno = unsafe { field::<u32>(sk, &offset::SOCK_ERR) };
    if errno == 0 {
        // SAFETY: the current task; the state is ours.
        unsafe {
            if let Some(state) = task::state(task::current())
                && (*state).connecting == sk as u64
            {
                (*state).unexplained = 1;
                return;
            }
        }
    }
    // SAFETY: the entry lives until `forget`.
    let duration_ns = socket.map(|socket| unsafe { bpf_ktime_get_ns().wrapping_sub((*socket).since_ns) });
    let flags = if errno == 0 { ACTIVE | ABORTED } else { ACTIVE };
    report(
        EventKind::TcpConnect,
        subject,
        socket,
        Outcome { duration_ns, errno: errno as u16, flags },
        Ring::Rare,
    );
    forget(sk);
}

#[inline(always)]
fn closed(subject: Subject) {
    let sk = subject.sk;
    let socket = SOCKETS.get_ptr_mut(sk as u64);
    if socket.is_none() && own_listener(sk) != 0 {
        return filtered(SensorId::Tcp);
    }
    let outcome = match socket {
        // SAFETY: the entry lives until `forget`.
        Some(socket) => unsafe {
            let duration_ns = bpf_ktime_get_ns().wrapping_sub((*socket).since_ns);
            Outcome { duration_ns: Some(duration_ns), errno: 0, flags: (*socket).flags }
        },
        None => Outcome { duration_ns: None, errno: 0, flags: SIDE_UNKNOWN },
    };
    report(EventKind::TcpClose, subject, socket, outcome, Ring::Bulk);
    forget(sk);
}

#[inline(always)]
fn forget(sk: KernelPtr) {
    let _ = SOCKETS.remove(sk as u64);
}

#[inline(always)]
fn report(kind: EventKind, subject: Subject, socket: Option<*mut Socket>, outcome: Outcome, ring: Ring) {
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
    let Some(mut entry) = reserve::<TcpEvent>(SensorId::Tcp, cgroup_id, ring, Admission::Throttled) else {
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written; `sk` is the hook's typed argument.
    unsafe {
        fill_header(&raw mut (*event).header, kind, cgroup_id, ids, None);
        (*event).header.comm = socket.map_or([0; 16], |socket| (*socket).comm);
        record::fill_outcome(event, outcome);
        record::fill_addresses(event, subject.sk);
        record::fill_traffic(event, subject.sk, matches!(kind, EventKind::TcpClose));
    }
    submit(entry, ring);
}
