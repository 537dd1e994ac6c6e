use std::path::Path;

use agent_ebpf::contract::event::EventKind;
use opentelemetry_proto::tonic::{common::v1::any_value::Value, logs::v1::LogRecord, trace::v1::Span};
use prost::Message as _;
use regex::Regex;

use super::*;
use crate::{
    config::Config,
    identity::{Container, Labels, names::Details},
    kernel::heap::allocations,
    observation::{Cgroup, Exec, Exit, Observation, Oom, Process, Tcp},
};

const SECOND: u64 = 1_000_000_000;
const OFFSET: i64 = 1_700_000_000_000_000_000;
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A container of a pod, and what happens in it.
struct Scene {
    assembler: Assembler,
    out: Telemetry,
    container: Arc<Container>,
    offset_ns: i64,
}

impl Scene {
    fn new(change: impl FnOnce(&mut OtlpConfig)) -> Self {
        let mut config = Config::default().otlp;
        change(&mut config);
        let path = format!("/kubepods/burstable/pod6d5f1c1e-8c0b-4f0e-9a7e-3f2b1c0d9e8f/{ID}");
        Self {
            assembler: Assembler::new(&config, 100, Seed(7), Host::default(), Arc::default()),
            out: Telemetry::default(),
            container: Container::new(42, Path::new(&path)),
            offset_ns: OFFSET,
        }
    }

    fn see(&mut self, kind: EventKind, at_ns: u64, pid: u32, detail: Detail) {
        let seen = self.seen(kind, at_ns, pid, detail);
        self.assembler.take(&seen, &mut self.out);
    }

    fn seen(&self, kind: EventKind, at_ns: u64, pid: u32, detail: Detail) -> Seen {
        let process = (pid != 0).then(|| Process { pid, tid: pid, comm: "comm".into() });
        let labels = self.container.labels();
        Seen {
            observation: Observation { time: jiff::Timestamp::default(), kind, labels, process, detail },
            boot_ns: at_ns,
            offset_ns: self.offset_ns,
            cgroup_id: 42,
            container: Some(Arc::clone(&self.container)),
        }
    }

    fn born(&mut self, at_ns: u64) {
        self.see(EventKind::CgroupMkdir, at_ns, 0, Detail::Cgroup(Cgroup { cgroup: String::new() }));
    }

    fn gone(&mut self, at_ns: u64) {
        self.see(EventKind::CgroupRmdir, at_ns, 0, Detail::Cgroup(Cgroup { cgroup: String::new() }));
    }

    fn exec(&mut self, at_ns: u64, pid: u32, executable: &str) {
        let exec = Exec { ppid: 1, executable: executable.into() };
        self.see(EventKind::ProcessExec, at_ns, pid, Detail::Exec(exec));
    }

    fn exit(&mut self, at_ns: u64, pid: u32, lived_ns: u64, code: u8) {
        let reason = if code == 0 { "completed" } else { "error" };
        let duration = lived_ns as f64 / 1e9;
        let exit =
            Exit { ppid: 1, reason, exit_code: Some(code), signal: None, core_dumped: false, duration };
        self.see(EventKind::ProcessExit, at_ns, pid, Detail::Exit(exit));
    }

    fn killed(&mut self, at_ns: u64, pid: u32, lived_ns: u64) {
        let duration = lived_ns as f64 / 1e9;
        let exit = Exit {
            ppid: 1,
            reason: "signal",
            exit_code: None,
            signal: Some(9),
            core_dumped: false,
            duration,
        };
        self.see(EventKind::ProcessExit, at_ns, pid, Detail::Exit(exit));
    }

    fn tcp(
        &mut self,
        kind: EventKind,
        at_ns: u64,
        pid: u32,
        port: u16,
        took_ns: u64,
        reason: Option<&'static str>,
    ) {
        self.see(kind, at_ns, pid, Detail::Tcp(tcp(port, took_ns, reason)));
    }

    fn spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.out.spans).into_iter().map(|item| Span::decode(item.data).unwrap()).collect()
    }
}

fn tcp(port: u16, took_ns: u64, reason: Option<&'static str>) -> Tcp {
    Tcp {
        local_address: [10, 0, 0, 1].into(),
        local_port: port,
        remote_address: [10, 0, 0, 2].into(),
        remote_port: 80,
        peer: None,
        duration: Some(took_ns as f64 / 1e9),
        reason,
        errno: reason.map(|_| "ECONNREFUSED"),
        side: Some("client"),
        netns: 1,
        traffic: None,
    }
}

fn text<'s>(span: &'s Span, key: &str) -> &'s str {
    let value = span.attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

#[test]
fn the_documentation_has_every_attribute() {
    let document = include_str!("../../../../docs/otlp.md");
    let sources = [
        include_str!("calls.rs"),
        include_str!("connections.rs"),
        include_str!("containers.rs"),
        include_str!("mod.rs"),
        include_str!("processes.rs"),
    ];
    let written = Regex::new(r#"\.(?:text|number|seconds|flag|address)\(\s*"([a-z._]+)""#).unwrap();
    let keys =
        || sources.iter().flat_map(|source| written.captures_iter(source)).map(|found| found[1].to_owned());
    assert!(keys().count() > 40, "{}", keys().count());
    for key in keys() {
        assert!(document.contains(&format!("`{key}`")), "docs/otlp.md lacks {key}");
    }
}

/// What execve(2) was given may be relative, and the attribute is the full path.
#[test]
fn a_path_that_is_relative_gives_only_the_name() {
    let mut scene = Scene::new(|_| ());
    scene.born(SECOND);
    for (pid, executable, name, path) in
        [(7, "./bin/cart", "cart", ""), (8, "/usr/bin/cart", "cart", "/usr/bin/cart")]
    {
        scene.exec(2 * SECOND, pid, executable);
        scene.exit(3 * SECOND, pid, SECOND, 0);
        let spans = scene.spans();
        let told = ["process.executable.name", "process.executable.path"].map(|key| text(&spans[0], key));
        assert_eq!(told, [name, path]);
    }
}

#[test]
fn a_connection_lasts_from_connect_to_close_and_belongs_to_its_process() {
    let mut scene = Scene::new(|_| ());
    scene.born(SECOND);
    scene.exec(2 * SECOND, 7, "/usr/bin/curl");
    scene.tcp(EventKind::TcpConnect, 3 * SECOND, 7, 5000, SECOND / 10, None);
    // Whoever closes it: by now another process has the socket.
    scene.tcp(EventKind::TcpClose, 9 * SECOND, 0, 5000, 6 * SECOND, None);
    scene.exit(10 * SECOND, 7, 8 * SECOND + 5, 0);
    scene.gone(11 * SECOND);
    let spans = scene.spans();
    let [connection, process, life] = spans.as_slice() else { panic!("{spans:#?}") };
    let times =
        |span: &Span| [span.start_time_unix_nano, span.end_time_unix_nano].map(|time| time - OFFSET as u64);
    assert_eq!(times(connection), [3 * SECOND - SECOND / 10, 9 * SECOND]);
    assert_eq!(times(process), [2 * SECOND, 10 * SECOND]);
    assert_eq!(times(life), [SECOND, 11 * SECOND]);
    assert_eq!((&connection.parent_span_id, &process.parent_span_id), (&process.span_id, &life.span_id));
    assert!(spans.iter().all(|span| span.trace_id == life.trace_id && span.status.is_none()));
    assert_eq!((process.name.as_str(), connection.name.as_str()), ("curl", "TCP connection"));
    assert_eq!((connection.kind, process.kind), (SpanKind::Client as i32, SpanKind::Internal as i32));
}

#[test]
fn durations_survive_steps_of_the_wall_clock() {
    for step in [-3600 * OFFSET.signum(), 3600] {
        let mut scene = Scene::new(|_| ());
        scene.born(SECOND);
        scene.exec(2 * SECOND, 7, "/bin/true");
        scene.tcp(EventKind::TcpConnect, 3 * SECOND, 7, 5000, SECOND, None);
        scene.offset_ns += step * SECOND as i64;
        scene.tcp(EventKind::TcpClose, 4 * SECOND, 7, 5000, SECOND, None);
        scene.exit(5 * SECOND, 7, 3 * SECOND, 0);
        scene.gone(6 * SECOND);
        let lasted: Vec<_> = scene
            .spans()
            .iter()
            .map(|span| span.end_time_unix_nano.checked_sub(span.start_time_unix_nano))
            .collect();
        assert_eq!(lasted, [Some(2 * SECOND), Some(3 * SECOND), Some(5 * SECOND)], "{step}");
    }
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let mut scene = Scene::new(|_| ());
    scene.exec(SECOND, 7, "/bin/a");
    // Its end was missed. The next one with the number has executed nothing.
    scene.exit(100 * SECOND, 7, 2 * SECOND, 0);
    let spans = scene.spans();
    assert_eq!(spans[0].end_time_unix_nano - spans[0].start_time_unix_nano, 2 * SECOND);
    assert_eq!(spans[0].name, "comm");
    assert_eq!(spans[0].span_id, Seed(7).process(7, 98 * SECOND).bytes());
}

#[test]
fn failures_and_slow_ones_are_sent_whatever_the_ratio_is() {
    let mut scene = Scene::new(|config| config.sample_ratio = 0);
    scene.tcp(EventKind::TcpConnect, SECOND, 7, 5000, 5, Some("refused"));
    scene.tcp(EventKind::TcpConnect, 4 * SECOND, 7, 5001, 2 * SECOND, None);
    scene.tcp(EventKind::TcpClose, 5 * SECOND, 7, 5001, SECOND, None);
    scene.tcp(EventKind::TcpConnect, 5 * SECOND, 7, 5002, 9, None);
    scene.tcp(EventKind::TcpClose, 6 * SECOND, 7, 5002, 9, None);
    scene.exit(7 * SECOND, 7, 7 * SECOND, 3);
    scene.exit(7 * SECOND, 8, SECOND, 0);
    let decisions: Vec<_> =
        scene.spans().iter().map(|span| text(span, "podwitness.sampling.decision").to_owned()).collect();
    assert_eq!(decisions, ["failure", "slow", "failure"]);
    scene.assembler.end();
    assert_eq!(scene.assembler.figures.left_out(), 2);
}

#[test]
fn what_belongs_to_a_death_is_sent_after_all() {
    let mut scene = Scene::new(|config| config.sample_ratio = 0);
    for (pid, port) in [(7, 5000), (8, 6000)] {
        scene.exec(SECOND, pid, "/bin/a");
        scene.tcp(EventKind::TcpConnect, 2 * SECOND, pid, port, 9, None);
        scene.tcp(EventKind::TcpClose, 3 * SECOND, pid, port, SECOND, None);
    }
    assert_eq!(scene.spans(), []);
    scene.killed(4 * SECOND, 7, 3 * SECOND);
    let spans = scene.spans();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["TCP connection", "a"]);
    assert_eq!(spans[0].parent_span_id, spans[1].span_id);
    assert!(spans.iter().all(|span| text(span, "podwitness.sampling.decision") == "death"));
    // A kill for want of memory concerns the whole container.
    let oom = Oom {
        scope: "container",
        trigger_pid: 9,
        trigger_tid: 9,
        trigger_comm: "x".into(),
        anon_rss_bytes: 1,
        file_rss_bytes: 0,
        shmem_rss_bytes: 0,
        total_vm_bytes: 1,
        pgtables_bytes: 1,
        uid: 0,
        oom_score_adj: -5,
    };
    scene.see(EventKind::OomKill, 5 * SECOND, 9, Detail::Oom(oom));
    assert_eq!(scene.spans().len(), 1);
    let log = LogRecord::decode(scene.out.logs.pop().unwrap().data).unwrap();
    assert_eq!(log.event_name, "podwitness.oom_kill");
    assert_eq!(log.span_id, Seed(7).process(9, 5 * SECOND).bytes());
}

#[test]
fn only_spans_that_are_sent_are_exemplars() {
    let mut scene = Scene::new(|config| config.sample_ratio = 0);
    scene.exec(SECOND, 7, "/bin/a");
    scene.tcp(EventKind::TcpConnect, 2 * SECOND, 7, 5000, 1000, None);
    scene.tcp(EventKind::TcpClose, 3 * SECOND, 7, 5000, SECOND, None);
    scene.exit(4 * SECOND, 8, SECOND, 0);
    assert_eq!(scene.out.counted, [], "none was drawn");
    scene.tcp(EventKind::TcpConnect, 5 * SECOND, 7, 5001, 2000, Some("refused"));
    scene.killed(6 * SECOND, 7, 5 * SECOND);
    let counted: Vec<_> = scene.out.counted.drain(..).collect();
    let what: Vec<_> = counted.iter().map(|sent| sent.counted.iter().flatten().collect::<Vec<_>>()).collect();
    let refused = [Counted::Connect(2e-6), Counted::ConnectFailure(None, "refused")];
    // The one that was held is sent for the sake of the death.
    let expected: [&[Counted]; 3] = [&refused, &[Counted::Connect(1e-6)], &[Counted::Exit("signal")]];
    assert_eq!(what, expected.map(|of| of.iter().collect::<Vec<_>>()));
    let spans = scene.spans();
    for Sent { place, cgroup_id, exemplar, .. } in counted {
        let span = &spans[place];
        assert_eq!(
            (exemplar.trace_id.to_vec(), exemplar.span_id.to_vec()),
            (span.trace_id.clone(), span.span_id.clone())
        );
        assert_eq!((cgroup_id, exemplar.unix_ns), (42, span.end_time_unix_nano));
    }
}

#[test]
fn what_is_remembered_has_a_bound() {
    let mut scene = Scene::new(|config| (config.tracked, config.sample_ratio) = (16, 0));
    for pid in 1..5000 {
        scene.exec(SECOND, pid, "/bin/a");
        scene.tcp(EventKind::TcpConnect, 2 * SECOND, pid, pid as u16, 9, None);
    }
    assert_eq!(scene.assembler.figures.forgotten(), 2 * (4999 - 16));
    for pid in 1..5000 {
        scene.tcp(EventKind::TcpClose, 3 * SECOND, pid, pid as u16, SECOND, None);
        scene.exit(4 * SECOND, pid, 3 * SECOND, 0);
    }
    assert_eq!(scene.assembler.held.len(), HELD);
    let left_out = scene.assembler.figures.left_out();
    assert_eq!((left_out as usize + HELD, scene.spans().len()), (2 * 4999, 0));
}

#[test]
fn a_span_is_written_in_memory_that_is_there() {
    let mut scene = Scene::new(|config| config.sample_rate = 0);
    let mut connection = |number: u16| {
        let port = 5000 + number;
        let seen = [EventKind::TcpConnect, EventKind::TcpClose]
            .map(|kind| scene.seen(kind, SECOND + u64::from(number), 7, Detail::Tcp(tcp(port, 9, None))));
        let before = allocations();
        seen.iter().for_each(|seen| scene.assembler.take(seen, &mut scene.out));
        let took = allocations() - before;
        assert_eq!(scene.spans().len(), 1);
        // The lists grow once.
        scene.out = Telemetry { spans: Vec::with_capacity(1), ..Telemetry::default() };
        scene.out.counted.reserve(1);
        took
    };
    let took = std::array::from_fn::<_, 4, _>(|number| connection(number as u16));
    // The memory in which spans wait is asked for once for several of them, and so is the room of what is remembered.
    assert_eq!(took[1..], [0; 3], "{took:?}");
}

/// A container of this name in a pod with this uid, from its first to its last second.
fn life(scene: &mut Scene, uid: &str, cgroup_id: u64, at_s: u64, restart_count: Option<u32>) -> Span {
    let path = format!("/kubepods/burstable/pod{uid}/{cgroup_id:064x}");
    let container = Container::new(cgroup_id, Path::new(&path));
    let labels = Labels {
        namespace: "shop".into(),
        workload_kind: "StatefulSet".into(),
        workload: "db".into(),
        pod: "db-0".into(),
        container: "app".into(),
    };
    container.name(labels, Details { restart_count, ..Details::default() });
    for (kind, at_s) in [(EventKind::CgroupMkdir, at_s), (EventKind::CgroupRmdir, at_s + 1)] {
        let detail = Detail::Cgroup(Cgroup { cgroup: String::new() });
        let (time, labels) = (jiff::Timestamp::default(), container.labels());
        let observation = Observation { time, kind, labels, process: None, detail };
        let container = Some(Arc::clone(&container));
        let seen = Seen { observation, boot_ns: at_s * SECOND, offset_ns: OFFSET, cgroup_id, container };
        scene.assembler.take(&seen, &mut scene.out);
    }
    scene.spans().pop().unwrap()
}

const UIDS: [&str; 2] = ["6d5f1c1e-8c0b-4f0e-9a7e-3f2b1c0d9e8f", "7d5f1c1e-8c0b-4f0e-9a7e-3f2b1c0d9e8f"];

fn restarts(span: &Span) -> Option<i64> {
    let event = span.events.iter().find(|event| event.name == "podwitness.restart")?;
    match event.attributes[0].value.as_ref()?.value.as_ref()? {
        Value::IntValue(number) => Some(*number),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restart_is_told_and_linked() {
    let mut scene = Scene::new(|_| ());
    let first = life(&mut scene, UIDS[0], 1, 1, None);
    let second = life(&mut scene, UIDS[0], 2, 5, None);
    let third = life(&mut scene, UIDS[0], 3, 9, None);
    assert_eq!((first.links.len(), restarts(&first)), (0, None));
    assert_eq!((second.links[0].span_id.as_slice(), second.links.len()), (first.span_id.as_slice(), 1));
    assert_eq!(third.links[0].span_id, second.span_id);
    assert_eq!((restarts(&second), restarts(&third)), (Some(1), Some(2)));
    assert_eq!(second.events[0].time_unix_nano, second.start_time_unix_nano);
    assert_ne!(first.trace_id, second.trace_id);
}

#[test]
fn the_next_pod_of_a_stateful_set_is_no_restart() {
    let mut scene = Scene::new(|_| ());
    life(&mut scene, UIDS[0], 1, 1, None);
    let other = life(&mut scene, UIDS[1], 2, 5, None);
    assert_eq!((other.links.len(), restarts(&other)), (0, None));
}

#[test]
fn restarts_are_counted_by_who_counts_them_from_the_beginning() {
    let mut scene = Scene::new(|_| ());
    // The one before it ended before there was an agent.
    let sixth = life(&mut scene, UIDS[0], 1, 1, Some(5));
    assert_eq!((sixth.links.len(), restarts(&sixth)), (0, Some(5)));
    let seventh = life(&mut scene, UIDS[0], 2, 5, Some(6));
    assert_eq!((seventh.links.len(), restarts(&seventh)), (1, Some(6)));
    let first = life(&mut scene, UIDS[1], 3, 9, Some(0));
    assert_eq!((first.links.len(), restarts(&first)), (0, None));
}
