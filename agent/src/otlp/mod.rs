//! Telemetry out: what was observed, as OpenTelemetry's logs, spans and metrics, to a collector.
//!
//! The reader thread puts observations into a [`Sink`]: [`Assembler`] makes spans and logs of them at once, which go
//! into bounded queues. A task for each signal takes batches out of its queue and sends them. Whatever a collector does,
//! nobody waits for it, and what is lost is counted: produced = sent + dropped + waiting.
//!
//! Without an endpoint in the configuration nothing of this exists.

mod assemble;
mod attributes;
mod encode;
mod figures;
mod ids;
mod metrics;
mod oldest;
mod queue;
mod resource;
mod sampling;
mod send;
mod settings;
mod wire;
mod worker;

use std::{fs, sync::Arc};

use tokio::{sync::watch, task::JoinSet};

pub use self::{
    assemble::{Assembler, Item, Telemetry},
    figures::{Counts, Figures, Loss, Signal, SpanFigures},
    ids::Seed,
    resource::Host,
    sampling::Decision,
    send::SendError,
    settings::{SettingsError, host, is_wanted},
};
use self::{queue::Queue, send::Sender, worker::Delivery};
use crate::{
    config::{Config, OtlpConfig},
    exemplar::Sent,
    http::Exposition,
    identity::{Container, Registry},
    kernel::boot_ns,
    observation::Observation,
    room::Table as _,
};

/// An observation, with what only spans need of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub observation: Observation,
    /// When, by the boot clock.
    pub boot_ns: u64,
    /// What to add to the boot clock to get the wall clock.
    pub offset_ns: i64,
    pub cgroup_id: u64,
    /// None where nobody knows the cgroup.
    pub container: Option<Arc<Container>>,
}

impl Seen {
    /// The wall clock's time at a time of the boot clock.
    fn wall(&self, boot_ns: u64) -> u64 {
        boot_ns.saturating_add_signed(self.offset_ns)
    }
}

/// Observations out of which is made what goes into the queues at once.
const TOGETHER: usize = 64;

/// The way in: for the one thread that sees everything in its order.
pub struct Sink {
    assembler: Assembler,
    spans: Option<Arc<Queue<Item>>>,
    logs: Option<Arc<Queue<Item>>>,
    telemetry: Telemetry,
}

impl Sink {
    /// Takes what was seen. Costs some microseconds, and never waits for the collector. Returns what of the spans that
    /// are sent is counted, too.
    pub fn put(&mut self, seen: &[Seen]) -> &[Sent] {
        let Self { assembler, spans: span_queue, logs: log_queue, telemetry } = self;
        telemetry.counted.give_room_back();
        telemetry.counted.clear();
        // Soon: all that comes of a burst would take more memory than the queues have room for.
        for seen in seen.chunks(TOGETHER) {
            let before = telemetry.counted.len();
            seen.iter().for_each(|seen| assembler.take(seen, telemetry));
            let taken = match span_queue.as_ref() {
                Some(queue) if !telemetry.spans.is_empty() => queue.push(telemetry.spans.drain(..)),
                _ => 0,
            };
            // The last ones found no room.
            let sent = telemetry.counted[before..].partition_point(|sent| sent.place < taken);
            telemetry.counted.truncate(before + sent);
            if let (Some(queue), false) = (log_queue.as_ref(), telemetry.logs.is_empty()) {
                queue.push(telemetry.logs.drain(..));
            }
            telemetry.spans.clear();
            telemetry.logs.clear();
        }
        &telemetry.counted
    }

    /// Nothing more will be seen.
    pub fn end(&mut self) {
        self.assembler.end();
    }
}

/// What runs while the agent does.
pub struct Running {
    pub figures: Arc<Figures>,
    /// The tasks, which end when they are told that the agent does.
    pub tasks: JoinSet<()>,
    /// The way that metrics will take.
    metrics: Option<Delivery>,
    /// The agent's start by the boot clock.
    began_ns: u64,
}

/// Starts what sends, if the configuration names a collector.
pub fn start(
    config: &Config,
    stopping: &watch::Receiver<bool>,
) -> Result<Option<(Sink, Running)>, SettingsError> {
    if !is_wanted(&config.otlp) {
        return Ok(None);
    }
    let figures = Arc::new(Figures::default());
    // Metrics are sent later, when the right to read somebody's key may have been given up.
    let metrics = delivery(config, Signal::Metrics, &figures, stopping)?;
    let mut tasks = JoinSet::new();
    let traces = delivery(config, Signal::Traces, &figures, stopping)?;
    let spans = queue(config, Signal::Traces, traces, &figures, &mut tasks);
    let logs = delivery(config, Signal::Logs, &figures, stopping)?;
    let logs = queue(config, Signal::Logs, logs, &figures, &mut tasks);
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let assembler = Assembler::new(
        &config.otlp,
        config.limits.containers,
        Seed::of_boot(&boot_id),
        host(config),
        Arc::clone(&figures.spans),
    );
    let sink = Sink { assembler, spans, logs, telemetry: Telemetry::default() };
    Ok(Some((sink, Running { figures, tasks, metrics, began_ns: boot_ns() })))
}

impl Running {
    /// Sends metrics from now on, too, if the configuration wants that.
    pub fn send_metrics(
        &mut self,
        config: &Config,
        exposition: Arc<dyn Exposition>,
        registry: Arc<Registry>,
        stopping: &watch::Receiver<bool>,
    ) {
        let Some(delivery) = self.metrics.take() else { return };
        let export = metrics::Export {
            exposition,
            registry,
            host: host(config),
            service: settings::own_service(&config.otlp),
            every: config.otlp.metrics_interval,
            most: config.otlp.batch,
            figures: Arc::clone(&self.figures),
            clock: metrics::clock(),
            began_ns: self.began_ns,
        };
        self.tasks.spawn(export.run(delivery, stopping.clone()));
    }
}

fn delivery(
    config: &Config,
    signal: Signal,
    figures: &Arc<Figures>,
    stopping: &watch::Receiver<bool>,
) -> Result<Option<Delivery>, SettingsError> {
    let Some(target) = settings::target(&config.otlp, signal)? else { return Ok(None) };
    tracing::debug!(signal = signal.name(), to = %target.uri, "telemetry is sent");
    let sender = Sender::new(&target).map_err(|source| SettingsError::Send { signal, source })?;
    let (figures, stopping) = (Arc::clone(figures), stopping.clone());
    Ok(Some(Delivery::new(signal, sender, &config.otlp, figures, stopping)))
}

fn queue(
    config: &Config,
    signal: Signal,
    delivery: Option<Delivery>,
    figures: &Arc<Figures>,
    tasks: &mut JoinSet<()>,
) -> Option<Arc<Queue<Item>>> {
    let delivery = delivery?;
    let OtlpConfig { queue: bound, batch, delay, .. } = config.otlp;
    let queue = Arc::new(Queue::new(signal, bound, batch, Arc::clone(figures)));
    tasks.spawn(worker::run(Arc::clone(&queue), delivery, delay));
    Some(queue)
}
