//! System calls: read out of the kernel half's tables, without a system call of our own.

mod class;
mod counters;

use std::{collections::BTreeMap, mem::offset_of, sync::atomic::Ordering};

use agent_ebpf::contract::{
    stats::SensorId,
    syscalls::{
        BUCKETS, Bank, CLASSES, ClassCell, ERROR_BUCKETS, ERROR_WAYS, ErrorBucket, NUMBERS, error_parts,
    },
};
pub use class::{CLASS_NAMES, classes, errno_name, name, number, numbers};
pub use counters::{Counters, expose};

use super::{Classic, Hook, Raw, Sensor, process::SCHED_PROCESS_EXIT};
use crate::kernel::Table;

pub const SENSOR: Sensor = Sensor {
    id: SensorId::Syscalls,
    // An entry that is noted must find the others in place, or its time would be left to a later call.
    hooks: &[
        // What a CPU remembers of the running task's container has to be forgotten in time.
        Hook {
            required: false,
            lacking: "each call looks its container up anew, which costs more",
            raw: Some(Raw { name: "raw_tp/cgroup_attach_task", program: "cgroup_attach_task_raw" }),
            ..Hook::required("cgroup_attach_task", &[Some("cgroup")])
        },
        Hook {
            is_needed: |circumstances| circumstances.timed,
            raw: Some(Raw { name: "raw_tp/sched_switch", program: "sched_switch_raw" }),
            ..Hook::required("sched_switch", &[None, Some("task_struct")])
        },
        Hook {
            required: false,
            lacking: "exit and exit_group are not counted",
            is_needed: |circumstances| circumstances.regs_tell || !circumstances.is_typed,
            raw: Some(Raw { name: "raw_tp/sched_process_exit", program: "sched_process_exit_raw" }),
            ..SCHED_PROCESS_EXIT
        },
        SYS_EXIT,
        Hook {
            is_needed: |circumstances| circumstances.timed || !circumstances.regs_tell,
            classic: Some(Classic {
                category: "raw_syscalls",
                name: "raw_syscalls:sys_enter",
                program: "sys_enter_classic",
            }),
            raw: Some(Raw { name: "raw_tp/sys_enter", program: "sys_enter_raw" }),
            ..Hook::required("sys_enter", &[Some("pt_regs")])
        },
    ],
};

pub(super) const SYS_EXIT: Hook = Hook {
    classic: Some(Classic {
        category: "raw_syscalls",
        name: "raw_syscalls:sys_exit",
        program: "sys_exit_classic",
    }),
    raw: Some(Raw { name: "raw_tp/sys_exit", program: "sys_exit_raw" }),
    ..Hook::required("sys_exit", &[Some("pt_regs")])
};

/// Stands for all errnos that have no name.
const UNNAMED: u32 = 0;

/// Failed calls by slot, then by number and errno.
pub type ErrorsBySlot = BTreeMap<u32, BTreeMap<(u16, u16), u64>>;

/// Where the programs count.
pub struct Tables {
    pub banks: Table<Bank>,
    pub errors: Table<ErrorBucket>,
    pub cpus: u32,
    pub slots: u32,
}

impl Tables {
    /// Adds what the programs have counted for a slot, errors excepted.
    pub fn read(&self, slot: u32, into: &mut Counters) {
        const CALLS: usize = offset_of!(Bank, calls) / 8;
        const CELLS: usize = offset_of!(Bank, classes) / 8;
        const CELL: usize = size_of::<ClassCell>() / 8;
        const SUM: usize = offset_of!(ClassCell, sum_ns) / 8;
        const ESTIMATED: usize = offset_of!(ClassCell, estimated) / 8;
        for cpu in 0..self.cpus {
            let bank = self.banks.words(cpu * self.slots + slot);
            if bank.is_empty() {
                continue;
            }
            let word = |at: usize| bank[at].load(Ordering::Relaxed);
            for number in 0..NUMBERS {
                into.calls[number] += word(CALLS + number);
            }
            for class in 0..CLASSES {
                let cell = CELLS + class * CELL;
                for bucket in 0..BUCKETS {
                    into.buckets[class][bucket] += word(cell + bucket);
                }
                into.sums_ns[class] += word(cell + SUM);
                into.estimated[class] += word(cell + ESTIMATED);
            }
            into.errors_folded += word(offset_of!(Bank, errors_folded) / 8);
            into.untimed += word(offset_of!(Bank, untimed) / 8);
        }
    }

    /// Adds up the errors of all slots. Those that have no name share one entry for each call.
    pub fn read_errors(&self) -> ErrorsBySlot {
        let mut errors = ErrorsBySlot::new();
        self.each_error(|key, count| {
            let (slot, number, errno) = error_parts(key.load(Ordering::Relaxed));
            // A seccomp filter may return any number, and thousands of them are to take no more room than they show.
            let errno = if errno_name(errno).is_some() { errno } else { UNNAMED };
            let count = count.load(Ordering::Relaxed);
            *errors.entry(slot).or_default().entry((number as u16, errno as u16)).or_default() += count;
        });
        errors
    }

    /// Zeroes what was counted for a slot that no program uses any more; false if a part of it can't be reached.
    pub fn clear(&self, slot: u32) -> bool {
        let is_clear = (0..self.cpus).all(|cpu| self.banks.clear(cpu * self.slots + slot));
        self.each_error(|key, count| {
            if error_parts(key.load(Ordering::Relaxed)).0 == slot {
                // The key goes last: a program takes a free entry and starts its count anew.
                count.store(0, Ordering::Relaxed);
                key.store(0, Ordering::Release);
            }
        });
        is_clear
    }

    fn each_error(
        &self,
        mut visit: impl FnMut(&std::sync::atomic::AtomicU64, &std::sync::atomic::AtomicU64),
    ) {
        const KEYS: usize = offset_of!(ErrorBucket, keys) / 8;
        const COUNTS: usize = offset_of!(ErrorBucket, counts) / 8;
        for index in 0..self.cpus * ERROR_BUCKETS {
            let bucket = self.errors.words(index);
            for way in 0..ERROR_WAYS {
                if let (Some(key), Some(count)) = (bucket.get(KEYS + way), bucket.get(COUNTS + way))
                    && key.load(Ordering::Acquire) != 0
                {
                    visit(key, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs::File, os::fd::AsFd as _, process};

    use agent_ebpf::contract::syscalls::error_key;

    use super::*;

    /// A table of zeros in a file, which can be mapped as the kernel's can.
    fn table<T>(name: &str, entries: u32) -> Table<T> {
        let path = env::temp_dir().join(format!("podwitness-{name}-{}", process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.set_len((entries as usize * Table::<T>::WORDS * 8) as u64).unwrap();
        Table::map(file.as_fd(), entries).unwrap()
    }

    #[test]
    fn errors_without_a_name_share_an_entry() {
        const KEYS: usize = offset_of!(ErrorBucket, keys) / 8;
        const COUNTS: usize = offset_of!(ErrorBucket, counts) / 8;
        let tables =
            Tables { banks: table("banks", 1), errors: table("errors", ERROR_BUCKETS), cpus: 1, slots: 1 };
        for (bucket, errno) in (1000..1500).chain([2]).enumerate() {
            let words = tables.errors.words(bucket as u32);
            words[KEYS].store(error_key(7, 165, errno), Ordering::Relaxed);
            words[COUNTS].store(3, Ordering::Relaxed);
        }
        let expected = BTreeMap::from([((165, 2), 3), ((165, UNNAMED as u16), 1500)]);
        assert_eq!(tables.read_errors(), BTreeMap::from([(7, expected)]));
    }
}
