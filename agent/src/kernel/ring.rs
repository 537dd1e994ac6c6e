//! The reader's end of the ring buffers.
//!
//! A ring (`BPF_MAP_TYPE_RINGBUF`, kernel/bpf/ringbuf.c) is a page with the reader's position, one with the writers', and
//! the data, twice in a row, so that a record at the end goes on behind it. Positions only ever grow; a record is behind
//! a head of 8 bytes with its length. Both are read here in their own memory, the data through a window: a ring is as
//! large as the worst burst, and only the kernel has to have room for that.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    slice,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

use aya::{Ebpf, maps::Map};

use super::{
    host::page_size,
    mapping::{Access, Mapping},
    object::LoadError,
};

/// Both rings; the rare one is drained first, so that a cgroup is known before what happens in it.
pub struct Rings {
    rare: Ring,
    bulk: Ring,
    #[cfg(feature = "kernel-log")]
    log: aya_log::EbpfLogger<&'static dyn log::Log>,
}

impl Rings {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            #[cfg(feature = "kernel-log")]
            log: aya_log::EbpfLogger::init(ebpf).map_err(|_| LoadError::Map("AYA_LOGS"))?,
            rare: Ring::of(ebpf, "RARE")?,
            bulk: Ring::of(ebpf, "EVENTS")?,
        })
    }

    /// Waits until a program wakes us because a ring fills up, or until the time is over.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut polled = [&self.rare, &self.bulk].map(|ring| libc::pollfd {
            fd: ring.map.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: the array lives through the call and its length is passed with it.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
        if ready >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
    }

    /// Hands over the records that are there, but at most `limit`; returns how many.
    ///
    /// # Errors
    ///
    /// If the kernel doesn't show what comes next (mmap(2)).
    pub fn drain(&mut self, limit: u64, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
        #[cfg(feature = "kernel-log")]
        self.log.flush();
        let mut drained = 0;
        // The rare ring is asked each time, so that news of a cgroup overtake a long backlog of its events.
        while drained < limit && (self.rare.next(&mut take)? || self.bulk.next(&mut take)?) {
            drained += 1;
        }
        Ok(drained)
    }
}

/// Bytes of a ring that are shown at a time, at least one page.
const WINDOW: usize = 256 << 10;
/// In front of each record: its length and two flags, then what only the kernel reads (`bpf_ringbuf_hdr`).
const HEAD: usize = 8;
/// The record is not written yet (`BPF_RINGBUF_BUSY_BIT`, include/uapi/linux/bpf.h).
const BUSY: u32 = 1 << 31;
/// It never will be (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARDED: u32 = 1 << 30;

struct Ring {
    map: OwnedFd,
    /// The page with the reader's position, then that with the writers'.
    positions: Mapping,
    window: Mapping,
    /// Where in the data the window is.
    window_at: usize,
    page: usize,
    /// Bytes of the ring less one: all bits of a position that tell a place in the data.
    mask: usize,
    /// The reader's position, which nobody else moves.
    at: usize,
    /// The writers', when it was last asked for.
    end: usize,
}

impl Ring {
    fn of(ebpf: &Ebpf, name: &'static str) -> Result<Self, LoadError> {
        let Map::RingBuf(data) = ebpf.map(name).ok_or(LoadError::Map(name))? else {
            return Err(LoadError::Map(name));
        };
        let size = data.info()?.max_entries() as usize;
        Self::map(data.fd().as_fd(), size).map_err(LoadError::Mmap)
    }

    fn map(map: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let page = page_size() as usize;
        let positions = Mapping::empty(2 * page)?;
        positions.show(0, map, 0, page, Access::Write)?;
        positions.show(page, map, page, page, Access::Read)?;
        // It begins with a page, and what begins at the end of that page has to be in it, too.
        let window = Mapping::empty(WINDOW.max(page).min(size) + page)?;
        let map = map.try_clone_to_owned()?;
        let mut ring = Self { map, positions, window, window_at: 0, page, mask: size - 1, at: 0, end: 0 };
        ring.at = ring.readers().load(Ordering::Acquire);
        ring.end = ring.at;
        ring.look_at(ring.at & ring.mask)?;
        Ok(ring)
    }

    /// Hands over the next record, if there is one.
    fn next(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        loop {
            if self.at == self.end {
                self.end = self.writers().load(Ordering::Acquire);
                if self.at == self.end {
                    return Ok(false);
                }
            }
            // SAFETY: a head is shared memory, in which the kernel changes nothing but its flags, and those as a whole;
            // it is aligned, as all positions are multiples of 8.
            let head = unsafe { AtomicU32::from_ptr(self.shown(self.at, HEAD)?.as_ptr().cast_mut().cast()) };
            let head = head.load(Ordering::Acquire);
            if head & BUSY != 0 {
                return Ok(false);
            }
            let length = (head & !DISCARDED) as usize;
            let is_there = head & DISCARDED == 0;
            if is_there {
                take(self.shown(self.at.wrapping_add(HEAD), length)?);
            }
            self.at = self.at.wrapping_add((HEAD + length).next_multiple_of(HEAD));
            // From now on the kernel may write there.
            self.readers().store(self.at, Ordering::Release);
            if is_there {
                return Ok(true);
            }
        }
    }

    /// The bytes at a position, between the reader's and the writers'.
    fn shown(&mut self, position: usize, length: usize) -> io::Result<&[u8]> {
        let mut place = (position & self.mask).wrapping_sub(self.window_at);
        // Before the window is far behind it.
        if place.saturating_add(length) > self.window.length() {
            self.look_at(position & self.mask)?;
            place = (position & self.mask) - self.window_at;
            if place + length > self.window.length() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a record of {length} bytes"),
                ));
            }
        }
        // SAFETY: the window shows these bytes, and nobody moves it while they are borrowed. Programs have written them
        // before we saw the position behind them, and don't write there again before we have moved ours.
        Ok(unsafe { slice::from_raw_parts(self.window.base().as_ptr().add(place), length) })
    }

    /// Moves the window to a place in the data.
    #[cold]
    fn look_at(&mut self, place: usize) -> io::Result<()> {
        self.window_at = place & !(self.page - 1);
        let data = 2 * self.page;
        self.window.show(0, self.map.as_fd(), data + self.window_at, self.window.length(), Access::Read)
    }

    fn readers(&self) -> &AtomicUsize {
        // SAFETY: the kernel's word at the beginning of the first page, which lives as long as the mapping.
        unsafe { self.positions.base().cast().as_ref() }
    }

    fn writers(&self) -> &AtomicUsize {
        // SAFETY: the same of the second page.
        unsafe { self.positions.base().add(self.page).cast().as_ref() }
    }
}
