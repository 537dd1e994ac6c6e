//! From observations to spans and logs.
//!
//! A container's life is a span, its processes are children of that, their connections children of theirs. A parent
//! ends after its children, and OTLP knows only spans that have ended: so ids follow from what they stand for
//! ([`ids`](super::ids)), and what has begun is remembered here, within bounds.
//!
//! Durations are differences of the boot clock, so no step of the wall clock makes them negative. The wall clock's time is
//! that of the end, by the offset that held then.

mod calls;
mod connections;
mod containers;
mod processes;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use opentelemetry_proto::tonic::{
    logs::v1::{LogRecord, SeverityNumber},
    resource::v1::Resource,
    trace::v1::{Span, Status, span::SpanKind, status::StatusCode},
};

use self::{
    connections::{Connection, ConnectionKey},
    containers::{ContainerState, Ended},
    processes::ProcessState,
};
use super::{
    Seen,
    attributes::{Attributes, text},
    figures::SpanFigures,
    ids::{Seed, SpanId, TraceId},
    oldest::Oldest,
    resource::Host,
    sampling::{Decision, Sampler},
};
use crate::{
    config::OtlpConfig,
    exemplar::{Counted, Exemplar, Sent},
    observation::Detail,
};

/// Spans that were not drawn and wait a little: should their process or container be killed, they are sent.
const HELD: usize = 256;
/// Events kept of one span.
const EVENTS: usize = 32;

/// Something to send and whose it is.
#[derive(Clone, Debug)]
pub struct Item<T> {
    pub resource: Arc<Resource>,
    pub data: T,
}

/// What has come of observations.
#[derive(Debug, Default)]
pub struct Telemetry {
    pub spans: Vec<Item<Span>>,
    pub logs: Vec<Item<LogRecord>>,
    /// What of the spans is counted, too, with their places among them.
    pub counted: Vec<(usize, Sent)>,
}

/// Where in the tree of spans something belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Context {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
}

/// What is known of a span beside itself.
#[derive(Debug)]
struct Of {
    id: SpanId,
    cgroup_id: u64,
    counted: Vec<Counted>,
}

/// A span that was not drawn.
#[derive(Debug)]
struct Held {
    of: Of,
    process: Option<SpanId>,
    item: Item<Span>,
}

pub struct Assembler {
    seed: Seed,
    host: Host,
    slow_ns: u64,
    containers: Oldest<u64, ContainerState>,
    /// The last container of each place in a pod that has ended, by a hash of its labels.
    ended: Oldest<u64, Ended>,
    processes: Oldest<u32, ProcessState>,
    connections: Oldest<ConnectionKey, Connection>,
    sampler: Sampler,
    held: VecDeque<Held>,
    figures: Arc<SpanFigures>,
}

/// A span without what all of them share.
struct Draft {
    context: Context,
    name: String,
    kind: SpanKind,
    /// By the boot clock.
    start_ns: u64,
    end_ns: u64,
    attributes: Attributes,
    /// What kind of failure, and in words.
    error: Option<(String, String)>,
    /// What metrics tell of it.
    counted: Vec<Counted>,
}

impl Assembler {
    /// `containers` bounds those that are remembered (`limits.containers`).
    pub fn new(
        config: &OtlpConfig,
        containers: usize,
        seed: Seed,
        host: Host,
        figures: Arc<SpanFigures>,
    ) -> Self {
        Self {
            seed,
            host,
            slow_ns: u64::try_from(config.slow.as_nanos()).unwrap_or(u64::MAX),
            containers: Oldest::new(containers),
            ended: Oldest::new(containers),
            processes: Oldest::new(config.tracked),
            connections: Oldest::new(config.tracked),
            sampler: Sampler::new(config.sample_ratio, config.sample_rate),
            held: VecDeque::new(),
            figures,
        }
    }

    /// Takes what was seen, in the order of its time, and adds what comes of it.
    pub fn take(&mut self, seen: &Seen, out: &mut Telemetry) {
        self.meet(seen);
        match &seen.observation.detail {
            Detail::Tcp(tcp) => self.take_tcp(seen, tcp, out),
            Detail::Oom(oom) => self.take_kill(seen, oom, out),
            Detail::Exec(exec) => self.take_exec(seen, exec),
            Detail::Exit(exit) => self.take_exit(seen, exit, out),
            Detail::Cgroup(_) => self.take_cgroup(seen, out),
            Detail::Call(call) => self.take_call(seen, call, out),
        }
        let forgotten = [self.containers.evicted(), self.processes.evicted(), self.connections.evicted()];
        self.figures.forgotten.store(forgotten.iter().sum(), Relaxed);
    }

    fn resource(&mut self, cgroup_id: u64) -> Arc<Resource> {
        self.containers.get_mut(&cgroup_id).map(|state| Arc::clone(&state.resource)).unwrap_or_default()
    }

    /// Sends the span, or holds it, or leaves it out.
    fn emit(
        &mut self,
        seen: &Seen,
        mut draft: Draft,
        forced: Option<Decision>,
        process: Option<SpanId>,
        out: &mut Telemetry,
    ) {
        let (id, cgroup_id) = (draft.context.span, seen.cgroup_id);
        let counted = std::mem::take(&mut draft.counted);
        let resource = self.resource(seen.cgroup_id);
        let data = draft.into_span(seen);
        let item = Item { resource, data };
        let mut drawn = || self.sampler.draws(id, &seen.observation.labels, seen.boot_ns);
        if let Some(decision) = forced.or_else(|| drawn().then_some(Decision::Drawn)) {
            return self.send(item, Of { id, cgroup_id, counted }, decision, out);
        }
        if self.held.len() >= HELD {
            self.held.pop_front();
            self.figures.left_out.fetch_add(1, Relaxed);
        }
        self.held.push_back(Held { of: Of { id, cgroup_id, counted }, process, item });
    }

    fn send(&self, mut item: Item<Span>, of: Of, decision: Decision, out: &mut Telemetry) {
        let Of { id, cgroup_id, counted } = of;
        if !counted.is_empty()
            && let (Ok(trace_id), Ok(span_id)) =
                (item.data.trace_id.as_slice().try_into(), item.data.span_id.as_slice().try_into())
        {
            let unix_ns = item.data.end_time_unix_nano;
            let exemplar = Exemplar { trace_id, span_id, value: 1.0, unix_ns };
            out.counted.push((out.spans.len(), Sent { cgroup_id, counted, exemplar }));
        }
        item.data.trace_state = self.sampler.state(id, decision);
        let why = Attributes::default().text("podwitness.sampling.decision", decision.name());
        item.data.attributes.extend(why.into_vec());
        self.figures.decided[decision as usize].fetch_add(1, Relaxed);
        out.spans.push(item);
    }

    /// Sends what was held of those who have to do with a death.
    fn send_held(&mut self, is_meant: impl Fn(u64, Option<SpanId>) -> bool, out: &mut Telemetry) {
        let (meant, others) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<VecDeque<_>, _>(|held| is_meant(held.of.cgroup_id, held.process));
        self.held = others;
        for held in meant {
            self.send(held.item, held.of, Decision::Death, out);
        }
    }

    /// Leaves out what was held: nothing more comes.
    pub fn end(&mut self) {
        self.figures.left_out.fetch_add(self.held.len() as u64, Relaxed);
        self.held.clear();
    }

    fn log(
        &mut self,
        seen: &Seen,
        (name, severity): (&str, SeverityNumber),
        body: String,
        context: Option<Context>,
        attributes: Attributes,
        out: &mut Telemetry,
    ) {
        let time = seen.wall(seen.boot_ns);
        let data = LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: time,
            severity_number: severity.into(),
            severity_text: severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_").to_owned(),
            body: Some(text(body)),
            attributes: attributes.into_vec(),
            trace_id: context.map(|context| context.trace.to_vec()).unwrap_or_default(),
            span_id: context.map(|context| context.span.to_vec()).unwrap_or_default(),
            event_name: name.to_owned(),
            ..LogRecord::default()
        };
        out.logs.push(Item { resource: self.resource(seen.cgroup_id), data });
    }
}

impl Draft {
    fn into_span(self, seen: &Seen) -> Span {
        let Self { context, name, kind, start_ns, end_ns, attributes, error, counted: _ } = self;
        let (attributes, status) = match error {
            Some((kind, message)) => {
                let status = Status { code: StatusCode::Error.into(), message };
                (attributes.text("error.type", kind), Some(status))
            }
            None => (attributes, None),
        };
        Span {
            trace_id: context.trace.to_vec(),
            span_id: context.span.to_vec(),
            parent_span_id: context.parent.map(SpanId::to_vec).unwrap_or_default(),
            name,
            kind: kind.into(),
            start_time_unix_nano: seen.wall(start_ns.min(end_ns)),
            end_time_unix_nano: seen.wall(end_ns),
            attributes: attributes.into_vec(),
            status,
            ..Span::default()
        }
    }
}
