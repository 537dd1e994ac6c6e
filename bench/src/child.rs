//! Other processes: how they are held, and how they end.

use std::{
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// Until a process must have ended after it was asked to.
const STOP: Duration = Duration::from_secs(10);

/// Sends a signal to a child that was not waited for yet.
pub(crate) fn signal(child: &Child, signal: i32) {
    // SAFETY: kill(2) takes two numbers; the process is our child, whose number nobody else can have meanwhile.
    unsafe { libc::kill(child.id().cast_signed(), signal) };
}

/// Asks a child with this signal to end, waits for it, and ends it by force if it takes too long.
pub(crate) fn end(child: &mut Child, with: i32) {
    signal(child, with);
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begun.elapsed() > STOP {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
