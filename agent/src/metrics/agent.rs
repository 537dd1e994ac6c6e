//! One scrape: the containers' accounts, then the agent's own figures.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};

use agent_ebpf::contract::stats::SensorId;
use prometheus_client::registry::Unit;

use super::{KernelStats, Page, Programs};
use crate::{
    config::Config,
    http::Scrapes,
    identity::{
        Registry,
        names::kubernetes::{Kubernetes, cluster::Cluster},
        peers::Peers,
    },
    kernel::{clock_ticks, heap_in_use, page_size},
    ledger::Ledger,
    live::Hub,
    reader::{Deliveries, lock},
    sensor::{State, io_uring, oom, process, syscalls, tcp},
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
    pub peers: Arc<Peers>,
    /// None where the cluster isn't watched.
    pub cluster: Option<Cluster>,
    pub scrapes: Arc<Scrapes>,
    pub figures: Figures,
}

/// What is settled at start.
pub struct Figures {
    pub sensors: Vec<(SensorId, State)>,
    pub programs: Programs,
    /// Bounds by name.
    pub limits: Vec<(&'static str, f64)>,
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
            ("ring.rare_size", config.ring.rare_size.into()),
            ("ring.size", config.ring.size.into()),
        ]
    }
}

impl Agent {
    pub(super) fn expose(&self, page: &mut Page<'_>) -> std::fmt::Result {
        self.expose_accounts(page)?;
        self.expose_sensors(page)?;
        self.figures.programs.expose(page, &self.kernel)?;
        self.expose_kernel(page)?;
        self.expose_identity(page)?;
        super::peers::expose(page, &self.peers, self.cluster.as_ref())?;
        self.expose_live(page)?;
        expose_process(page)
    }

    fn expose_accounts(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let accounts = lock(&self.ledger).accounts(Instant::now());
        let bases: Vec<([&str; 5], &crate::ledger::Account)> =
            accounts.iter().map(|(labels, account)| (labels.values(), account)).collect();
        let calls: Vec<_> =
            bases.iter().filter_map(|(base, account)| Some((base, account.syscalls.as_deref()?))).collect();
        syscalls::expose(page, &calls)?;
        let requests: Vec<_> =
            bases.iter().filter_map(|(base, account)| Some((base, account.io_uring.as_deref()?))).collect();
        io_uring::expose(page, &requests, &self.figures.opcodes)?;
        tcp::expose(page, &bases.iter().map(|(base, account)| (base, &account.tcp)).collect::<Vec<_>>())?;
        oom::expose(page, &bases.iter().map(|(base, account)| (base, &account.oom)).collect::<Vec<_>>())?;
        process::expose(
            page,
            &bases.iter().map(|(base, account)| (base, &account.process)).collect::<Vec<_>>(),
        )?;
        page.counter(
            "podwitness_events_throttled",
            "Events of a container that its token bucket has refused (events.rate, events.burst)",
            &[],
            bases
                .iter()
                .filter(|(_, account)| account.throttled > 0)
                .map(|(base, account)| (base, vec![], account.throttled)),
        )
    }

    fn expose_sensors(&self, page: &mut Page<'_>) -> std::fmt::Result {
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
            ["sensor", "outcome"],
            outcomes,
        )?;
        page.own_counter(
            "podwitness_sensor_untracked",
            "Beginnings that found no room in a table, so that their end has no duration",
            ["sensor"],
            untracked,
        )?;
        let states = self.figures.sensors.iter().flat_map(|(sensor, state)| {
            State::NAMES.map(|name| ([sensor.name(), name], f64::from(u8::from(state.name() == name))))
        });
        page.own_gauge(
            "podwitness_sensor_state",
            "1 for the state that a sensor is in",
            None,
            ["sensor", "state"],
            states,
        )?;
        page.own_counter(
            "podwitness_syscalls_untimed",
            "System calls without a duration, because they began before the agent or found no room",
            [],
            [([], calls.untimed())],
        )?;
        page.own_counter(
            "podwitness_syscall_errors_folded",
            "Failed system calls whose error found no room in its table; they show as errno=\"other\"",
            [],
            [([], calls.errors_folded())],
        )
    }

    fn expose_kernel(&self, page: &mut Page<'_>) -> std::fmt::Result {
        page.own_gauge(
            "podwitness_kernel_memory",
            "Kernel memory in all maps, as the kernel accounts it",
            Some(Unit::Bytes),
            [],
            [([], self.figures.kernel_bytes as f64)],
        )?;
        page.own_gauge(
            "podwitness_limit",
            "Bounds in force, by their configuration key",
            None,
            ["key"],
            self.figures.limits.iter().map(|(key, value)| ([*key], *value)),
        )?;
        page.own_counter(
            "podwitness_ring_undecodable",
            "Records out of the rings that could not be read",
            [],
            [([], self.deliveries.undecodable())],
        )?;
        page.own_counter(
            "podwitness_ring_wakeups",
            "Times that the reader looked at the rings",
            [],
            [([], self.deliveries.wakeups())],
        )
    }

    fn expose_identity(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let stats = self.registry.stats();
        page.own_counter(
            "podwitness_identity_resolutions",
            "Cgroups by how they became known: kernel_event and scan before they were asked for, late after, or never",
            ["way"],
            [
                (["kernel_event"], stats.kernel_event),
                (["scan"], stats.scan),
                (["late"], stats.late),
                (["never"], stats.never),
            ],
        )?;
        page.own_counter(
            "podwitness_identity_refused",
            "Cgroups turned away because limits.containers was reached",
            [],
            [([], stats.refused)],
        )?;
        page.own_counter(
            "podwitness_identity_evicted",
            "Dead cgroups forgotten before their time, to make room",
            [],
            [([], stats.evicted)],
        )?;
        page.own_gauge(
            "podwitness_identity_cgroups",
            "Cgroups that are remembered, by state",
            None,
            ["state"],
            [
                (["alive"], stats.alive as f64),
                (["dead"], stats.dead as f64),
                (["pending"], stats.pending as f64),
                (["given_up"], stats.given_up as f64),
                (["settling"], stats.settling as f64),
            ],
        )?;
        super::names::expose(page, self.registry.names(), stats.renamed)?;
        let kubernetes = self.kubernetes.as_ref().map(Kubernetes::stats);
        super::names::expose_kubernetes(page, &kubernetes.unwrap_or_default())?;
        let slots = lock(&self.ledger).slot_use();
        page.own_gauge(
            "podwitness_slots_used",
            "Container slots that are given out",
            None,
            [],
            [([], slots.used as f64)],
        )?;
        page.own_counter(
            "podwitness_accounts_dropped",
            "Counters of dead containers dropped because limits.containers was reached, although their workload lives",
            [],
            [([], lock(&self.ledger).dropped())],
        )?;
        page.own_gauge(
            "podwitness_excluded_cgroups",
            "Cgroups that nobody wants to observe",
            None,
            [],
            [([], lock(&self.ledger).excluded() as f64)],
        )?;
        page.own_counter(
            "podwitness_slots_recycled",
            "Container slots that were taken back from the dead",
            [],
            [([], slots.recycled)],
        )
    }

    fn expose_live(&self, page: &mut Page<'_>) -> std::fmt::Result {
        page.own_gauge(
            "podwitness_live_clients",
            "Readers of /v1/events",
            None,
            [],
            [([], self.hub.clients() as f64)],
        )?;
        page.own_counter(
            "podwitness_live_events",
            "Events for readers of /v1/events: handed over, or lost because the reader was too slow",
            ["outcome"],
            [(["sent"], self.hub.events_sent()), (["lost"], self.hub.lost_to_slow_readers())],
        )?;
        page.own_gauge(
            "podwitness_live_kept",
            "What is kept for readers: events for those who come back, and deaths",
            None,
            ["what"],
            [(["events"], self.hub.replay().0 as f64), (["deaths"], self.hub.deaths().len() as f64)],
        )?;
        page.own_counter(
            "podwitness_live_deaths_dropped",
            "Deaths that are not remembered any more, to make room for others",
            [],
            [([], self.hub.deaths_dropped())],
        )?;
        page.own_counter(
            "podwitness_live_clients_refused",
            "Readers of /v1/events turned away because debug.clients was reached",
            [],
            [([], self.hub.clients_refused())],
        )?;
        page.own_counter(
            "podwitness_scrapes",
            "Scrapes of /metrics before this one",
            ["outcome"],
            [
                (["rendered"], self.scrapes.rendered()),
                (["failed"], self.scrapes.failed()),
                (["refused"], self.scrapes.refused()),
            ],
        )?;
        page.own_gauge(
            "podwitness_build_info",
            "1, with the version of the agent",
            None,
            ["version"],
            [([env!("CARGO_PKG_VERSION")], 1.0)],
        )
    }
}

/// CPU and memory of the agent, under the names that every Prometheus client uses.
fn expose_process(page: &mut Page<'_>) -> std::fmt::Result {
    // Fields are numbered as in proc_pid_stat(5), after the name, which may hold anything.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = |number: usize| -> u64 {
        after_name.split(' ').nth(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let cpu_seconds = (field(14) + field(15)) as f64 / clock_ticks() as f64;
    page.own_seconds("process_cpu", "CPU time of the agent, user and system", [], [([], cpu_seconds)])?;
    page.own_gauge(
        "process_resident_memory",
        "Resident memory of the agent",
        Some(Unit::Bytes),
        [],
        [([], (field(24) * page_size()) as f64)],
    )?;
    page.own_gauge(
        "podwitness_heap",
        "Memory that the agent has allocated and not freed, as its allocator counts it",
        Some(Unit::Bytes),
        [],
        [([], heap_in_use() as f64)],
    )
}
