//! The tables of the `syscalls` sensor: plain per-CPU banks that user space maps and reads.

/// System call numbers that are told apart; the last three stand for others ([`OTHER`], [`COMPAT`], [`X32`]). A
/// power of two.
pub const NUMBERS: usize = 512;

/// Stands for all numbers beyond the table.
pub const OTHER: u32 = NUMBERS as u32 - 1;
/// Stands for the calls of the 32-bit ABI (i386, arm), whose numbers mean something else.
pub const COMPAT: u32 = NUMBERS as u32 - 2;
/// Stands for the calls of the x32 ABI.
pub const X32: u32 = NUMBERS as u32 - 3;
/// The bit by which x32 tells its calls from native ones (`__X32_SYSCALL_BIT`, arch/x86/include/uapi/asm/unistd.h).
pub const X32_BIT: u64 = 0x4000_0000;

/// How system calls are measured.
#[repr(u64)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Counted when they return; no durations.
    Counts = 0,
    /// Counted; every call that slept or took two ticks is timed, of the others one of [`SAMPLED`].
    #[default]
    Default = 1,
    /// Every call is counted and timed.
    Full = 2,
}

/// One of how many calls reads the clock in [`Mode::Default`], on average; a power of two, at most 32.
pub const SAMPLED: u64 = 16;

/// Ticks of the kernel's clock after which a call is slow. One may pass during the shortest call.
pub const SLOW_TICKS: u64 = 2;

/// Calls until the next one that reads the clock, from 1 to `2 * SAMPLED - 1` and `SAMPLED` on average. The step
/// comes from the clock itself, so that no rhythm of the calls can hide between the samples. It is mixed twice: multiplied
/// once, times that lie evenly give steps that lie evenly, each step makes the next time, and calls of equal length would
/// be caught in a few steps whose average is another one.
#[inline(always)]
pub fn gap(ns: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = ns.wrapping_mul(ODD);
    let random = (mixed ^ mixed >> 32).wrapping_mul(ODD) >> 32 & (2 * SAMPLED - 1);
    if random == 0 { SAMPLED } else { random }
}

/// Nanoseconds that a call has taken, of which only the ticks since its entry were counted, each of `tick_ns`. Ticks can
/// come late and many at once, as on a virtual machine whose host held up the CPU that counts them; but the call did
/// not begin before the precise clock was last read on its CPU, `since_read_ns` ago.
#[inline(always)]
pub fn by_ticks(passed: u64, tick_ns: u64, since_read_ns: u64) -> u64 {
    passed.wrapping_mul(tick_ns).min(since_read_ns)
}

/// What a CPU remembers between the hooks of one task: a cache line that nobody else touches.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Tick (`jiffies`) at the entry of the call that the running task is inside of, or `CLOCK_MONOTONIC` ns where all calls
    /// of the node are timed; 0 if it is in none that was seen.
    pub entered: u64,
    /// `CLOCK_MONOTONIC` ns when the clock was last read on this CPU: at that entry, where `weight` isn't 0.
    pub clock_ns: u64,
    /// Number of the call.
    pub number: u64,
    /// How many calls this one stands for in the histogram, if it is a fast one; 0 where the clock wasn't read at its
    /// entry.
    pub weight: u64,
    /// Calls until the next one that reads the clock.
    pub until_sampled: u64,
    /// Where the registers of the task that has `place` are kept, as far as the switch of tasks doesn't tell.
    pub regs: u64,
    /// [`Control::generation`](super::control::Control) under which `place` was found; 0 if it wasn't.
    pub generation: u64,
    /// The slot, and its bank among all of all CPUs above it ([`placed`]).
    pub place: u64,
}

/// A slot, and its bank on this CPU: what a cell remembers of both.
#[inline(always)]
pub fn placed(slot: u32, bank: u32) -> u64 {
    u64::from(bank) << 32 | u64::from(slot)
}

const _: () = assert!(size_of::<Cell>() == 64);

/// Classes of system calls in the latency histogram; a power of two.
pub const CLASSES: usize = 16;

/// Upper bounds of the histogram's buckets are powers of two of a second, from this one, 477 ns, …
pub const FIRST_POWER: i32 = -21;
/// … to this one, 8 s; beyond lies +Inf.
pub const LAST_POWER: i32 = 3;

/// These bounds in nanoseconds, each inclusive. Durations are whole nanoseconds, so to round down takes none across.
pub const BOUNDS_NS: [u64; (LAST_POWER - FIRST_POWER) as usize + 1] = {
    const SECOND: u64 = 1_000_000_000;
    let mut bounds = [0; (LAST_POWER - FIRST_POWER) as usize + 1];
    let mut i = 0;
    while i < bounds.len() {
        let power = FIRST_POWER + i as i32;
        bounds[i] = if power < 0 { SECOND >> -power } else { SECOND << power };
        i += 1;
    }
    bounds
};

/// Buckets of the histogram, +Inf included.
pub const BUCKETS: usize = BOUNDS_NS.len() + 1;

/// One class of one slot on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ClassCell {
    /// Calls by duration; not cumulative.
    pub buckets: [u64; BUCKETS],
    /// Nanoseconds spent in all of them.
    pub sum_ns: u64,
    /// How many of the calls above were not timed themselves: others stand for them.
    pub estimated: u64,
}

/// All counters of one slot on one CPU. Only the programs on that CPU write to it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Bank {
    /// Calls by number.
    pub calls: [u64; NUMBERS],
    /// Durations by class.
    pub classes: [ClassCell; CLASSES],
    /// Failed calls whose errno found no room in the error table: counted, their errno forgotten.
    pub errors_folded: u64,
    /// Calls without a duration although they should have one: they began before the agent, or their start found
    /// no room.
    pub untimed: u64,
}

/// Entries that an errno may lie in; the width of one bucket of the error table.
pub const ERROR_WAYS: usize = 8;

/// Errors of {slot, number, errno} on one CPU: a set-associative table, written by that CPU only.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorBucket {
    /// [`error_key`], or 0 where the entry is free.
    pub keys: [u64; ERROR_WAYS],
    pub counts: [u64; ERROR_WAYS],
}

/// Buckets of the error table per CPU; a power of two.
pub const ERROR_BUCKETS: u32 = 1024;

/// Largest errno that a system call returns (`MAX_ERRNO`, include/linux/err.h).
pub const ERRNO_MAX: u32 = 4095;

/// What an entry of the error table is found by; never 0.
#[inline(always)]
pub fn error_key(slot: u32, number: u32, errno: u32) -> u64 {
    (slot as u64) << 32 | (number as u64 & 0xffff) << 16 | (errno as u64 & 0xffff)
}

/// Slot, number and errno of a key.
pub fn error_parts(key: u64) -> (u32, u32, u32) {
    ((key >> 32) as u32, (key >> 16) as u32 & 0xffff, key as u32 & 0xffff)
}

/// The bucket of the error table that `key` belongs to: Fibonacci hashing, top bits.
#[inline(always)]
pub fn error_bucket(key: u64) -> u32 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as u32 & (ERROR_BUCKETS - 1)
}

/// Where a native system call of this number is counted.
#[inline(always)]
pub fn number_index(number: u64) -> u32 {
    if number < X32 as u64 {
        number as u32
    } else if number & !(NUMBERS as u64 * 2 - 1) == X32_BIT {
        // x32's own calls begin at 512.
        X32
    } else {
        OTHER
    }
}

/// The histogram bucket of a duration: the first whose bound is not below it. No loop; one or two comparisons for the
/// shortest calls, which are most, and seven for others.
#[inline(always)]
pub fn bucket(ns: u64) -> usize {
    if ns <= BOUNDS_NS[0] {
        return 0;
    }
    if ns <= BOUNDS_NS[1] {
        return 1;
    }
    let mut index = 0;
    if ns > bound(index + 15) {
        index += 16;
    }
    if ns > bound(index + 7) {
        index += 8;
    }
    if ns > bound(index + 3) {
        index += 4;
    }
    if ns > bound(index + 1) {
        index += 2;
    }
    if ns > bound(index) {
        index += 1;
    }
    index
}

#[inline(always)]
fn bound(index: usize) -> u64 {
    const PADDED: [u64; 32] = {
        let mut padded = [u64::MAX; 32];
        let mut i = 0;
        while i < BOUNDS_NS.len() {
            padded[i] = BOUNDS_NS[i];
            i += 1;
        }
        padded
    };
    PADDED[index & 31]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        assert_eq!(bucket(0), 0);
        for (i, bound) in BOUNDS_NS.into_iter().enumerate() {
            assert_eq!(bucket(bound), i);
            assert_eq!(bucket(bound + 1), i + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn bounds_are_powers_of_two_of_a_second() {
        for (bound, power) in BOUNDS_NS.into_iter().zip(FIRST_POWER..=LAST_POWER) {
            // In units of 2^-21 ns, in which all of it is whole.
            let exactly = 1_000_000_000_u64 << (power + 21);
            assert!(bound << 21 <= exactly && exactly < (bound + 1) << 21, "2^{power} s and {bound} ns");
        }
        assert_eq!((BOUNDS_NS[0], BOUNDS_NS[21], BOUNDS_NS[24]), (476, 1_000_000_000, 8_000_000_000));
    }

    #[test]
    fn ticks_that_come_late_make_no_call_slow() {
        const MS: u64 = 1_000_000;
        assert_eq!(by_ticks(5, 4 * MS, 30 * MS), 20 * MS);
        assert_eq!(by_ticks(5, 4 * MS, 3_000), 3_000, "the sampled call before it was 3 us ago");
        assert_eq!(by_ticks(0, 4 * MS, 3_000), 0);
    }

    #[test]
    fn error_keys_can_be_taken_apart() {
        let key = error_key(255, 257, 2);
        assert_eq!(error_parts(key), (255, 257, 2));
        assert_ne!(error_key(0, 0, 1), 0);
        assert!(error_bucket(key) < ERROR_BUCKETS);
    }

    #[test]
    fn numbers_beyond_the_table_share_its_last_cell() {
        assert_eq!(number_index(39), 39);
        for number in [509, 510, 511, 512, X32_BIT + 1024, u64::MAX] {
            assert_eq!(number_index(number), OTHER, "{number}");
        }
        assert_eq!((number_index(X32_BIT + 39), number_index(X32_BIT + 520)), (X32, X32));
    }

    #[test]
    fn one_of_sixteen_calls_is_sampled_on_average_and_in_no_rhythm() {
        // Calls of one length each, of which the sampled one takes a little longer: each step makes the next time.
        for length in 60..600 {
            let (mut ns, mut sum, samples) = (1_000_000_007, 0, 20_000);
            for _ in 0..samples {
                let gap = gap(ns);
                assert!((1..2 * SAMPLED).contains(&gap));
                sum += gap;
                ns += gap * length + 61;
            }
            let mean = sum as f64 / f64::from(samples);
            assert!((mean / SAMPLED as f64 - 1.0).abs() < 0.02, "calls of {length} ns: {mean}");
        }
    }
}
