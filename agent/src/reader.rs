//! The thread that takes records out of the rings: decode, attribute, book, publish.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use agent_ebpf::contract::stats::SensorId;
use thiserror::Error;

use crate::{
    clock::WallClock,
    config::Config,
    identity::{Registry, Renamed},
    kernel::{Rings, Source, give_memory_back},
    ledger::{self, Ledger, Owner},
    live::{Hub, is_death},
    looks::Looks,
    metrics::KernelStats,
    observation::Observation,
    otlp::Seen,
    outlets::Outlets,
    recording::RecordError,
    sensor::{Kept, Record},
};

/// Time between two looks at who has died.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two scans for the sake of unknown cgroups.
const LATE_SCAN_INTERVAL: Duration = Duration::from_millis(100);
/// Records that wait for their cgroup to become known; one more is booked as it is.
const HELD: usize = 4096;
/// Rare events that wait for those in bulk that happened before them; if there are more, none waits.
const EARLY: usize = 8192;
/// Owners of records that are remembered meanwhile: more containers than are busy on most nodes at a time.
const OWNERS: usize = 16;
/// Records taken out in one go, between which scrapes get their turn and readers of the stream theirs.
const BATCH: u64 = 8192;

/// What the reader has done, for the metrics.
#[derive(Debug, Default)]
pub struct Deliveries {
    by_sensor: [AtomicU64; SensorId::ALL.len()],
    undecodable: AtomicU64,
    wakeups: AtomicU64,
}

impl Deliveries {
    /// Records of the sensor that were taken out of the rings.
    pub fn delivered(&self, sensor: SensorId) -> u64 {
        self.by_sensor[sensor as usize].load(Ordering::Relaxed)
    }

    /// Records that could not be read: a bug, or a kernel half of another build.
    pub fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    /// Times that the reader looked at the rings.
    pub fn wakeups(&self) -> u64 {
        self.wakeups.load(Ordering::Relaxed)
    }
}

/// Why the reader ended, or what of its work is missing.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("the reader of the rings failed")]
    Rings(#[from] io::Error),
    #[error("the recording is not whole")]
    Recording(#[from] RecordError),
}

/// Everything that the thread works with.
pub struct Reader {
    pub rings: Rings,
    pub ledger: Arc<Mutex<Ledger>>,
    pub registry: Arc<Registry>,
    pub hub: Arc<Hub>,
    pub outlets: Outlets,
    pub clock: WallClock,
    pub stats: Arc<KernelStats>,
    pub deliveries: Arc<Deliveries>,
    pub looks: Arc<Looks>,
    pub stop: Arc<AtomicBool>,
    pub poll_min: Duration,
    pub poll_max: Duration,
    pub scan_interval: Duration,
}

impl Reader {
    /// Reads until `stop`, then once more: what was sent before the programs were detached is not lost.
    pub fn run(self) -> Result<(), ReadError> {
        let looks = Arc::clone(&self.looks);
        let outcome = self.read();
        looks.close();
        outcome
    }

    fn read(mut self) -> Result<(), ReadError> {
        let mut held = VecDeque::new();
        let mut early = Early::default();
        let mut losses = SensorId::ALL.map(|sensor| (sensor, (0, 0)));
        let started = Instant::now();
        let (mut tidied, mut scanned) = (started, started);
        let mut more = false;
        loop {
            let last = self.stop.load(Ordering::Acquire);
            if !last && !more {
                self.rings.wait(self.pause(&held))?;
            }
            self.looks.begin();
            self.deliveries.wakeups.fetch_add(1, Ordering::Relaxed);
            more = self.drain(&mut held, &mut early)?;
            let now = Instant::now();
            let since_scan = now - scanned;
            let is_late = self.registry.pending() && since_scan >= LATE_SCAN_INTERVAL;
            if is_late || since_scan >= self.scan_interval {
                scanned = now;
                if let Err(error) = self.registry.scan(now) {
                    tracing::warn!(%error, "the cgroups could not be listed; new ones may stay unknown");
                }
                // What containers that are forgotten, pages of metrics and the scan itself have left.
                if !is_late {
                    self.rings.rest()?;
                    give_memory_back();
                }
            }
            self.registry.settle(now);
            self.release(&mut held, last && !more);
            self.publish_losses(&mut losses);
            if now - tidied >= TIDY_INTERVAL {
                tidied = now;
                let renamed = lock(&self.ledger).tidy(now);
                self.hub.rename(&renamed);
                early.rename(&renamed);
            }
            if !more {
                self.looks.end();
            }
            if last && !more {
                return Ok(self.outlets.end()?);
            }
        }
    }

    /// How long the next look may wait if nobody asks for one.
    fn pause(&self, held: &VecDeque<Kept>) -> Duration {
        if self.hub.has_watchers() {
            self.poll_min
        } else if !held.is_empty() || self.registry.pending() {
            self.poll_max.min(LATE_SCAN_INTERVAL)
        } else {
            self.poll_max
        }
    }

    /// Whether there may be more.
    fn drain(&mut self, held: &mut VecDeque<Kept>, early: &mut Early) -> io::Result<bool> {
        let Self { rings, ledger, registry, hub, outlets, clock, deliveries, .. } = self;
        let mut book = Book::open(ledger, hub, outlets, clock.offset_ns());
        book.seen = std::mem::take(&mut early.seen);
        let mut by_sensor = [0; SensorId::ALL.len()];
        let drained = rings.drain(BATCH, |bytes, source| match Record::decode(bytes) {
            Ok(record) => {
                if source == Source::Bulk {
                    early.bulk_ns = early.bulk_ns.max(record.header().time_ns);
                }
                by_sensor[record.sensor() as usize] += 1;
                if let Record::Cgroup(kind, event) = record {
                    ledger::learn(registry, kind, event, book.now);
                    book.owners = Owners::default();
                }
                if !book.enter(record, held.len() >= HELD) {
                    held.push_back(Kept::new(bytes));
                }
            }
            Err(error) => {
                deliveries.undecodable.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a record out of the kernel could not be read");
            }
        })?;
        for (sum, count) in deliveries.by_sensor.iter().zip(by_sensor) {
            sum.fetch_add(count, Ordering::Relaxed);
        }
        let more = drained == BATCH;
        early.seen = book.close(if more { early.bulk_ns } else { u64::MAX });
        Ok(more)
    }

    /// Books the records whose cgroup has become known meanwhile, or never will; at the end, all.
    fn release(&mut self, held: &mut VecDeque<Kept>, all: bool) {
        if held.is_empty() {
            return;
        }
        let Self { ledger, hub, outlets, clock, .. } = self;
        let mut book = Book::open(ledger, hub, outlets, clock.offset_ns());
        held.retain(|kept| kept.record().is_ok_and(|record| !book.enter(record, all)));
        book.close(u64::MAX);
    }

    fn publish_losses(&self, losses: &mut [(SensorId, (u64, u64))]) {
        for (sensor, (lost, throttled)) in losses {
            let outcome = self.stats.of(*sensor);
            self.hub.publish_loss(sensor.name(), outcome.lost - *lost, outcome.throttled - *throttled);
            (*lost, *throttled) = (outcome.lost, outcome.throttled);
        }
    }
}

impl Reader {
    /// The intervals that the configuration names.
    pub fn intervals(config: &Config) -> (Duration, Duration, Duration) {
        (config.ring.poll_min, config.ring.poll_max, config.identity.scan_interval)
    }
}

/// What a backlog has let be overtaken: the rare ring is read first, so that a cgroup is known before what happens in it, but
/// how a process ends is told after what it did.
#[derive(Default)]
struct Early {
    seen: Vec<Seen>,
    /// When the latest of the bulk that was read happened, `CLOCK_BOOTTIME` ns.
    bulk_ns: u64,
}

impl Early {
    /// Containers have got other labels.
    fn rename(&mut self, renamed: &[Renamed]) {
        for Renamed { from, to } in renamed {
            let theirs = self.seen.iter_mut().filter(|seen| seen.observation.labels == *from);
            theirs.for_each(|seen| seen.observation.labels = Arc::clone(to));
        }
    }
}

/// The ledger under lock, and what of its entries goes to the live stream and to the collector.
struct Book<'a> {
    ledger: MutexGuard<'a, Ledger>,
    /// Where the ledger is when it isn't under lock.
    shelf: &'a Mutex<Ledger>,
    hub: &'a Hub,
    outlets: &'a mut Outlets,
    owners: Owners,
    seen: Vec<Seen>,
    offset_ns: i64,
    now: Instant,
}

/// Whose the latest records were, by cgroup id: events come in runs, and the registry is asked under locks. Good for
/// one look at the rings and until the registry learns something: nobody is renamed or forgotten meanwhile.
#[derive(Default)]
struct Owners([Option<(u64, Owner)>; OWNERS]);

impl Owners {
    fn of(&mut self, cgroup_id: u64, ask: impl FnOnce() -> Owner) -> &Owner {
        let place = &mut self.0[cgroup_id as usize % OWNERS];
        // Who isn't decided upon may be in a moment.
        let is_known = place.as_ref().is_some_and(|(id, owner)| *id == cgroup_id && !owner.is_open());
        if !is_known {
            *place = None;
        }
        &place.get_or_insert_with(|| (cgroup_id, ask())).1
    }
}

impl<'a> Book<'a> {
    fn open(ledger: &'a Mutex<Ledger>, hub: &'a Hub, outlets: &'a mut Outlets, offset_ns: i64) -> Self {
        Self {
            ledger: lock(ledger),
            shelf: ledger,
            hub,
            outlets,
            owners: Owners::default(),
            seen: Vec::new(),
            offset_ns,
            now: Instant::now(),
        }
    }

    /// Whether it was entered: not if its owner may become known yet, unless there is no time or room to wait.
    fn enter(&mut self, record: Record<'_>, at_once: bool) -> bool {
        let header = record.header();
        let owner = self.owners.of(header.cgroup_id, || self.ledger.owner(header.cgroup_id, self.now));
        if owner.is_open() && !at_once {
            return false;
        }
        let Some(booked) = self.ledger.book(record, owner, self.now) else { return true };
        // Built for the stream and the collector alone, and for those who ask later who has died.
        let is_death = is_death(record.kind(), booked.exit_reason);
        if !is_death && !self.hub.wants_observations() && !self.outlets.are_open() {
            return true;
        }
        let unix_ns = i128::from(header.time_ns) + i128::from(self.offset_ns);
        let observation = Observation {
            time: jiff::Timestamp::from_nanosecond(unix_ns).unwrap_or_default(),
            kind: record.kind(),
            labels: owner.labels(),
            process: record.process(),
            detail: record.detail(booked.scope, booked.exit_reason, self.ledger.peer(record)),
        };
        self.seen.push(Seen {
            observation,
            boot_ns: header.time_ns,
            offset_ns: self.offset_ns,
            cgroup_id: header.cgroup_id,
            container: owner.container().cloned(),
        });
        true
    }

    /// Publishes in the order of the hooks what has happened until then: two rings and several CPUs come in no order. Returns
    /// what happened later, unless that is too much to wait.
    fn close(mut self, until_ns: u64) -> Vec<Seen> {
        drop(self.ledger);
        self.seen.sort_by_key(|seen| seen.boot_ns);
        let mut early = self.seen.split_off(self.seen.partition_point(|seen| seen.boot_ns <= until_ns));
        if early.len() > EARLY {
            self.seen.append(&mut early);
        }
        let sent = self.outlets.put(&self.seen);
        if !sent.is_empty() {
            let mut ledger = lock(self.shelf);
            sent.iter().for_each(|sent| ledger.exemplify(sent, self.now));
        }
        let observations: Vec<_> = self.seen.into_iter().map(|seen| Arc::new(seen.observation)).collect();
        let is_death = |of: &&Arc<Observation>| is_death(of.kind, of.detail.exit_reason());
        for death in observations.iter().filter(is_death) {
            self.hub.remember(Arc::clone(death));
        }
        self.hub.publish_all(&observations);
        early
    }
}

/// A panic of another holder leaves no half-booked account that matters more than going on.
pub fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::identity::Resolution;

    #[test]
    fn the_registry_is_asked_once_about_whom_it_has_decided() {
        let asked = Cell::new(0);
        let mut owners = Owners::default();
        let mut ask = |cgroup_id, resolution: Resolution| {
            owners.of(cgroup_id, || {
                asked.set(asked.get() + 1);
                Owner::new(resolution, true)
            });
            asked.get()
        };
        assert_eq!(ask(7, Resolution::Pending), 1);
        assert_eq!(ask(7, Resolution::Unknown), 2, "it may have been decided upon");
        assert_eq!(ask(7, Resolution::Unknown), 2);
        assert_eq!(ask(8, Resolution::Unknown), 3);
        // What shares its place takes it over.
        assert_eq!(ask(7 + OWNERS as u64, Resolution::Overflow), 4);
        assert_eq!(ask(7, Resolution::Unknown), 5);
    }
}
