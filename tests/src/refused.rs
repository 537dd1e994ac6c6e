//! Runs that the kernel refuses: a program that is interrupted, by a softirq or since 7.0 by another task, does not
//! run a second time on that CPU meanwhile. The kernel counts these runs and the agent exports the count, but whose
//! they would have been nobody can know. On an emulated machine they are the rule.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{http, kernel};

const COUNT: &str = "podwitness_program_recursion_misses_total{";
const ATTEMPTS: u32 = 3;

/// What the agent of a failed test had counted.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Runs a proof of exact numbers, and once more if the kernel refused runs meanwhile: a known defect, by which
/// about one TCP run of 1,000 connections in ten lacks an accept or more on 6.18. If it happens each time, the
/// proof has failed; on an emulated machine, where it is the rule, it is said not to have run.
pub fn exactly(proof: impl Fn()) {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        REFUSED.store(0, Ordering::Relaxed);
        let Err(panic) = catch_unwind(AssertUnwindSafe(&proof)) else { return };
        let refused = REFUSED.load(Ordering::Relaxed);
        if refused == 0 {
            resume_unwind(panic);
        }
        eprintln!("the kernel refused {refused} runs of interrupted programs, so no number can be exact");
        last = Some(panic);
    }
    match last {
        Some(panic) if !kernel::is_vm() => resume_unwind(panic),
        _ => eprintln!("not run: refused runs in each of {ATTEMPTS} attempts"),
    }
}

/// Notes the count of an agent whose test is failing.
pub(crate) fn note(metrics: SocketAddr) {
    let text = http::get(metrics, "/metrics").map(|response| response.body).unwrap_or_default();
    let counts =
        text.lines().filter(|line| line.starts_with(COUNT)).filter_map(|line| line.rsplit(' ').next());
    REFUSED.store(counts.filter_map(|count| count.parse::<u64>().ok()).sum(), Ordering::Relaxed);
}
