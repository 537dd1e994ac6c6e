//! The reader's end of the ring buffers.
//!
//! A ring (`BPF_MAP_TYPE_RINGBUF`, kernel/bpf/ringbuf.c) is a page with the reader's position, one with the writers', and
//! the data, twice in a row, so that a record at the end goes on behind it. Positions only ever grow; in front of each
//! record is a head of 8 bytes with its length. Of the data no more is mapped than was read of late: a ring is as large as
//! the worst burst, and only the kernel has to have room for that.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    slice,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aya::{Ebpf, maps::Map};

use super::{
    bell::Bell,
    host::page_size,
    mapping::{Access, Mapping},
    object::LoadError,
};

/// Both rings; the rare one is drained first, so that a cgroup is known before what happens in it.
pub struct Rings {
    rare: Ring,
    bulk: Ring,
    bell: Arc<Bell>,
    #[cfg(feature = "kernel-log")]
    log: aya_log::EbpfLogger<&'static dyn log::Log>,
}

/// Which ring a record was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Rare,
    Bulk,
}

impl Rings {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            #[cfg(feature = "kernel-log")]
            log: aya_log::EbpfLogger::init(ebpf).map_err(|_| LoadError::Map("AYA_LOGS"))?,
            rare: Ring::of(ebpf, "RARE")?,
            bulk: Ring::of(ebpf, "EVENTS")?,
            bell: Arc::new(Bell::new().map_err(LoadError::Bell)?),
        })
    }

    /// What ends a wait from outside.
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Waits until a program wakes us because a ring fills up, somebody rings the bell, or the time is over.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut polled = [self.rare.map.as_raw_fd(), self.bulk.map.as_raw_fd(), self.bell.fd()]
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: the array lives through the call and its length is passed with it.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
        if ready >= 0 {
            let [.., bell] = polled;
            if bell.revents != 0 {
                self.bell.hear();
            }
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
    pub fn drain(&mut self, limit: u64, mut take: impl FnMut(&[u8], Source)) -> io::Result<u64> {
        #[cfg(feature = "kernel-log")]
        self.log.flush();
        let mut drained = 0;
        // The rare ring is asked each time, so that news of a cgroup overtake a long backlog of its events.
        while drained < limit
            && (self.rare.next(|bytes| take(bytes, Source::Rare))?
                || self.bulk.next(|bytes| take(bytes, Source::Bulk))?)
        {
            drained += 1;
        }
        Ok(drained)
    }

    /// Gives up the memory of what was read. Costs half a microsecond for each page that is used again; call it now and
    /// then.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub fn rest(&mut self) -> io::Result<()> {
        self.rare.rest()?;
        self.bulk.rest()
    }
}

/// In front of each record: its length and two flags, then what only the kernel reads (`bpf_ringbuf_hdr`).
const HEAD: usize = 8;
/// The record is not written yet (`BPF_RINGBUF_BUSY_BIT`, include/uapi/linux/bpf.h).
const BUSY: u32 = 1 << 31;
/// It never will be (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARDED: u32 = 1 << 30;

struct Ring {
    map: OwnedFd,
    /// The page with the reader's position, and that with the writers'.
    reader: Mapping,
    writers: Mapping,
    data: Mapping,
    /// The part of the data that is known to be shown.
    shown: Range<usize>,
    /// Bytes of the ring less one: all bits of a position that tell a place in the data.
    mask: usize,
    /// The reader's position, which nobody else moves.
    at: usize,
    /// The writers', when it was last asked for.
    end: usize,
    /// Where the reader was when it last rested.
    rested_at: usize,
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
        let reader = Mapping::new(map, 0, page, Access::Write)?;
        let writers = Mapping::new(map, page, page, Access::Read)?;
        let data = Mapping::new(map, 2 * page, 2 * size, Access::Read)?;
        let at = position(&reader).load(Ordering::Acquire);
        let (map, mask) = (map.try_clone_to_owned()?, size - 1);
        Ok(Self { map, reader, writers, data, shown: 0..0, mask, at, end: at, rested_at: at })
    }

    /// Hands over the next record, if there is one.
    fn next(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        loop {
            if self.at == self.end {
                self.end = position(&self.writers).load(Ordering::Acquire);
                if self.at == self.end {
                    return Ok(false);
                }
            }
            // SAFETY: a head is shared memory, in which the kernel changes nothing but its flags, and those as a whole;
            // it is aligned, as all positions are multiples of 8.
            let head = unsafe { AtomicU32::from_ptr(self.bytes(self.at, HEAD)?.as_ptr().cast_mut().cast()) };
            let head = head.load(Ordering::Acquire);
            if head & BUSY != 0 {
                return Ok(false);
            }
            let length = (head & !DISCARDED) as usize;
            let is_there = head & DISCARDED == 0;
            if is_there {
                take(self.bytes(self.at.wrapping_add(HEAD), length)?);
            }
            self.at = self.at.wrapping_add((HEAD + length).next_multiple_of(HEAD));
            // From now on the kernel may write there.
            position(&self.reader).store(self.at, Ordering::Release);
            if is_there {
                return Ok(true);
            }
        }
    }

    /// The bytes at a position, between the reader's and the writers'.
    fn bytes(&mut self, position: usize, length: usize) -> io::Result<&[u8]> {
        let place = position & self.mask;
        if place < self.shown.start || place + length > self.shown.end {
            self.data.show(place, length)?;
            self.shown = self.data.around(place, length);
        }
        // SAFETY: the data are shown here, and nobody hides them while they are borrowed. Programs have written them before
        // we saw the position behind them, and don't write there again before we have moved ours.
        Ok(unsafe { slice::from_raw_parts(self.data.base().as_ptr().add(place), length) })
    }

    /// Shows nothing of the data any more, unless they are read so fast that all of it would soon be shown again.
    fn rest(&mut self) -> io::Result<()> {
        let was_read = self.at.wrapping_sub(self.rested_at);
        self.rested_at = self.at;
        if was_read <= self.mask {
            self.shown = 0..0;
            self.data.hide()?;
        }
        Ok(())
    }
}

/// A position is the first word of its page.
fn position(page: &Mapping) -> &AtomicUsize {
    // SAFETY: all of the page is shown for as long as its mapping lives; the kernel, too, takes the word as a whole.
    unsafe { page.base().cast().as_ref() }
}
