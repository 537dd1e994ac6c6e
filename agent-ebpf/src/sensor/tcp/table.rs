//! What is remembered of each socket between its first transition and its last, by its address.
//!
//! The kernel makes most sockets where another one was a moment ago. So the entry of a socket that is gone stays, and
//! the next one at that address takes it over: to insert and to delete each time would take a fifth of the program's
//! time. Only so many stay; past that, whoever goes is deleted.

use agent_ebpf::contract::{
    stats::SensorId,
    tcp::{SOCKET_ALIVE, Socket},
};
use aya_ebpf::{
    Global,
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};

use crate::kernel::{
    event::{add, bump, untracked},
    load::KernelPtr,
};

#[map]
static SOCKETS: HashMap<u64, Socket> = HashMap::with_max_entries(1, 0);
/// Entries that there are, of sockets that are gone too.
#[map]
static SOCKETS_HELD: Array<u64> = Array::with_max_entries(1, 0);
/// Up to how many of them entries of sockets that are gone may stay. The map has room for these besides.
#[unsafe(no_mangle)]
static SOCKETS_KEPT: Global<u64> = Global::new(0);

/// The entry at a socket's address: it may be of a socket that is gone.
#[derive(Clone, Copy)]
pub(super) struct Place(Option<*mut Socket>);

#[inline(always)]
pub(super) fn place(sk: KernelPtr) -> Place {
    Place(SOCKETS.get_ptr_mut(sk as u64))
}

impl Place {
    /// The entry, if it is of a socket that lives. It is until [`forget`]: transitions of one socket are serialized by
    /// its lock.
    #[inline(always)]
    pub(super) fn socket(self) -> Option<*mut Socket> {
        self.of(SOCKET_ALIVE)
    }

    /// The entry, whatever its socket's phase.
    #[inline(always)]
    pub(super) fn any(self) -> Option<*mut Socket> {
        self.0
    }

    /// The entry, if its socket is in this phase.
    #[inline(always)]
    pub(super) fn of(self, phase: u32) -> Option<*mut Socket> {
        // SAFETY: an entry of our own map; entries are made in advance, so that its memory stays one.
        self.0.filter(|socket| unsafe { (**socket).phase } == phase)
    }

    /// Remembers a socket here.
    #[inline(always)]
    pub(super) fn remember(self, sk: KernelPtr, socket: Socket) {
        if let Some(entry) = self.0 {
            // SAFETY: as above.
            unsafe { entry.write(socket) };
        } else if SOCKETS.insert(sk as u64, socket, BPF_NOEXIST as u64).is_err() {
            untracked(SensorId::Tcp);
        } else if let Some(held) = SOCKETS_HELD.get_ptr_mut(0) {
            // SAFETY: a counter in our map.
            unsafe { bump(held) };
        }
    }
}

/// The socket of this entry is gone, or as good as new after an attempt: `phase` says which.
#[inline(always)]
pub(super) fn forget(sk: KernelPtr, socket: *mut Socket, phase: u32) {
    let Some(held) = SOCKETS_HELD.get_ptr_mut(0) else { return };
    // SAFETY: an entry and a counter in our own maps.
    unsafe {
        if held.read_volatile() <= SOCKETS_KEPT.load() {
            (*socket).phase = phase;
        } else if SOCKETS.remove(sk as u64).is_ok() {
            add(held, u64::MAX);
        }
    }
}
