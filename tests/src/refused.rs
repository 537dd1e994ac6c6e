//! Runs that the kernel refuses: a program that is interrupted does not run a second time on that CPU meanwhile.
//! Softirqs are provided for. Since 7.0 tasks interrupt each other, too: what no program has seen is exported as a
//! count, but whose it was nobody can know. On an emulated machine of that kind it is the rule. And some hooks are
//! offered to no program at all ([`unoffered`]).

use std::{
    fs,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{http, kernel, unoffered};

pub(crate) const COUNT: &str = "podwitness_program_missed_runs_total";
const ATTEMPTS: u32 = 3;

/// Whether tasks preempt each other inside of typed and raw tracepoints, so that only classic ones miss nothing.
pub fn is_the_rule() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's version");
    let major = release.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.expect("a version") >= 7
}

/// What the agent of a failed test had counted.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Runs a proof of exact numbers, and once more if runs were missed meanwhile or not offered. If it happens each
/// time, the proof has failed; on an emulated machine, where it may be the rule, it is said not to have run.
pub fn exactly(proof: impl Fn()) {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        REFUSED.store(0, Ordering::Relaxed);
        let watch = unoffered::Watch::begin();
        let Err(panic) = catch_unwind(AssertUnwindSafe(&proof)) else { return };
        let refused = REFUSED.load(Ordering::Relaxed);
        let unoffered = watch.map_or(0, |watch| watch.count());
        if refused == 0 && unoffered == 0 {
            resume_unwind(panic);
        }
        eprintln!(
            "{refused} runs of interrupted programs were missed and {unoffered} hooks of sockets were on top of init, \
             so no number can be exact"
        );
        last = Some(panic);
    }
    match last {
        Some(panic) if !kernel::is_vm() => resume_unwind(panic),
        _ => eprintln!("not run: missed runs in each of {ATTEMPTS} attempts"),
    }
}

/// Notes the count of an agent whose test is failing.
pub(crate) fn note(metrics: SocketAddr) {
    let text = http::get(metrics, "/metrics").map(|response| response.body).unwrap_or_default();
    let counts =
        text.lines().filter(|line| line.starts_with(COUNT)).filter_map(|line| line.rsplit(' ').next());
    REFUSED.store(counts.filter_map(|count| count.parse::<u64>().ok()).sum(), Ordering::Relaxed);
}
