//! The reader's end of the ring buffers.

use std::{io, os::fd::AsRawFd, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};

use super::object::{LoadError, take};

/// Both rings; the rare one is drained first, so that a cgroup is known before what happens in it.
pub struct Rings {
    rare: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    #[cfg(feature = "kernel-log")]
    log: aya_log::EbpfLogger<&'static dyn log::Log>,
}

impl Rings {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            #[cfg(feature = "kernel-log")]
            log: aya_log::EbpfLogger::init(ebpf).map_err(|_| LoadError::Map("AYA_LOGS"))?,
            rare: take(ebpf, "RARE")?.try_into()?,
            bulk: take(ebpf, "EVENTS")?.try_into()?,
        })
    }

    /// Waits until a program wakes us because a ring fills up, or until the time is over.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut polled = [&self.rare, &self.bulk].map(|ring| libc::pollfd {
            fd: ring.as_raw_fd(),
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
    pub fn drain(&mut self, limit: u64, mut take: impl FnMut(&[u8])) -> u64 {
        #[cfg(feature = "kernel-log")]
        self.log.flush();
        let mut drained = 0;
        while drained < limit {
            // The rare ring is asked each time, so that news of a cgroup overtake a long backlog of its events.
            match self.rare.next().or_else(|| self.bulk.next()) {
                Some(record) => take(&record),
                None => break,
            }
            drained += 1;
        }
        drained
    }
}
