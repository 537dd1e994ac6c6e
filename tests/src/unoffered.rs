//! Hooks that a kernel offers to no program: a virtual machine's may keep the init that serves its host free of
//! programs, and with it every softirq on top of one of its threads. No agent can count what happens there; ftrace
//! can.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Watches for transitions of sockets on top of init, in an ftrace instance of its own.
pub(crate) struct Watch {
    instance: PathBuf,
}

impl Watch {
    /// Fails where no tracefs is mounted.
    pub(crate) fn begin() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("podwitness-test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let watch = Self { instance: PathBuf::from("/sys/kernel/tracing/instances").join(name) };
        fs::create_dir(&watch.instance)?;
        for thread in fs::read_dir("/proc/1/task")? {
            // The kernel adds to the list what is written; it has no error for a thread that is gone.
            let list = fs::OpenOptions::new().append(true).open(watch.instance.join("set_event_pid"));
            list?.write_all(thread?.file_name().as_encoded_bytes())?;
        }
        fs::write(watch.instance.join("options/event-fork"), "1")?;
        fs::write(watch.instance.join("events/sock/inet_sock_set_state/enable"), "1")?;
        Ok(watch)
    }

    /// How many there have been.
    pub(crate) fn count(&self) -> usize {
        let trace = fs::read_to_string(self.instance.join("trace")).unwrap_or_default();
        trace.lines().filter(|line| !line.starts_with('#')).count()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.instance);
    }
}
