//! OOM victims whose end is still to come.

use std::collections::{BTreeSet, HashMap};

use agent_ebpf::contract::{event::Header, process::ExitEvent};

/// So many are remembered, the latest of them: where a whole memory cgroup is killed (`memory.oom.group`), the last kill may
/// come before the first end.
const MOST: usize = 8192;
const SIGKILL: u32 = 9;

#[derive(Debug, Default)]
pub(super) struct Victims {
    /// When they were killed, `CLOCK_BOOTTIME` ns, by process id.
    killed: HashMap<u32, u64>,
    by_time: BTreeSet<(u64, u32)>,
}

impl Victims {
    pub(super) fn add(&mut self, victim: &Header) {
        self.remove(victim.pid);
        self.killed.insert(victim.pid, victim.time_ns);
        self.by_time.insert((victim.time_ns, victim.pid));
        if self.by_time.len() > MOST
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.killed.remove(&oldest);
        }
    }

    /// Whether a process has ended because it was killed. Who has got the id of a victim is none: its end may have been
    /// throttled, or lost.
    pub(super) fn is_end(&mut self, exit: &ExitEvent) -> bool {
        let started_ns = exit.header.time_ns.saturating_sub(exit.duration_ns);
        let killed_ns = self.remove(exit.header.pid);
        exit.wait_status & 0x7f == SIGKILL && killed_ns.is_some_and(|killed_ns| started_ns < killed_ns)
    }

    fn remove(&mut self, pid: u32) -> Option<u64> {
        let killed_ns = self.killed.remove(&pid)?;
        self.by_time.remove(&(killed_ns, pid));
        Some(killed_ns)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    fn header(pid: u32, time_ns: u64) -> Header {
        Header { pid, time_ns, ..Header::new_zeroed() }
    }

    fn exit(pid: u32, started_ns: u64, time_ns: u64, wait_status: u32) -> ExitEvent {
        let header = header(pid, time_ns);
        ExitEvent { header, duration_ns: time_ns - started_ns, wait_status, ..ExitEvent::new_zeroed() }
    }

    #[test]
    fn a_whole_cgroup_may_be_killed_before_the_first_has_ended() {
        let mut victims = Victims::default();
        (1..=4000).for_each(|pid| victims.add(&header(pid, 1000)));
        assert!((1..=4000).all(|pid| victims.is_end(&exit(pid, 10, 2000, SIGKILL))));
        assert!(!victims.is_end(&exit(1, 10, 2000, SIGKILL)), "it has ended");
        (1..=10_000).for_each(|pid| victims.add(&header(pid, 1000 + u64::from(pid))));
        assert_eq!((victims.killed.len(), victims.by_time.len()), (MOST, MOST));
        assert!(!victims.is_end(&exit(1, 10, 20_000, SIGKILL)), "the oldest are forgotten");
        assert!(victims.is_end(&exit(10_000, 10, 20_000, SIGKILL)));
    }

    #[test]
    fn who_gets_the_id_of_a_victim_is_none() {
        let mut victims = Victims::default();
        victims.add(&header(7, 1000));
        assert!(!victims.is_end(&exit(7, 1001, 2000, SIGKILL)), "it began later");
        assert!(!victims.is_end(&exit(7, 10, 2000, SIGKILL)), "the victim must be gone");
        victims.add(&header(7, 3000));
        assert!(!victims.is_end(&exit(7, 10, 4000, 0)), "it was about to end by itself");
    }
}
