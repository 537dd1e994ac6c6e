//! Waiting for conditions.

use std::{
    panic::resume_unwind,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What anything may take that is not slow by nature, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(20);

/// How many times slower than usual this machine is: 1, unless `PODWITNESS_TEST_SCALE` says so of an emulated one.
pub fn scale() -> u32 {
    static SCALE: LazyLock<u32> = LazyLock::new(|| {
        let text = std::env::var("PODWITNESS_TEST_SCALE").unwrap_or_else(|_| "1".into());
        text.parse().ok().filter(|scale| *scale > 0).expect("PODWITNESS_TEST_SCALE is a number from 1")
    });
    *SCALE
}

/// What may take `duration` on a usual machine.
pub fn scaled(duration: Duration) -> Duration {
    duration * scale()
}

/// So much of what is to be done `count` times on a usual machine.
pub fn fewer(count: u64) -> u64 {
    count / u64::from(scale())
}

/// Waits until `condition` holds; panics with `what` when it has not after `deadline`.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(deadline, what, || condition().then_some(()));
}

/// Waits until `look` finds something; panics with `what` when it has not after `deadline`.
#[track_caller]
pub fn wait_for<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    let deadline = scaled(deadline);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        thread::sleep(INTERVAL);
    }
}

/// Does what may block, and panics with `what` when that isn't over after `deadline`.
#[track_caller]
pub fn within<T: Send + 'static>(
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let worker = thread::spawn(work);
    wait_until(deadline, what, || worker.is_finished());
    worker.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// A suffix for names that no other test and no other run on this machine uses.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
