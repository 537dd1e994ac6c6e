//! The kernel programs, as the kernel accounts for them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{KernelStats, Page};
use crate::{
    kernel::Attached,
    sensor::{Hook, SENSORS},
};

/// All programs that run.
pub struct Programs {
    attached: Vec<Attached>,
    /// The most that was told of a hook's missed runs: a counter may not fall.
    missed: Mutex<BTreeMap<&'static str, u64>>,
}

impl Programs {
    pub fn new(attached: Vec<Attached>) -> Self {
        Self { attached, missed: Mutex::default() }
    }

    pub(super) fn expose(&self, page: &mut Page, kernel: &KernelStats) {
        let stats: Vec<_> = self.attached.iter().map(|attached| (attached, attached.stats())).collect();
        page.own_counter(
            "podwitness_program_runs",
            "Runs of a kernel program; 0 unless kernel.bpf_stats_enabled is set",
            &["program"],
            stats.iter().map(|(attached, stats)| ([attached.program], stats.runs)),
        );
        page.own_seconds(
            "podwitness_program_run_time",
            "Time spent in a kernel program; 0 unless kernel.bpf_stats_enabled is set",
            &["program"],
            stats.iter().map(|(attached, stats)| ([attached.program], stats.run_time_ns as f64 / 1e9)),
        );
        page.own_counter(
            "podwitness_program_recursion_misses",
            "Runs that the kernel refused because the program was interrupted on the same CPU",
            &["program"],
            stats.iter().map(|(attached, stats)| ([attached.program], stats.recursion_misses)),
        );
        let firsts = stats.iter().filter(|(attached, _)| !attached.hook.is_second());
        page.own_counter(
            "podwitness_program_missed_runs",
            "Refused runs that no second program on the hook made up for: what happened then is in no count",
            &["program"],
            firsts.map(|(attached, stats)| {
                ([attached.program], self.missed(attached.hook, stats.recursion_misses, kernel))
            }),
        );
    }

    /// What a second program on the hook has left of the first one's `refused` runs.
    fn missed(&self, hook: &Hook, refused: u64, kernel: &KernelStats) -> u64 {
        let with_second = SENSORS
            .iter()
            .find(|sensor| sensor.hooks.iter().any(|other| other.is_second() && other.name == hook.name));
        let Some(sensor) = with_second else { return refused };
        // A refusal is counted before it is made up for, and was read before: the difference is never too large,
        // only too small by what is under way.
        let missed = refused.saturating_sub(kernel.of(sensor.id).nested);
        let mut told = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let most = told.entry(hook.name).or_default();
        *most = missed.max(*most);
        *most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::reference::sections, sensor::Circumstances};

    /// The most that any kernel takes.
    #[test]
    fn the_reference_tells_how_many_programs_there_are() {
        let circumstances = Circumstances {
            timed: true,
            regs_tell: true,
            is_typed: true,
            oom_lock_tells: true,
            has_submit_req: true,
            submit_sqe_passes: false,
        };
        let hooks = SENSORS.iter().flat_map(|sensor| sensor.hooks);
        let needed = hooks.filter(|hook| (hook.is_needed)(circumstances));
        let programs: BTreeMap<_, _> = needed.map(|hook| (hook.program, hook.is_second())).collect();
        let all = programs.len();
        let firsts = programs.values().filter(|is_second| !*is_second).count();
        for (name, count) in [
            ("podwitness_program_runs_total", all),
            ("podwitness_program_run_time_seconds_total", all),
            ("podwitness_program_recursion_misses_total", all),
            ("podwitness_program_missed_runs_total", firsts),
        ] {
            let metric = sections().flat_map(|section| section.metrics).find(|metric| metric.name == name);
            let bound = metric.map(|metric| metric.bound.trim_end_matches(" programs"));
            assert_eq!(bound, Some(&*count.to_string()), "{name}");
        }
    }
}
