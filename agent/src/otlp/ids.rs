//! Ids of traces and spans that follow from what they stand for: a child can name its parent before the parent has
//! ended, and whoever sees the same thing twice names it the same.

/// What ids are derived from beside their subject: a hash of the machine's boot, so that no other one shares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// What an id stands for; the numbers are part of every id.
#[derive(Clone, Copy)]
enum Subject {
    Container = 1,
    Process = 2,
    Connection = 3,
}

impl Seed {
    /// The boot id that the kernel has given itself, as text of 32 hex digits and dashes; anything else is as good as
    /// none.
    pub fn of_boot(boot_id: &str) -> Self {
        let digits: String = boot_id.chars().filter(char::is_ascii_hexdigit).collect();
        let id = u128::from_str_radix(&digits, 16).unwrap_or(0);
        Self(mixed(0, &[(id >> 64) as u64, id as u64]))
    }

    /// The trace of a container's life.
    pub fn trace(self, cgroup_id: u64) -> TraceId {
        self.trace_of(Subject::Container, &[cgroup_id])
    }

    pub fn container(self, cgroup_id: u64) -> SpanId {
        self.span_of(Subject::Container, &[cgroup_id])
    }

    /// The trace of a process that is in no container.
    pub fn process_trace(self, pid: u32, since_ns: u64) -> TraceId {
        self.trace_of(Subject::Process, &[pid.into(), since_ns])
    }

    /// A process by its number and the time at which it was first seen: numbers are used again.
    pub fn process(self, pid: u32, since_ns: u64) -> SpanId {
        self.span_of(Subject::Process, &[pid.into(), since_ns])
    }

    /// A connection by its end: no two end in one namespace at one time with the same ports.
    pub fn connection(self, netns: u32, ports: [u16; 2], end_ns: u64) -> SpanId {
        let ports = u64::from(ports[0]) << 16 | u64::from(ports[1]);
        self.span_of(Subject::Connection, &[netns.into(), ports, end_ns])
    }

    fn trace_of(self, subject: Subject, words: &[u64]) -> TraceId {
        let [high, low] = [0, 1].map(|half| self.hash(subject as u64 | (half + 1) << 8, words));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        TraceId(id)
    }

    fn span_of(self, subject: Subject, words: &[u64]) -> SpanId {
        SpanId(self.hash(subject as u64, words))
    }

    /// Never 0, which stands for no id.
    fn hash(self, first: u64, words: &[u64]) -> u64 {
        mixed(mixed(self.0, &[first]), words).max(1)
    }
}

fn mixed(state: u64, words: &[u64]) -> u64 {
    words.iter().fold(state, |state, word| scatter(state ^ scatter(*word)))
}

/// One to one, and each bit of what comes out depends on all of what goes in (splitmix64's last steps, with constants
/// of its author's).
fn scatter(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

impl TraceId {
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// 56 bits that are as good as random.
    pub fn randomness(self) -> u64 {
        scatter(self.0) & ((1 << 56) - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_the_same_for_the_same_and_others_for_others() {
        let seed = Seed::of_boot("b7a1f0e2-5b1c-4c3d-9f10-0123456789ab\n");
        assert_ne!(seed, Seed(0));
        assert_eq!(seed.process(7, 1), seed.process(7, 1));
        let mut seen = HashSet::new();
        for number in 0..1000 {
            assert!(seen.insert(seed.container(number)));
            assert!(seen.insert(seed.process(number as u32, 5)));
            assert!(seen.insert(seed.process(5, number + 2000)));
            assert!(seen.insert(seed.connection(1, [number as u16, 80], 9)));
            assert!(seen.insert(Seed(1).container(number)));
        }
        assert_ne!(seed.trace(1), seed.process_trace(1, 1));
    }

    #[test]
    fn randomness_is_spread_evenly() {
        let below = (0..10_000).filter(|n| Seed(1).process(*n, 1).randomness() < 1 << 54).count();
        assert!((2300..2700).contains(&below), "{below} of 10000 in the lowest quarter");
    }
}
