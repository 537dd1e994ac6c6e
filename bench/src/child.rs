//! Other processes: how they end.

use std::{
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// Until a process must have ended after it was asked to.
const STOP: Duration = Duration::from_secs(10);

/// Asks a child with this signal to end, waits for it, and ends it by force if it takes too long.
pub(crate) fn end(child: &mut Child, signal: i32) {
    // SAFETY: kill(2) takes two numbers; the process is our child, which was not waited for yet.
    unsafe { libc::kill(child.id().cast_signed(), signal) };
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
