//! What user space tells the programs while they run.

/// The only cell of the `CONTROL` array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Process id of the agent in the initial pid namespace: what it does itself is filtered.
    pub self_pid: u64,
    /// Events per second that a container may send on average; 0: without limit.
    pub rate: u64,
    /// Events that a container may send at once.
    pub burst: u64,
    /// The same for what the container's system calls give rise to by themselves: slow and failed ones.
    pub calls_rate: u64,
    pub calls_burst: u64,
    /// What the agent listens on in its network namespace (inode number): who connects there is none of anybody's business.
    pub own_listeners: [Listener; 2],
    pub own_netns: u64,
    /// Counts whatever may give a task another slot: tasks that move between cgroups, threads that end, slots that
    /// change hands. A slot found under another number has to be looked up again; 0: always.
    pub generation: u64,
}

/// Where the agent listens.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    pub port: u64,
    /// See [`half`]; that of 0.0.0.0 means all of IPv4, 0 all addresses.
    pub address: u64,
}

impl Listener {
    #[inline(always)]
    pub fn has_port(&self, port: u16) -> bool {
        port != 0 && self.port == u64::from(port)
    }

    /// Whether it accepts who connects to its port at this address.
    #[inline(always)]
    pub fn accepts_at(&self, address: u64) -> bool {
        const V4: u64 = half(0);
        const FIRST: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        match self.address {
            0 => true,
            V4 => address & FIRST == V4,
            own => own == address,
        }
    }
}

/// What addresses are compared by: the last eight bytes of an IPv6 address, as they lie in memory; those of the mapped
/// address for IPv4.
#[inline(always)]
pub const fn half(v4: u32) -> u64 {
    let [a, b, c, d] = v4.to_ne_bytes();
    u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])
}

/// The token bucket of one container slot; shared by all CPUs. It counts what is missing, so that a bucket that nobody
/// has touched is full.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// Tokens that are missing, in thousandths of an event.
    pub spent: u64,
    /// `CLOCK_BOOTTIME` ns of the last refill.
    pub refilled_ns: u64,
    /// Events refused since the slot was given out.
    pub throttled: u64,
    /// The same for slow and failed calls.
    pub calls_spent: u64,
    pub calls_refilled_ns: u64,
    pub reserved: [u64; 3],
}

/// Tokens, in thousandths, that a bucket still lacks after `elapsed_ns`, at `rate` events per second.
///
/// Times past a minute count as a minute, which fills any bucket that the configuration allows.
pub fn refill(spent: u64, elapsed_ns: u64, rate: u64) -> u64 {
    const MINUTE_US: u64 = 60_000_000;
    // Microseconds by shift: 2^10 ns. The 2.4 % that this takes off the rate cost less than a division.
    let micros = (elapsed_ns >> 10).min(MINUTE_US);
    let gained = (micros * rate) / 1000;
    spent.saturating_sub(gained)
}

#[cfg(test)]
mod tests {
    use super::{Listener, half, refill};

    #[test]
    fn a_listener_accepts_at_its_own_address() {
        let at = |address| Listener { port: 9482, address };
        let (here, v6) =
            (half(u32::from_ne_bytes([127, 0, 0, 1])), u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1]));
        assert!(at(here).accepts_at(here) && !at(here).accepts_at(half(0)) && !at(here).accepts_at(v6));
        assert!(at(half(0)).accepts_at(here) && !at(half(0)).accepts_at(v6), "all of IPv4");
        assert!(at(0).accepts_at(here) && at(0).accepts_at(v6), "all addresses");
        assert!(at(0).has_port(9482) && !at(0).has_port(9481) && !Listener::default().has_port(0));
    }

    #[test]
    fn a_bucket_refills_at_its_rate_and_never_past_its_burst() {
        assert_eq!(refill(100_000, 0, 1000), 100_000);
        let after_10_ms = refill(100_000, 10_000_000, 1000);
        assert!((90_000..=90_300).contains(&after_10_ms), "{after_10_ms}");
        assert_eq!(refill(100_000, u64::MAX, u32::MAX.into()), 0);
        assert_eq!(refill(0, 1, 1000), 0);
    }
}
