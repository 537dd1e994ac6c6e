//! What the agent costs, in figures that no noise touches: sizes of programs, calls of helpers, system calls.
//!
//! `cargo xtask guards` records the programs' figures anew, in `tests/guards.txt`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
};

use integration_tests::{
    Agent, Allocations, Cgroup, Options, Workload, allocations, http, kernel,
    program::{Shape, helpers, shapes},
    require_kernel,
    wait::fewer,
};

/// Compiled in: the emulated machines have no sources.
const TABLE: &str = include_str!("../guards.txt");
const TABLE_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guards.txt");

const CALLS: &str = "podwitness_syscalls_total";
const MODES: [&str; 3] = ["counts", "default", "full"];
/// What a figure may be more than recorded, in percent: on the kernel that it was recorded on, and on another, which
/// has other instructions put in line and another verifier.
const MARGIN: u64 = 3;
const FOREIGN_MARGIN: u64 = 100;
/// The agent's system calls per million events; one per event would be a million.
const CALLS_PER_MILLION: u64 = 50_000;

/// The same of allocations: what the reader does every second asks for memory, events don't.
const ALLOCATIONS_PER_MILLION: u64 = 10_000;

/// Version and architecture: `6.18 x86_64`.
fn version() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's version");
    let version: Vec<_> = release.trim().split('.').take(2).collect();
    format!("{} {}", version.join("."), std::env::consts::ARCH)
}

/// The modes that the agent has, and the one without the kernel's types that does the most.
fn modes() -> Vec<(&'static str, Options)> {
    let with = |mode| Options::default().flag("sensors-syscalls-mode", mode);
    let mut modes: Vec<_> = MODES.into_iter().map(|mode| (mode, with(mode))).collect();
    modes.push(("untyped", with("full").without_btf()));
    modes
}

fn found() -> BTreeMap<(String, String), Shape> {
    let mut found = BTreeMap::new();
    for (mode, options) in modes() {
        let agent = Agent::start(options);
        let programs = shapes(agent.pid());
        assert!(!programs.is_empty(), "an agent without programs");
        found.extend(programs.into_iter().map(|(name, shape)| ((mode.to_owned(), name), shape)));
    }
    found
}

fn write(found: &BTreeMap<(String, String), Shape>) -> String {
    let mut text = format!(
        "# What the programs may cost, recorded by `cargo xtask guards` on Linux {}\n\
         # mode, jited bytes, verified instructions, helper calls, program\n",
        version()
    );
    for ((mode, name), shape) in found {
        let Shape { jited_bytes, verified_instructions, helper_calls } = shape;
        writeln!(text, "{mode:8} {jited_bytes:6} {verified_instructions:7} {helper_calls:4} {name}")
            .expect("a string takes everything");
    }
    text
}

fn read(text: &str) -> BTreeMap<(String, String), Shape> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let mode = words.next()?.to_owned();
        let mut number = || words.next()?.parse().ok();
        let (jited_bytes, verified_instructions, helper_calls) = (number()?, number()?, number()?);
        let name = words.collect::<Vec<_>>().join(" ");
        Some(((mode, name), Shape { jited_bytes, verified_instructions, helper_calls }))
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|text| line(text).unwrap_or_else(|| panic!("guards.txt: {text:?}"))).collect()
}

#[test]
fn programs_cost_no_more_than_recorded() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: other kernels verify in other ways, and have other hooks");
    }
    let found = found();
    println!("{}", write(&found));
    if std::env::var_os("PODWITNESS_RECORD").is_some() {
        fs::write(TABLE_PATH, write(&found)).expect("write guards.txt");
        return;
    }
    let is_at_home = TABLE.lines().next().is_some_and(|head| head.ends_with(&format!(" {}", version())));
    let margin = if is_at_home { MARGIN } else { FOREIGN_MARGIN };
    let recorded = read(TABLE);
    let mut dearer = Vec::new();
    for ((mode, name), shape) in &found {
        let Some(bound) = recorded.get(&(mode.clone(), name.clone())) else {
            // Other kernels have other hooks.
            if is_at_home {
                dearer.push(format!("{mode}, {name} is not recorded"));
            }
            continue;
        };
        for (what, found, bound) in [
            ("jited bytes", shape.jited_bytes, bound.jited_bytes),
            ("verified instructions", shape.verified_instructions, bound.verified_instructions),
            ("helper calls", shape.helper_calls, bound.helper_calls),
        ] {
            if found * 100 > bound * (100 + margin) {
                dearer.push(format!("{mode}, {name}: {found} {what}, recorded are {bound}"));
            }
        }
    }
    assert!(
        dearer.is_empty(),
        "dearer than recorded; if it is worth it, `cargo xtask guards` records anew:\n{}",
        dearer.join("\n")
    );
}

/// These ask the kernel for its types, which the one that this is run on has.
#[test]
fn without_types_no_program_calls_what_needs_them() {
    require_kernel!();
    let needs_types = ["bpf_get_current_task_btf", "bpf_task_pt_regs", "bpf_task_storage_get"];
    let called = |options| {
        let agent = Agent::start(options);
        let mut helpers = helpers(agent.pid());
        helpers.retain(|name| needs_types.iter().any(|needs| name.starts_with(needs)));
        helpers
    };
    let full = Options::default().flag("sensors-syscalls-mode", "full");
    assert_eq!(called(full.clone().without_btf()), BTreeSet::new());
    if kernel::is_vm() {
        // Older kernels have none of these helpers.
        return;
    }
    assert!(!called(full).is_empty(), "they would be found");
}

/// An agent that is watched by another one.
struct Watched {
    agent: Agent,
    watcher: Agent,
    cgroup: Cgroup,
}

impl Watched {
    fn start(options: Options) -> Self {
        let watcher = Agent::start(Options::default().flag("events-rate", "0"));
        let agent = Agent::start(options);
        let cgroup = Cgroup::new("agent");
        cgroup.add(agent.pid());
        Self { agent, watcher, cgroup }
    }

    /// System calls of the watched agent so far, all of them or those of one name.
    fn calls(&self, name: Option<&str>) -> u64 {
        let path = [("workload", self.cgroup.path())];
        let labels: Vec<_> = path.into_iter().chain(name.map(|name| ("syscall", name))).collect();
        self.watcher.scrape().sum(CALLS, &labels) as u64
    }

    /// Slots that the watched agent has taken back, all its calls so far, and those of bpf(2), at one and the same time
    /// as far as the slots matter.
    fn bpf_calls(&self) -> (u64, u64, u64) {
        let recycled = || self.agent.scrape().count("podwitness_slots_recycled_total", &[]);
        let mut before = recycled();
        loop {
            let found = (self.calls(None), self.calls(Some("bpf")));
            let after = recycled();
            if before == after {
                return (after, found.0, found.1);
            }
            before = after;
        }
    }
}

#[test]
fn a_scrape_makes_no_call_of_bpf() {
    require_kernel!();
    const SCRAPES: u64 = 50;
    let watched = Watched::start(Options::default());
    watched.agent.scrape();
    let (recycled, all, bpf) = watched.bpf_calls();
    for _ in 0..SCRAPES {
        watched.agent.scrape();
    }
    let (recycled, all, bpf) = {
        let (later_recycled, later_all, later_bpf) = watched.bpf_calls();
        (later_recycled - recycled, later_all - all, later_bpf - bpf)
    };
    assert!(all >= SCRAPES, "the watcher saw {all} calls of {SCRAPES} scrapes");
    // Cgroups of others may die meanwhile. Their slots are taken back, which has nothing to do with scrapes: the id goes
    // out of a map, and the slot onto a stack.
    assert_eq!(bpf, 2 * recycled, "calls of bpf(2) during {SCRAPES} scrapes and {recycled} ends of cgroups");
}

#[test]
fn events_are_read_without_a_call_for_each() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!(
            "not run: while an emulated machine makes the events, time passes, and looks with it"
        );
    }
    let connections = fewer(20_000);
    let poll = Options::default().flag("ring-poll-min", "50ms").flag("ring-poll-max", "50ms");
    let watched = Watched::start(poll.flag("events-rate", "0"));
    let cgroup = Cgroup::new("events");
    let before = watched.calls(None);
    let count = connections.to_string();
    let (workload, _) = Workload::run(&["loopback", "--count", &count, "--threads", "2"], &cgroup);
    let labels = [("workload", cgroup.path())];
    watched.watcher.wait_count("podwitness_tcp_closes_total", &labels, 2 * connections);
    let calls = watched.calls(None) - before;
    // A connect, an accept and two closes each, which the watched agent has seen, too.
    let events = 4 * connections;
    watched.agent.wait_count("podwitness_tcp_closes_total", &labels, 2 * connections);
    let response = http::get(watched.agent.metrics, "/healthz").expect("/healthz");
    assert_eq!(response.status, 200);
    assert!(calls > 0, "the watcher saw nothing of the agent");
    assert!(
        calls * 1_000_000 <= events * CALLS_PER_MILLION,
        "{calls} system calls for {events} events, more than {CALLS_PER_MILLION} per million"
    );
    workload.finish();
}

#[test]
fn events_are_booked_without_an_allocation_for_each() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no agent with a C library beside it");
    }
    let binary = allocations::binary().expect("an agent whose allocator can be probed");
    let agent = Agent::start(Options::default().binary(binary).flag("events-rate", "0"));
    let cgroup = Cgroup::new("allocations");
    let labels = [("workload", cgroup.path())];
    let connect = |connections: u64, before: u64| {
        let count = connections.to_string();
        let (workload, _) = Workload::run(&["loopback", "--count", &count, "--threads", "2"], &cgroup);
        agent.wait_count("podwitness_tcp_closes_total", &labels, 2 * (before + connections));
        workload.finish();
    };
    // The first ones make the account and the room in it.
    let (few, many) = (100, fewer(20_000));
    connect(few, 0);
    let allocations = Allocations::of(agent.pid(), "ring-reader").expect("probes on the allocator");
    let before = allocations.count();
    connect(many, few);
    let (count, events) = (allocations.count() - before, 4 * many);
    assert!(count > 0, "what the reader does every second asks for memory: the probes count nothing");
    assert!(
        count * 1_000_000 <= events * ALLOCATIONS_PER_MILLION,
        "{count} allocations for {events} events, more than {ALLOCATIONS_PER_MILLION} per million"
    );
    println!("{count} allocations for {events} events");
}
