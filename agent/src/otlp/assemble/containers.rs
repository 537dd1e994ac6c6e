//! The lives of containers.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use agent_ebpf::contract::event::EventKind;
use bytes::Bytes;
use opentelemetry_proto::tonic::{logs::v1::SeverityNumber, trace::v1::span::SpanKind};

use super::{Assembler, Attributes, Context, Decision, Draft, EVENTS, Message, Telemetry, span};
use crate::{
    identity::{Labels, Placement, names::Details},
    observation::{Exit, Oom},
    otlp::{Seen, sampling::workload},
};

/// What is known about a cgroup in which something has happened.
#[derive(Debug)]
pub(super) struct ContainerState {
    /// As it is sent.
    pub resource: Bytes,
    labels: Arc<Labels>,
    details: Arc<Details>,
    /// As the sampler knows it.
    pub workload: u64,
    /// Whether it is a container, whose life is a span; of other cgroups, such as units, only processes are.
    pub is_container: bool,
    /// When it was first seen, and whether that was its birth.
    since_ns: u64,
    is_born: bool,
    /// The first process that executed something in it, if it was seen from its birth on: a container ends with that.
    pub main: Option<u32>,
    exit: Option<Exit>,
    kills: u64,
    /// As they are sent.
    events: Vec<Message>,
    dropped_events: u32,
}

/// A container that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    context: Context,
    restarts: u64,
}

impl ContainerState {
    fn note(&mut self, event: Message) {
        if self.events.len() < EVENTS {
            self.events.push(event);
        } else {
            self.dropped_events += 1;
        }
    }

    pub(super) fn exited(&mut self, pid: u32, exit: &Exit) {
        if self.main == Some(pid) && self.exit.is_none() {
            self.exit = Some(exit.clone());
        }
    }
}

impl Assembler {
    /// Remembers the cgroup that something has happened in, or what it is called by now.
    pub(super) fn meet(&mut self, seen: &Seen) {
        let placement = seen.container.as_ref().map(|container| &container.placement);
        let details = || seen.container.as_ref().map(|container| container.details()).unwrap_or_default();
        let labels = &seen.observation.labels;
        if let Some(state) = self.containers.get_mut(&seen.cgroup_id) {
            // Whoever is named anew has new labels, be they the same.
            if !Arc::ptr_eq(&state.labels, labels) {
                let details = details();
                if (&state.labels, &state.details) != (labels, &details) {
                    state.resource = self.host.resource(placement, labels, &details);
                    state.workload = workload(labels);
                }
                (state.labels, state.details) = (Arc::clone(labels), details);
            }
            return;
        }
        let details = details();
        let state = ContainerState {
            resource: self.host.resource(placement, labels, &details),
            labels: Arc::clone(labels),
            details,
            workload: workload(labels),
            is_container: placement.and_then(Placement::container_id).is_some(),
            since_ns: seen.boot_ns,
            is_born: seen.observation.kind == EventKind::CgroupMkdir,
            main: None,
            exit: None,
            kills: 0,
            events: Vec::new(),
            dropped_events: 0,
        };
        self.containers.insert(seen.cgroup_id, state);
    }

    /// The span of the container's life, if it is a container.
    pub(super) fn container_context(&mut self, cgroup_id: u64) -> Option<Context> {
        let is_container = self.containers.get_mut(&cgroup_id).is_some_and(|state| state.is_container);
        is_container.then(|| Context {
            trace: self.seed.trace(cgroup_id),
            span: self.seed.container(cgroup_id),
            parent: None,
        })
    }

    /// The first to execute something in a container that was seen from its birth on is its main process.
    pub(super) fn note_main(&mut self, cgroup_id: u64, pid: u32) {
        if let Some(state) = self.containers.get_mut(&cgroup_id)
            && state.is_born
        {
            state.main.get_or_insert(pid);
        }
    }

    pub(super) fn note_kill(&mut self, seen: &Seen, attributes: &Attributes) {
        let event = event(seen.wall(seen.boot_ns), "podwitness.oom_kill", attributes);
        if let Some(state) = self.containers.get_mut(&seen.cgroup_id) {
            state.kills += 1;
            state.note(event);
        }
    }

    pub(super) fn take_cgroup(&mut self, seen: &Seen, out: &mut Telemetry) {
        if seen.observation.kind != EventKind::CgroupRmdir {
            return;
        }
        let context = self.container_context(seen.cgroup_id);
        if let Some(context) = context {
            self.end_container(seen, context, out);
        }
        self.containers.remove(&seen.cgroup_id);
    }

    fn end_container(&mut self, seen: &Seen, context: Context, out: &mut Telemetry) {
        let Some(state) = self.containers.get_mut(&seen.cgroup_id) else { return };
        let (since_ns, is_born, kills) = (state.since_ns, state.is_born, state.kills);
        let (exit, mut events) = (state.exit.take(), std::mem::take(&mut state.events));
        let (dropped, labels) = (state.dropped_events, Arc::clone(&state.labels));
        let told = state.details.restart_count.map(u64::from);
        let place =
            place(seen.container.as_ref().and_then(|container| container.placement.pod_uid()), &labels);
        let before = place.and_then(|place| self.ended.remove(&place));
        let restarts = told.unwrap_or_else(|| before.map_or(0, |before| before.restarts + 1));
        if let Some(place) = place {
            self.ended.insert(place, Ended { context, restarts });
        }

        let (mut attributes, error) = ending(exit.as_ref(), kills);
        if !is_born {
            attributes = attributes.flag("podwitness.start.unknown", true);
        }
        let severity = if error.is_some() { SeverityNumber::Error } else { SeverityNumber::Info };
        let body = match &error {
            Some((_, message)) => format!("container ended: {message}"),
            None => "container ended".to_owned(),
        };
        let own = error.iter().fold(attributes.clone(), |all, (kind, _)| all.text("error.type", kind));
        self.log(seen, ("podwitness.container_exit", severity), &body, Some(context), &own, out);

        // One that followed another before the agent was there to see that has no link. When it began is known only of
        // those that the agent has seen begin.
        if before.is_some() || (is_born && restarts > 0) {
            let attributes = Attributes::default().number("podwitness.restarts", restarts);
            events.insert(0, event(seen.wall(since_ns), "podwitness.restart", &attributes));
        }
        let name = if labels.container.is_empty() { "container" } else { &labels.container };
        let draft = Draft {
            context,
            name,
            kind: SpanKind::Internal,
            start_ns: since_ns,
            end_ns: seen.boot_ns,
            attributes,
            error,
            counted: Default::default(),
        };
        let (mut message, about) = self.write(seen, draft);
        for event in &events {
            message.message(span::EVENTS, event);
        }
        message.number(span::DROPPED_EVENTS, dropped.into());
        if let Some(before) = before {
            let mut link = Message::default();
            link.bytes(span::LINK_TRACE_ID, &before.context.trace.bytes());
            link.bytes(span::LINK_SPAN_ID, &before.context.span.bytes());
            message.message(span::LINKS, &link);
        }
        self.send(&mut message, about, Decision::Death, out);
    }
}

fn event(time: u64, name: &str, attributes: &Attributes) -> Message {
    let mut event = Message::default();
    event
        .fixed64(span::EVENT_TIME, time)
        .text(span::EVENT_NAME, name)
        .attributes(span::EVENT_ATTRIBUTES, attributes);
    event
}

/// How the container ended, as far as its main process tells.
fn ending(exit: Option<&Exit>, kills: u64) -> (Attributes, Option<(String, String)>) {
    let mut attributes = Attributes::default();
    if kills > 0 {
        attributes = attributes.number("podwitness.oom_kills", kills);
    }
    match exit {
        Some(exit) => {
            let error = super::processes::failure(exit);
            (super::processes::exit_attributes(attributes, exit), error)
        }
        None => (attributes, None),
    }
}

pub(super) fn kill_attributes(oom: &Oom) -> Attributes {
    Attributes::default()
        .text("podwitness.oom.scope", oom.scope)
        .number("podwitness.oom.anon_rss", oom.anon_rss_bytes)
        .number("podwitness.oom.file_rss", oom.file_rss_bytes)
        .number("podwitness.oom.shmem_rss", oom.shmem_rss_bytes)
        .number("podwitness.oom.total_vm", oom.total_vm_bytes)
        .number("podwitness.oom.page_tables", oom.pgtables_bytes)
        .number("podwitness.oom.score_adj", oom.oom_score_adj)
        .number("podwitness.oom.trigger.pid", oom.trigger_pid)
        .text("podwitness.oom.trigger.comm", oom.trigger_comm.as_str())
}

/// Where a container that follows another one stands: the same name in the same pod. The pod of a StatefulSet has a
/// successor of its own name, which is no restart.
fn place(pod_uid: Option<&str>, labels: &Labels) -> Option<u64> {
    if labels.namespace.is_empty() || labels.container.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (pod_uid, &labels.namespace, &labels.pod, &labels.container).hash(&mut hasher);
    Some(hasher.finish())
}
