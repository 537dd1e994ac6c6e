//! One scrape: the containers' accounts, then the agent's own figures.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};

use agent_ebpf::contract::stats::SensorId;

use super::{
    Base, Detail, KernelStats, Page, Programs, Unit,
    budget::{self, Budget, Fold},
    labels::{self, Bases},
};
use crate::{
    config::Config,
    http::{Listeners, Scrapes},
    identity::{
        Labels, Registry, Renamed,
        names::kubernetes::{Kubernetes, cluster::Cluster},
        peers::Peers,
    },
    kernel::{clock_ticks, heap_in_use, page_size, windows_refused},
    ledger::{Account, Ledger, Part},
    live::Hub,
    looks::Looks,
    otlp,
    reader::{Deliveries, lock},
    sensor::{State, io_uring, oom, process, syscalls, tcp},
    watch::Watch,
};

/// Everything that has figures to show.
pub struct Agent {
    pub ledger: Arc<Mutex<Ledger>>,
    pub registry: Arc<Registry>,
    /// None where the Kubernetes API isn't asked.
    pub kubernetes: Option<Kubernetes>,
    pub hub: Arc<Hub>,
    pub kernel: Arc<KernelStats>,
    pub deliveries: Arc<Deliveries>,
    /// None where nobody reads rings.
    pub looks: Option<Arc<Looks>>,
    pub peers: Arc<Peers>,
    /// None where the cluster isn't watched.
    pub cluster: Option<Cluster>,
    pub watch: Arc<Watch>,
    pub scrapes: Arc<Scrapes>,
    pub listeners: Listeners,
    /// None where no telemetry is sent.
    pub otlp: Option<Arc<otlp::Figures>>,
    pub figures: Figures,
}

/// What is settled at start.
pub struct Figures {
    pub sensors: Vec<(SensorId, State)>,
    pub programs: Programs,
    /// Bounds by name.
    pub limits: Vec<(&'static str, f64)>,
    /// Series of containers on a page; 0 is no limit.
    pub series_limit: usize,
    /// What series are told apart by.
    pub detail: Detail,
    /// Bytes of kernel memory in all maps.
    pub kernel_bytes: u64,
    pub opcodes: io_uring::Opcodes,
    pub started: SystemTime,
    /// What this machine calls itself.
    pub node: String,
}

impl Figures {
    /// The bounds that the configuration names; `slots` is what was left of `limits.slots`.
    pub fn limits(config: &Config, slots: u32) -> Vec<(&'static str, f64)> {
        vec![
            ("debug.buffer", config.debug.buffer as f64),
            ("debug.clients", config.debug.clients as f64),
            ("debug.deaths", config.debug.deaths as f64),
            ("debug.replay", config.debug.replay as f64),
            ("events.burst", config.events.burst as f64),
            ("events.rate", config.events.rate as f64),
            ("limits.containers", config.limits.containers as f64),
            ("limits.engine_sockets", config.limits.engine_sockets as f64),
            ("limits.map_memory", config.limits.map_memory as f64),
            ("limits.peers", config.limits.peers as f64),
            ("limits.peers_per_container", config.limits.peers_per_container as f64),
            ("limits.slots", slots.into()),
            ("limits.sockets", config.limits.sockets.into()),
            ("limits.tasks", config.limits.tasks.into()),
            ("metrics.series_limit", config.metrics.series_limit as f64),
            ("otlp.batch", config.otlp.batch as f64),
            ("otlp.queue", config.otlp.queue as f64),
            ("otlp.sample_rate", config.otlp.sample_rate as f64),
            ("otlp.tracked", config.otlp.tracked as f64),
            ("ring.rare_size", config.ring.rare_size.into()),
            ("ring.size", config.ring.size.into()),
        ]
    }
}

impl Agent {
    /// The figures of this moment.
    pub(super) fn page(&self, bases: &mut Bases, budget: &mut Budget) -> Page {
        self.look();
        let accounts = self.accounts(bases, budget);
        let (mut page, budgeted) = budget.fit(accounts);
        self.expose_sensors(&mut page);
        self.figures.programs.expose(&mut page, &self.kernel);
        self.expose_kernel(&mut page);
        self.expose_identity(&mut page);
        super::peers::expose(&mut page, &self.peers, self.cluster.as_ref());
        self.expose_live(&mut page);
        super::listeners::expose(&mut page, &self.listeners);
        super::otlp::expose(&mut page, self.otlp.as_deref());
        expose_process(&mut page);
        expose_page(&mut page, bases, budgeted);
        page
    }

    /// Has what the rings hold booked, before it is told.
    pub(crate) fn look(&self) {
        if let Some(looks) = &self.looks {
            looks.wait();
        }
    }

    /// A page with the accounts on it. The ledger is locked as long as this takes.
    fn accounts(&self, bases: &mut Bases, budget: &mut Budget) -> Page {
        let mut ledger = lock(&self.ledger);
        let shown = |labels: &Arc<Labels>| labels::text(&self.figures.detail.shown(labels));
        for Renamed { from, to } in ledger.take_renamed() {
            budget.rename(&shown(&from), &shown(&to));
        }
        let rows = rows(bases, ledger.shown(Instant::now()));
        let mut page = Page::new(bases.texts(), self.figures.detail);
        // Sorted out at one go: thousands of accounts are more than a cache holds.
        let mut shown = Accounts::default();
        for (base, account) in &rows {
            let Account { syscalls, io_uring, tcp, oom, process, throttled } = &**account;
            shown.syscalls.extend(syscalls.as_deref().map(|calls| (*base, calls)));
            shown.io_uring.extend(io_uring.as_deref().map(|requests| (*base, requests)));
            shown.tcp.extend((!tcp.is_empty()).then_some((*base, tcp)));
            shown.oom.extend((!oom.is_empty()).then_some((*base, oom)));
            shown.process.extend((!process.is_empty()).then_some((*base, process)));
            shown.throttled.extend((*throttled > 0).then_some((*base, [], *throttled)));
        }
        syscalls::expose(&mut page, &shown.syscalls);
        io_uring::expose(&mut page, &shown.io_uring, &self.figures.opcodes);
        tcp::expose(&mut page, &shown.tcp);
        oom::expose(&mut page, &shown.oom);
        process::expose(&mut page, &shown.process);
        page.counter(
            "podwitness_events_throttled",
            "Events of a container that its token bucket has refused (events.rate, events.burst)",
            &[],
            shown.throttled.into_iter(),
        );
        page
    }

    fn expose_sensors(&self, page: &mut Page) {
        let (calls, requests, discarded) = {
            let ledger = lock(&self.ledger);
            (ledger.syscalls(), ledger.io_uring(), ledger.discarded())
        };
        let mut outcomes = Vec::new();
        let mut untracked = Vec::new();
        for sensor in SensorId::ALL {
            // In this order, what arrives meanwhile is missing from the sum rather than too much in it.
            let delivered = self.deliveries.delivered(sensor);
            let kernel = self.kernel.of(sensor);
            // System calls don't travel one by one, nor do requests: what the tables hold is delivered.
            let counted = |total: u64, discarded: u64| {
                let filtered = kernel.filtered + discarded;
                (total + filtered, total, filtered)
            };
            let (seen, delivered, filtered) = match sensor {
                SensorId::Syscalls => counted(calls.total(), discarded.syscalls),
                SensorId::IoUring => counted(requests.total(), discarded.io_uring),
                _ => (kernel.seen, delivered, kernel.filtered),
            };
            let name = sensor.name();
            outcomes.extend([
                ([name, "seen"], seen),
                ([name, "delivered"], delivered),
                ([name, "filtered"], filtered),
                ([name, "throttled"], kernel.throttled),
                ([name, "lost"], kernel.lost),
            ]);
            untracked.push(([name], kernel.untracked));
        }
        page.own_counter(
            "podwitness_sensor_events",
            "What a sensor has seen, and what became of it: seen = delivered + filtered + throttled + lost",
            &["sensor", "outcome"],
            outcomes,
        );
        page.own_counter(
            "podwitness_sensor_untracked",
            "Beginnings that found no room in a table, so that their end has no duration; for calls, that it isn't told; for oom, processes that the kernel killed, of which an OOM kill isn't told",
            &["sensor"],
            untracked,
        );
        let states = self.figures.sensors.iter().flat_map(|(sensor, state)| {
            State::NAMES.map(|name| ([sensor.name(), name], f64::from(u8::from(state.name() == name))))
        });
        page.own_gauge(
            "podwitness_sensor_state",
            "1 for the state that a sensor is in",
            None,
            &["sensor", "state"],
            states,
        );
        page.own_counter(
            "podwitness_syscalls_untimed",
            "System calls without a duration: begun before the agent, without room, or refused by seccomp",
            &[],
            [([], calls.untimed())],
        );
        page.own_counter(
            "podwitness_syscall_errors_folded",
            "Failed system calls whose error found no room in its table; their errno is shown as other",
            &[],
            [([], calls.errors_folded())],
        );
    }

    fn expose_kernel(&self, page: &mut Page) {
        page.own_gauge(
            "podwitness_kernel_memory",
            "Kernel memory in all maps, as the kernel accounts it",
            Some(Unit::Bytes),
            &[],
            [([], self.figures.kernel_bytes as f64)],
        );
        page.own_counter(
            "podwitness_map_windows_refused",
            "Parts of the kernel half's maps that could not be mapped when they were needed (vm.max_map_count)",
            &[],
            [([], windows_refused())],
        );
        page.own_gauge(
            "podwitness_limit",
            "Bounds in force, by their configuration key",
            None,
            &["key"],
            self.figures.limits.iter().map(|(key, value)| ([*key], *value)),
        );
        page.own_counter(
            "podwitness_ring_undecodable",
            "Records out of the rings that could not be read",
            &[],
            [([], self.deliveries.undecodable())],
        );
        page.own_counter(
            "podwitness_ring_wakeups",
            "Times that the reader looked at the rings",
            &[],
            [([], self.deliveries.wakeups())],
        );
        page.own_counter(
            "podwitness_ring_looks_late",
            "Times that somebody who asked for figures did not wait until the rings had been looked at",
            &[],
            [([], self.looks.as_deref().map_or(0, Looks::late))],
        );
    }

    fn expose_identity(&self, page: &mut Page) {
        let stats = self.registry.stats();
        page.own_counter(
            "podwitness_identity_resolutions",
            "Cgroups by how they became known: kernel_event and scan before they were asked for, late after, or never",
            &["way"],
            [
                (["kernel_event"], stats.kernel_event),
                (["scan"], stats.scan),
                (["late"], stats.late),
                (["never"], stats.never),
            ],
        );
        page.own_counter(
            "podwitness_identity_refused",
            "Cgroups turned away because limits.containers was reached",
            &[],
            [([], stats.refused)],
        );
        page.own_counter(
            "podwitness_identity_evicted",
            "Dead cgroups forgotten before their time, to make room",
            &[],
            [([], stats.evicted)],
        );
        page.own_gauge(
            "podwitness_identity_cgroups",
            "Cgroups that are remembered, by state",
            None,
            &["state"],
            [
                (["alive"], stats.alive as f64),
                (["dead"], stats.dead as f64),
                (["pending"], stats.pending as f64),
                (["given_up"], stats.given_up as f64),
                (["settling"], stats.settling as f64),
            ],
        );
        super::names::expose(page, self.registry.names(), stats.renamed);
        let kubernetes = self.kubernetes.as_ref().map(Kubernetes::stats);
        super::names::expose_kubernetes(page, &kubernetes.unwrap_or_default());
        let slots = lock(&self.ledger).slot_use();
        page.own_gauge(
            "podwitness_slots_used",
            "Container slots that are given out",
            None,
            &[],
            [([], slots.used as f64)],
        );
        page.own_counter(
            "podwitness_accounts_dropped",
            "Counters of dead containers dropped because limits.containers was reached, although their workload lives",
            &[],
            [([], lock(&self.ledger).dropped())],
        );
        page.own_gauge(
            "podwitness_excluded_cgroups",
            "Cgroups that nobody wants to observe",
            None,
            &[],
            [([], lock(&self.ledger).excluded() as f64)],
        );
        page.own_counter(
            "podwitness_slots_recycled",
            "Container slots that were taken back from the dead",
            &[],
            [([], slots.recycled)],
        );
    }

    fn expose_live(&self, page: &mut Page) {
        page.own_gauge(
            "podwitness_live_clients",
            "Readers of /v1/events",
            None,
            &[],
            [([], self.hub.clients() as f64)],
        );
        page.own_counter(
            "podwitness_live_events",
            "Events for readers of /v1/events: handed over, or lost because the reader was too slow",
            &["outcome"],
            [(["sent"], self.hub.events_sent()), (["lost"], self.hub.lost_to_slow_readers())],
        );
        page.own_gauge(
            "podwitness_live_kept",
            "What is kept for readers: events for those who come back, and deaths",
            None,
            &["what"],
            [(["events"], self.hub.replay().0 as f64), (["deaths"], self.hub.deaths_kept() as f64)],
        );
        page.own_counter(
            "podwitness_live_deaths_dropped",
            "Deaths that are not remembered: others took their room, or there is none",
            &[],
            [([], self.hub.deaths_dropped())],
        );
        page.own_counter(
            "podwitness_live_clients_refused",
            "Readers of /v1/events turned away because debug.clients was reached",
            &[],
            [([], self.hub.clients_refused())],
        );
        page.own_gauge(
            "podwitness_calls_watched",
            "System calls that readers of /v1/events have the kernel tell one by one; 0: no program does",
            None,
            &[],
            [([], self.watch.calls() as f64)],
        );
        page.own_gauge(
            "podwitness_calls_watched_cgroups",
            "Cgroups that are watched for these calls; -1: all",
            None,
            &[],
            [([], self.watch.cgroups() as f64)],
        );
        page.own_counter(
            "podwitness_scrapes",
            "Scrapes of /metrics before this one",
            &["outcome"],
            [
                (["rendered"], self.scrapes.rendered()),
                (["failed"], self.scrapes.failed()),
                (["refused"], self.scrapes.refused()),
            ],
        );
        page.own_gauge(
            "podwitness_build_info",
            "1, with the version of the agent",
            None,
            &["version"],
            [([env!("CARGO_PKG_VERSION")], 1.0)],
        );
    }
}

/// The accounts by what there is to show of them.
#[derive(Default)]
struct Accounts<'a> {
    syscalls: Vec<(Base, &'a syscalls::Counters)>,
    io_uring: Vec<(Base, &'a io_uring::Counters)>,
    tcp: Vec<(Base, &'a tcp::Counters)>,
    oom: Vec<(Base, &'a oom::Counters)>,
    process: Vec<(Base, &'a process::Counters)>,
    throttled: Vec<(Base, [&'static str; 0], u64)>,
}

/// What is shown under equal labels becomes one, and all are brought into their order.
fn rows<'a>(bases: &mut Bases, shown: Vec<(&Arc<Labels>, Part<'a>)>) -> Vec<(Base, Part<'a>)> {
    let places = bases.place(shown.iter().map(|(labels, _)| *labels));
    // Places are numbers without gaps: to count how many come before each is quicker than to compare them.
    let mut next = vec![0; bases.len() + 1];
    places.iter().for_each(|Base(place)| next[*place as usize + 1] += 1);
    (1..next.len()).for_each(|place| next[place] += next[place - 1]);
    let mut parts: Vec<_> = std::iter::repeat_with(|| None).take(shown.len()).collect();
    for (base, (_, part)) in places.into_iter().zip(shown) {
        let next = &mut next[base.0 as usize];
        parts[*next] = Some((base, part));
        *next += 1;
    }
    let mut rows: Vec<(Base, Part<'a>)> = Vec::with_capacity(parts.len());
    for (base, part) in parts.into_iter().flatten() {
        match rows.last_mut() {
            Some((last, sum)) if *last == base => sum.add(part),
            _ => rows.push((base, part)),
        }
    }
    rows
}

/// What the page itself takes.
fn expose_page(page: &mut Page, bases: &Bases, budgeted: budget::Figures) {
    page.own_gauge(
        "podwitness_exposition_memory",
        "Memory that is kept from one scrape to the next for the text of labels",
        Some(Unit::Bytes),
        &[],
        [([], bases.bytes() as f64)],
    );
    page.own_gauge(
        "podwitness_container_series",
        "Series of containers on this page, of which there are at most metrics.series_limit",
        None,
        &[],
        [([], budgeted.series as f64)],
    );
    let folded = Fold::ALL.into_iter().zip(budgeted.folded);
    page.own_gauge(
        "podwitness_series_folded",
        "Series that metrics.series_limit had no room for, by what was folded so that others count for them",
        None,
        &["detail"],
        folded.map(|(fold, series)| ([fold.name()], series as f64)),
    );
    let series = page.series() + 1;
    page.own_gauge("podwitness_exposition_series", "Series on this page", None, &[], [([], series as f64)]);
}

/// CPU and memory of the agent, under the names that every Prometheus client uses.
fn expose_process(page: &mut Page) {
    // Fields are numbered as in proc_pid_stat(5), after the name, which may hold anything.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = |number: usize| -> u64 {
        after_name.split(' ').nth(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let cpu_seconds = (field(14) + field(15)) as f64 / clock_ticks() as f64;
    page.own_seconds("process_cpu", "CPU time of the agent, user and system", &[], [([], cpu_seconds)]);
    page.own_gauge(
        "process_resident_memory",
        "Resident memory of the agent",
        Some(Unit::Bytes),
        &[],
        [([], (field(24) * page_size()) as f64)],
    );
    page.own_gauge(
        "podwitness_heap",
        "Memory that the agent has allocated and not freed, as its allocator counts it",
        Some(Unit::Bytes),
        &[],
        [([], heap_in_use() as f64)],
    );
}
