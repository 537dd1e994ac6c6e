//! io_uring: rings and submitted requests, read out of the kernel half's table.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use agent_ebpf::contract::{
    io_uring::{OPCODES, RequestBank},
    stats::SensorId,
};

use super::{Classic, Hook, Sensor};
use crate::{
    kernel::Table,
    metrics::{Base, Page},
};

pub const SENSOR: Sensor = Sensor {
    id: SensorId::IoUring,
    hooks: &[
        Hook {
            classic: Some(Classic {
                category: "io_uring",
                name: "io_uring:io_uring_create",
                program: "io_uring_create_classic",
            }),
            ..Hook::required("io_uring_create", &[])
        },
        Hook {
            classic: Some(Classic {
                category: "io_uring",
                name: "io_uring:io_uring_submit_req",
                program: "io_uring_submit_req_classic",
            }),
            is_needed: |circumstances| !circumstances.submit_sqe_passes,
            ..submissions("io_uring_submit_req", &[Some("io_kiocb")])
        },
        // The same under its earlier name, with whatever it passes.
        Hook {
            is_needed: |circumstances| !circumstances.has_submit_req,
            ..submissions("io_uring_submit_sqe", &[])
        },
    ],
};

const fn submissions(name: &'static str, arguments: &'static [Option<&'static str>]) -> Hook {
    Hook { required: false, lacking: "submissions aren't counted", ..Hook::required(name, arguments) }
}

/// io_uring of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    rings: u64,
    /// Requests by opcode.
    submitted: [u64; OPCODES],
}

impl Default for Counters {
    fn default() -> Self {
        Self { rings: 0, submitted: [0; OPCODES] }
    }
}

impl Counters {
    pub fn add(&mut self, other: &Self) {
        let Self { rings, submitted } = other;
        self.rings += rings;
        for (sum, count) in self.submitted.iter_mut().zip(submitted) {
            *sum += count;
        }
    }

    /// Everything that was seen, rings and requests alike.
    pub fn total(&self) -> u64 {
        self.rings + self.submitted.iter().sum::<u64>()
    }
}

/// Where the programs count.
pub struct Tables {
    pub requests: Table<RequestBank>,
    pub cpus: u32,
    pub slots: u32,
}

impl Tables {
    /// Adds what the programs have counted for a slot.
    pub fn read(&self, slot: u32, into: &mut Counters) {
        const SUBMITTED: usize = offset_of!(RequestBank, submitted) / 8;
        const RINGS: usize = offset_of!(RequestBank, rings) / 8;
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        for cpu in 0..self.cpus {
            let bank = self.requests.words(cpu * self.slots + slot);
            for (sum, word) in into.submitted.iter_mut().zip(bank.iter().skip(SUBMITTED)) {
                *sum += load(word);
            }
            into.rings += bank.get(RINGS).map_or(0, load);
        }
    }

    /// Zeroes what was counted for a slot that no program uses any more; false if a part of it can't be reached.
    pub fn clear(&self, slot: u32) -> bool {
        (0..self.cpus).all(|cpu| self.requests.clear(cpu * self.slots + slot))
    }
}

/// What this kernel calls the kinds of requests, by number.
#[derive(Clone, Debug)]
pub struct Opcodes([String; OPCODES]);

impl Opcodes {
    /// From the kernel's enumerators, without what all of them begin with.
    pub fn new<'a>(enumerators: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut names = std::array::from_fn(|number| format!("unknown_{number}"));
        for (name, number) in enumerators {
            let cell = usize::try_from(number).ok().and_then(|number| names.get_mut(number));
            // How many there are is no name.
            if let Some(cell) = cell.filter(|_| name != "LAST") {
                *cell = name.to_ascii_lowercase();
            }
        }
        names[OPCODES - 1] = "other".into();
        Self(names)
    }
}

/// Writes what the sensor measures.
pub fn expose(page: &mut Page, rows: &[(Base, &Counters)], opcodes: &Opcodes) {
    page.counter(
        "podwitness_io_uring_rings",
        "Rings that were made",
        &[],
        rows.iter()
            .filter(|(_, counters)| counters.rings > 0)
            .map(|(labels, counters)| (*labels, [], counters.rings)),
    );
    page.counter(
        "podwitness_io_uring_submissions",
        "Requests that the kernel has taken from rings",
        &["opcode"],
        rows.iter().flat_map(|(labels, counters)| {
            let counts = opcodes.0.iter().zip(counters.submitted).filter(|(_, count)| *count > 0);
            counts.map(|(name, count)| (*labels, [name.as_str()], count))
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up() {
        let mut one = Counters { rings: 2, ..Counters::default() };
        one.submitted[0] = 3;
        one.submitted[OPCODES - 1] = 1;
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.rings, sum.submitted[0], sum.submitted[OPCODES - 1], sum.total()), (4, 6, 2, 12));
    }

    #[test]
    fn opcodes_go_by_the_names_that_the_kernel_has_for_them() {
        let kernel =
            [("NOP", 0), ("READV", 1), ("LAST", 2), ("FAR", 126), ("FARTHER", 300), ("NEGATIVE", -1)];
        let Opcodes(names) = Opcodes::new(kernel);
        assert_eq!(names[..3], ["nop", "readv", "unknown_2"]);
        assert_eq!(names[OPCODES - 1], "other");
        assert!(!names.iter().any(|name| name.contains("far") || name == "negative"));
    }
}
