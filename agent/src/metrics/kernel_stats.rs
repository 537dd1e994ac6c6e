//! What became of events inside of the kernel.

use std::mem::offset_of;

use agent_ebpf::contract::stats::{SENSORS_MAX, SensorId, SensorStats};

use crate::kernel::Table;

/// The counters of all sensors, over all CPUs.
pub struct KernelStats(Table<SensorStats>);

/// One sensor's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub seen: u64,
    pub filtered: u64,
    pub throttled: u64,
    pub lost: u64,
    pub untracked: u64,
    pub nested: u64,
}

impl KernelStats {
    pub fn new(table: Table<SensorStats>) -> Self {
        Self(table)
    }

    pub fn of(&self, sensor: SensorId) -> Outcome {
        let sum = |at: usize| {
            (0..self.0.entries() / SENSORS_MAX)
                .map(|cpu| self.0.load(cpu * SENSORS_MAX + sensor as u32, at / 8))
                .sum::<u64>()
        };
        Outcome {
            seen: sum(offset_of!(SensorStats, seen)),
            filtered: sum(offset_of!(SensorStats, filtered)),
            throttled: sum(offset_of!(SensorStats, throttled)),
            lost: sum(offset_of!(SensorStats, lost)),
            untracked: sum(offset_of!(SensorStats, untracked)),
            nested: sum(offset_of!(SensorStats, nested)),
        }
    }
}
