//! What is added to one getppid(2).

use std::time::Duration;

use anyhow::Result;
use podwitness::kernel::Btf;

use crate::{
    Options,
    bpf::Floor,
    half::Half,
    legs::{self, Leg},
    peers::{self, Peer},
    report::{Report, Row, Target},
    worker::{Work, Worker},
};

/// The floors.
const EXIT: &str = "F1: empty program on sys_exit";
const BOTH: &str = "F2: empty programs on sys_enter and sys_exit";
/// Whoever times every call reads the clock on both ends.
const CLOCKS: &str = "F3: programs on both that read the clock";
const NOTHING: &str = "agent, nothing wanted";

/// Long enough for a hundred chunks, short enough that the machine doesn't change meanwhile.
const LENGTH: Duration = Duration::from_millis(10);
/// With peers, that make a call take up to a hundred times as long.
const PEER_LENGTH: Duration = Duration::from_millis(150);

/// What the agent's usual mode may cost beside each peer.
const PEERS: [(Peer, Option<Target>); 4] = [
    (peers::BPFTRACE, Some(Target { name: "P5", most: 0.25 })),
    (peers::SYSCOUNT, Some(Target { name: "P5", most: 0.35 })),
    (peers::STRACE, Some(Target { name: "P5", most: 0.012 })),
    (peers::PERF, None),
];

/// A way for the agent to look at system calls.
struct Mode {
    name: &'static str,
    floor: &'static str,
    target: Target,
}

const MODES: [Mode; 3] = [
    Mode { name: "counts", floor: EXIT, target: Target { name: "P1", most: 1.15 } },
    Mode { name: "default", floor: BOTH, target: Target { name: "P2", most: 1.20 } },
    Mode { name: "full", floor: BOTH, target: Target { name: "P3", most: 1.65 } },
];

pub(crate) fn run(options: &Options) -> Result<Report> {
    // Before anything is loaded: the worker is to be born without our maps.
    let mut worker = Worker::start(Work::Calls)?;
    let btf = Btf::from_system()?;
    let mut exit = Floor::empty(c"sys_exit", &btf)?;
    let mut both = [Floor::empty(c"sys_exit", &btf)?, Floor::empty(c"sys_enter", &btf)?];
    let mut clocks = [Floor::reading_clock(c"sys_exit", &btf)?, Floor::reading_clock(c"sys_enter", &btf)?];
    drop(btf);
    let mut halves = halves(&options.flags)?;

    let mut legs = vec![
        Leg { name: EXIT.into(), switch: Box::new(|on| exit.switch(on)) },
        Leg {
            name: BOTH.into(),
            switch: Box::new(|on| both.iter_mut().try_for_each(|half| half.switch(on))),
        },
        Leg {
            name: CLOCKS.into(),
            switch: Box::new(|on| clocks.iter_mut().try_for_each(|half| half.switch(on))),
        },
        Leg { name: NOTHING.into(), switch: Box::new(|_| Ok(())) },
    ];
    for (mode, half) in &mut halves {
        legs.push(Leg { name: mode.name.into(), switch: Box::new(|on| half.switch(on)) });
    }
    let found = legs::run_all(&mut worker, &mut legs, options, LENGTH, PEER_LENGTH, &PEERS)?;
    drop(legs);

    let of = |name: &str| found.alone.of(name);
    let mut rows = vec![
        Row::plain("bare getppid", &found.alone.bare),
        Row::plain(EXIT, of(EXIT)),
        Row::against(BOTH, of(BOTH), "F1", of(EXIT), None),
        Row::against(CLOCKS, of(CLOCKS), "F2", of(BOTH), None),
        // Zero, as far as it can be told from the noise.
        Row::against(NOTHING, of(NOTHING), "F1", of(EXIT), Some(Target { name: "P6", most: 0.1 })),
    ];
    for (mode, _) in &halves {
        let floor = if mode.floor == EXIT { "F1" } else { "F2" };
        let what = format!("agent, {}", mode.name);
        rows.push(Row::against(what, of(mode.name), floor, of(mode.floor), Some(mode.target)));
        if mode.name == "full" {
            rows.push(Row::against("the same", of(mode.name), "F3", of(CLOCKS), None));
        }
    }
    // The mode that is in force unless somebody asks for another one.
    let usual = halves.iter().map(|(mode, _)| mode.name).find(|name| *name == "default").unwrap_or("full");
    rows.extend(found.beside("agent", usual, &PEERS));
    let mut notes = notes(&halves);
    notes.extend(found.notes);
    Ok(Report { title: "What is added to a system call".into(), unit: "ns", rows, notes })
}

/// The kernel half in every mode that the agent has. One that has no modes times every call.
fn halves(flags: &[String]) -> Result<Vec<(&'static Mode, Half)>> {
    let mut halves = Vec::new();
    for mode in &MODES {
        let with_mode = ["--sensors-syscalls-mode".to_owned(), mode.name.to_owned()];
        let flags: Vec<_> = with_mode.into_iter().chain(flags.iter().cloned()).collect();
        if let Some(half) = Half::load(&flags)? {
            halves.push((mode, half));
        }
    }
    if halves.is_empty() {
        let full = &MODES[2];
        halves.extend(Half::load(flags)?.map(|half| (full, half)));
    }
    Ok(halves)
}

fn notes(halves: &[(&'static Mode, Half)]) -> Vec<String> {
    let missing: Vec<_> = MODES
        .iter()
        .map(|mode| mode.name)
        .filter(|name| halves.iter().all(|(mode, _)| mode.name != *name))
        .collect();
    if missing.is_empty() {
        Vec::new()
    } else {
        vec![format!("Modes that this agent does not have: {}.", missing.join(", "))]
    }
}
