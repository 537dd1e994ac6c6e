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

use bytes::{Bytes, BytesMut};
use opentelemetry_proto::tonic::{
    logs::v1::SeverityNumber,
    trace::v1::{span::SpanKind, status::StatusCode},
};

use self::{
    connections::{Connection, ConnectionKey},
    containers::{ContainerState, Ended},
    processes::ProcessState,
};
use super::{
    Seen,
    attributes::Attributes,
    figures::SpanFigures,
    ids::{Seed, SpanId, TraceId},
    oldest::Oldest,
    resource::Host,
    sampling::{Decision, Sampler},
    wire::Message,
};
use crate::{
    config::OtlpConfig,
    exemplar::{Counted, Exemplar, Sent},
    observation::Detail,
    writer::Writer,
};

/// Spans that were not drawn and wait a little: should their process or container be killed, they are sent.
const HELD: usize = 256;
/// Events kept of one span.
const EVENTS: usize = 32;

/// Fields of `Span`, and of what is in it (opentelemetry/proto/trace/v1/trace.proto).
mod span {
    pub(super) const TRACE_ID: u8 = 1;
    pub(super) const SPAN_ID: u8 = 2;
    pub(super) const TRACE_STATE: u8 = 3;
    pub(super) const PARENT_SPAN_ID: u8 = 4;
    pub(super) const NAME: u8 = 5;
    pub(super) const KIND: u8 = 6;
    pub(super) const START_TIME: u8 = 7;
    pub(super) const END_TIME: u8 = 8;
    pub(super) const ATTRIBUTES: u8 = 9;
    pub(super) const EVENTS: u8 = 11;
    pub(super) const DROPPED_EVENTS: u8 = 12;
    pub(super) const LINKS: u8 = 13;
    pub(super) const STATUS: u8 = 15;

    pub(super) const EVENT_TIME: u8 = 1;
    pub(super) const EVENT_NAME: u8 = 2;
    pub(super) const EVENT_ATTRIBUTES: u8 = 3;
    pub(super) const LINK_TRACE_ID: u8 = 1;
    pub(super) const LINK_SPAN_ID: u8 = 2;
    pub(super) const STATUS_MESSAGE: u8 = 2;
    pub(super) const STATUS_CODE: u8 = 3;
}

/// Fields of `LogRecord`, and of its body (opentelemetry/proto/logs/v1/logs.proto).
mod log {
    pub(super) const TIME: u8 = 1;
    pub(super) const SEVERITY_NUMBER: u8 = 2;
    pub(super) const SEVERITY_TEXT: u8 = 3;
    pub(super) const BODY: u8 = 5;
    pub(super) const ATTRIBUTES: u8 = 6;
    pub(super) const TRACE_ID: u8 = 9;
    pub(super) const SPAN_ID: u8 = 10;
    pub(super) const OBSERVED_TIME: u8 = 11;
    pub(super) const EVENT_NAME: u8 = 12;

    pub(super) const BODY_TEXT: u8 = 1;
}

/// Something to send and whose it is, both as they are sent: a `Span` or a `LogRecord`, and a `Resource`, which all of
/// its items share.
#[derive(Clone, Debug)]
pub struct Item {
    pub resource: Bytes,
    pub data: Bytes,
}

/// What has come of observations.
#[derive(Debug, Default)]
pub struct Telemetry {
    pub spans: Vec<Item>,
    pub logs: Vec<Item>,
    /// What of the spans is counted, too, in their order.
    pub counted: Vec<Sent>,
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
struct About {
    id: SpanId,
    resource: Bytes,
    /// As the sampler knows it.
    workload: u64,
    cgroup_id: u64,
    counted: [Option<Counted>; 3],
    exemplar: Exemplar,
}

/// A span that was not drawn.
#[derive(Debug)]
struct Held {
    message: Message,
    about: About,
    process: Option<SpanId>,
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
    /// What says so, by decision.
    why: [Attributes; Decision::ALL.len()],
    held: VecDeque<Held>,
    /// In which spans are written, one after the other.
    memory: Writer,
    /// In which they wait.
    shared: BytesMut,
    figures: Arc<SpanFigures>,
}

/// A span without what all of them share.
struct Draft<'a> {
    context: Context,
    name: &'a str,
    kind: SpanKind,
    /// By the boot clock.
    start_ns: u64,
    end_ns: u64,
    attributes: Attributes,
    /// What kind of failure, and in words.
    error: Option<(String, String)>,
    /// What metrics tell of it.
    counted: [Option<Counted>; 3],
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
            why: Decision::ALL
                .map(|decision| Attributes::default().text("podwitness.sampling.decision", decision.name())),
            held: VecDeque::new(),
            memory: Writer::default(),
            shared: BytesMut::new(),
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

    fn resource(&mut self, cgroup_id: u64) -> Bytes {
        self.containers.get_mut(&cgroup_id).map(|state| state.resource.clone()).unwrap_or_default()
    }

    /// Sends the span, or holds it, or leaves it out. Inlined with what it calls: to hand drafts over took 150 instructions of
    /// the 3200 for a span.
    #[inline(always)]
    fn emit(
        &mut self,
        seen: &Seen,
        draft: Draft<'_>,
        forced: Option<Decision>,
        process: Option<SpanId>,
        out: &mut Telemetry,
    ) {
        let (mut message, about) = self.write(seen, draft);
        let mut drawn = || self.sampler.draws(about.id, about.workload, seen.boot_ns);
        match forced.or_else(|| drawn().then_some(Decision::Drawn)) {
            Some(decision) => self.send(&mut message, about, decision, out),
            None => self.hold(Held { message: message.clone(), about, process }),
        }
        self.memory = message.into_writer();
    }

    /// None, to be those of the next span: all of them are written in the same memory.
    fn attributes(&mut self) -> Attributes {
        Attributes::written_in(std::mem::take(&mut self.memory))
    }

    /// What is known of a span before it is decided whether it is sent.
    #[inline(always)]
    fn write(&mut self, seen: &Seen, draft: Draft<'_>) -> (Message, About) {
        let Draft { context, name, kind, start_ns, end_ns, attributes, error, counted } = draft;
        let attributes = error.iter().fold(attributes, |all, (kind, _)| all.text("error.type", kind));
        let (trace_id, span_id, unix_ns) = (context.trace.bytes(), context.span.bytes(), seen.wall(end_ns));
        let mut message = Message::span_of(attributes);
        message.bytes(span::TRACE_ID, &trace_id).bytes(span::SPAN_ID, &span_id);
        if let Some(parent) = context.parent {
            message.bytes(span::PARENT_SPAN_ID, &parent.bytes());
        }
        message
            .text(span::NAME, name)
            .number(span::KIND, kind as u64)
            .fixed64(span::START_TIME, seen.wall(start_ns.min(end_ns)))
            .fixed64(span::END_TIME, unix_ns);
        if let Some((_, words)) = error {
            let mut status = Message::default();
            status.text(span::STATUS_MESSAGE, &words).number(span::STATUS_CODE, StatusCode::Error as u64);
            message.message(span::STATUS, &status);
        }
        let state = self.containers.get_mut(&seen.cgroup_id);
        let (resource, workload) =
            state.map(|state| (state.resource.clone(), state.workload)).unwrap_or_default();
        let about = About {
            id: context.span,
            resource,
            workload,
            cgroup_id: seen.cgroup_id,
            counted,
            exemplar: Exemplar { trace_id, span_id, value: 1.0, unix_ns },
        };
        (message, about)
    }

    fn hold(&mut self, span: Held) {
        if self.held.len() >= HELD {
            self.held.pop_front();
            self.figures.left_out.fetch_add(1, Relaxed);
        }
        self.held.push_back(span);
    }

    /// Says why the span is sent.
    #[inline(always)]
    fn send(&mut self, message: &mut Message, about: About, decision: Decision, out: &mut Telemetry) {
        let About { id, resource, cgroup_id, counted, exemplar, .. } = about;
        if counted.iter().any(Option::is_some) {
            out.counted.push(Sent { place: out.spans.len(), cgroup_id, counted, exemplar });
        }
        let (threshold, randomness) = self.sampler.state(id, decision);
        message
            .joined(span::TRACE_STATE, threshold.as_bytes(), &randomness)
            .attributes(span::ATTRIBUTES, &self.why[decision as usize]);
        self.figures.decided[decision as usize].fetch_add(1, Relaxed);
        out.spans.push(Item { resource, data: message.finish_in(&mut self.shared) });
    }

    /// Sends what was held of those who have to do with a death.
    fn send_held(&mut self, is_meant: impl Fn(u64, Option<SpanId>) -> bool, out: &mut Telemetry) {
        let (meant, others) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<VecDeque<_>, _>(|held| is_meant(held.about.cgroup_id, held.process));
        self.held = others;
        for Held { mut message, about, .. } in meant {
            self.send(&mut message, about, Decision::Death, out);
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
        body: &str,
        context: Option<Context>,
        attributes: &Attributes,
        out: &mut Telemetry,
    ) {
        let time = seen.wall(seen.boot_ns);
        let mut record = Message::default();
        record
            .fixed64(log::TIME, time)
            .fixed64(log::OBSERVED_TIME, time)
            .number(log::SEVERITY_NUMBER, severity as u64)
            .text(log::SEVERITY_TEXT, severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_"))
            .message(log::BODY, Message::default().text(log::BODY_TEXT, body))
            .attributes(log::ATTRIBUTES, attributes)
            .text(log::EVENT_NAME, name);
        if let Some(context) = context {
            record.bytes(log::TRACE_ID, &context.trace.bytes()).bytes(log::SPAN_ID, &context.span.bytes());
        }
        out.logs.push(Item { resource: self.resource(seen.cgroup_id), data: record.finish() });
    }
}
