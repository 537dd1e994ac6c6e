//! What `/v1/containers` and `/v1/status` tell: the same figures as the metrics, for people and for the page.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use agent_ebpf::contract::stats::SensorId;
use serde_json::{Map, Value, json};

use crate::{
    http::Insight,
    identity::{Container, Labels, Listed, MemoryController},
    kernel::heap_in_use,
    ledger::{Account, Ledger},
    metrics::Agent,
    observation::Observation,
    reader::lock,
    sensor::{io_uring, process::OOM_KILLED, syscalls},
};

/// System calls that are listed for each container: all that most programs ever make, so that one which is busy only
/// lately is among them.
const MOST_CALLS: usize = 64;

/// The cgroups that go by the same labels.
#[derive(Default)]
struct Cgroups {
    alive: Vec<Arc<Container>>,
    /// Those that are still remembered.
    dead: usize,
    latest: Latest,
}

/// Whose restarts are told: of the living the one with most, of the dead the one that died last.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
struct Latest {
    is_alive: bool,
    died: Option<Instant>,
    restart_count: Option<u32>,
}

impl Cgroups {
    fn by_labels(all: Vec<Listed>) -> HashMap<Arc<Labels>, Self> {
        let mut found: HashMap<_, Self> = HashMap::new();
        for listed in all {
            let (is_alive, died, container) = (listed.is_alive(), listed.died, listed.container);
            let restart_count = container.details().restart_count;
            let cgroups = found.entry(container.labels()).or_default();
            let latest = Latest { is_alive, died, restart_count };
            if latest > cgroups.latest {
                cgroups.latest = latest;
            }
            if is_alive {
                cgroups.alive.push(container);
            } else {
                cgroups.dead += 1;
            }
        }
        found
    }
}

impl Insight for Agent {
    fn containers(&self) -> Value {
        self.look();
        let accounts = accounts(&mut lock(&self.ledger));
        // Rates are differences: this is the time of the figures.
        let time = jiff::Timestamp::now();
        let cgroups = Cgroups::by_labels(self.registry.list());
        let mut memory = MemoryController::find(self.registry.tree());
        let mut deaths: BTreeMap<Arc<Labels>, Vec<Arc<Observation>>> = BTreeMap::new();
        for death in self.hub.deaths() {
            deaths.entry(Arc::clone(&death.labels)).or_default().push(death);
        }
        let nothing = Account::default();
        let dead =
            deaths.keys().filter(|labels| !accounts.contains_key(*labels)).map(|labels| (labels, &nothing));
        let containers: Vec<_> = accounts
            .iter()
            .chain(dead)
            .map(|(labels, account)| {
                let mut container = json!(**labels);
                let none = Cgroups::default();
                let cgroups = cgroups.get(labels).unwrap_or(&none);
                container["alive"] = (!cgroups.alive.is_empty()).into();
                container["cgroups"] = json!({ "alive": cgroups.alive.len(), "dead": cgroups.dead });
                if let Some(count) = cgroups.latest.restart_count {
                    container["restart_count"] = count.into();
                }
                let memory = memory.as_mut().and_then(|memory| {
                    memory.of(cgroups.alive.iter().map(|container| container.path.as_path()))
                });
                if let Some(memory) = memory {
                    container["memory"] = json!(memory);
                }
                container["figures"] = figures(account);
                container["calls"] = calls(account);
                container["deaths"] = json!(deaths.get(labels).map_or(&[][..], Vec::as_slice));
                container
            })
            .collect();
        json!({ "time": time, "containers": containers })
    }

    fn status(&self) -> Value {
        let sensors: Map<String, Value> = self
            .figures
            .sensors
            .iter()
            .map(|(sensor, state)| {
                let outcome = self.kernel.of(*sensor);
                let told = json!({
                    "state": state.name(),
                    "reason": state.reason(),
                    "hooks": state.hooks(),
                    "lost": outcome.lost,
                    "throttled": outcome.throttled,
                    "untracked": outcome.untracked,
                });
                (sensor.name().to_owned(), told)
            })
            .collect();
        let names = self.registry.names();
        let sources: Map<String, Value> = names
            .states()
            .into_iter()
            .map(|(source, state)| {
                let told = json!({ "state": state.name(), "failures": names.failures(source) });
                (source.name().to_owned(), told)
            })
            .collect();
        let identity = self.registry.stats();
        let delivered: u64 = SensorId::ALL.into_iter().map(|sensor| self.deliveries.delivered(sensor)).sum();
        let (kept, _) = self.hub.replay();
        json!({
            "time": jiff::Timestamp::now(),
            "version": env!("CARGO_PKG_VERSION"),
            "started": jiff::Timestamp::try_from(self.figures.started).unwrap_or_default(),
            "node": self.figures.node,
            "sensors": sensors,
            "sources": sources,
            "cgroups": { "alive": identity.alive, "dead": identity.dead, "pending": identity.pending },
            "events": { "delivered": delivered, "undecodable": self.deliveries.undecodable() },
            "live": {
                "readers": self.hub.clients(),
                "sent": self.hub.events_sent(),
                "lost": self.hub.lost_to_slow_readers(),
                "refused": self.hub.clients_refused(),
                "kept": kept,
                "deaths_dropped": self.hub.deaths_dropped(),
            },
            "memory": { "kernel_bytes": self.figures.kernel_bytes, "heap_bytes": heap_in_use() },
            "limits": self.figures.limits.iter().copied().collect::<BTreeMap<_, _>>(),
        })
    }
}

/// All accounts by their labels.
fn accounts(ledger: &mut Ledger) -> BTreeMap<Arc<Labels>, Account> {
    let mut accounts: BTreeMap<_, Account> = BTreeMap::new();
    for (labels, part) in ledger.shown(Instant::now()) {
        accounts.entry(Arc::clone(labels)).or_default().add(&part);
    }
    accounts
}

fn figures(account: &Account) -> Value {
    let calls = account.syscalls.as_deref();
    let tcp = account.tcp.totals();
    let exits: BTreeMap<_, _> = account.process.ended().collect();
    let oom_killed = exits.get(OOM_KILLED).copied().unwrap_or(0);
    json!({
        "syscalls": calls.map_or(0, syscalls::Counters::total),
        "syscall_errors": calls.map_or(0, syscalls::Counters::failed),
        "io_uring": account.io_uring.as_deref().map_or(0, io_uring::Counters::total),
        "tcp_connects": tcp.connects,
        "tcp_connect_failures": tcp.failures,
        "tcp_accepts": tcp.accepts,
        "tcp_closes": tcp.closes,
        "tcp_sent_bytes": tcp.sent_bytes,
        "tcp_received_bytes": tcp.received_bytes,
        "tcp_retransmits": tcp.retransmits,
        "tcp_rtt": { "seconds": tcp.rtt.0, "count": tcp.rtt.1 },
        "processes_started": account.process.started(),
        "process_exits": exits,
        "oom_kills": account.oom.total().max(oom_killed),
        "throttled": account.throttled,
    })
}

fn calls(account: &Account) -> Value {
    let most = account.syscalls.as_deref().map(|calls| calls.most(MOST_CALLS)).unwrap_or_default();
    most.into_iter().map(|(name, count)| (name, Value::from(count))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::identity::names::Details;

    #[test]
    fn restarts_are_those_of_the_living_else_of_the_last_that_died() {
        let begin = Instant::now();
        let listed = |count: Option<u32>, died: Option<u64>| {
            let container = Container::new(1, Path::new("/"));
            container.name(Labels::default(), Details { restart_count: count, ..Details::default() });
            Listed {
                container,
                since: begin,
                is_settling: false,
                died: died.map(|seconds| begin + Duration::from_secs(seconds)),
            }
        };
        let told = |all: &[(Option<u32>, Option<u64>)]| {
            let all = all.iter().map(|(count, died)| listed(*count, *died)).collect();
            Cgroups::by_labels(all)[&Labels::default()].latest.restart_count
        };
        // A pod of the same name was made anew.
        assert_eq!(told(&[(Some(7), Some(1)), (Some(0), None)]), Some(0));
        assert_eq!(told(&[(Some(0), None), (Some(7), Some(1))]), Some(0));
        assert_eq!(told(&[(Some(7), Some(1)), (Some(0), Some(2))]), Some(0));
        assert_eq!(told(&[(Some(7), Some(1)), (None, None)]), None);
        assert_eq!(told(&[(Some(2), None), (Some(3), None)]), Some(3));
    }
}
