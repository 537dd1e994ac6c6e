//! What is added to one TCP connection over loopback, both of its ends included.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use agent_ebpf::contract::stats::SensorId;
use anyhow::{Context as _, Result};
use podwitness::{kernel::Btf, sensor::SENSORS};

use crate::{
    Options,
    bpf::Floor,
    half::{Half, Ringside},
    legs::{self, Leg},
    peers::{self, Peer},
    report::{Report, Row, Target},
    statistics::Quartiles,
    worker::{Work, Worker},
};

const FLOOR: &str = "T1: empty program on inet_sock_set_state";
/// The kernel refuses a program that interrupts itself, and what a softirq does meanwhile would go unseen: it takes two.
const TWO: &str = "two empty programs";
/// What no program on this hook goes below that tells of the end of each connection, and how long it has lasted.
const FOLLOWING: &str = "least: remembers beginnings, sends a record at each end";
/// The same if nothing is to be missed.
const LEAST: &str = "least without a miss: the same, and an empty program";
const AGENT: &str = "agent, tcp alone";
/// With both sensors on, as they usually are, a refused connect(2) is found by a hook that is there anyway.
const BESIDE: &str = "agent, tcp beside syscalls";
const CALLS: &str = "agent, syscalls alone";
const BOTH: &str = "agent, syscalls and tcp";
/// The floor is two percent of a connection: it takes many of them to be told from the noise.
const LENGTH: Duration = Duration::from_millis(60);
const PEER_LENGTH: Duration = Duration::from_millis(300);
const PEERS: [(Peer, Option<Target>); 2] = [
    (peers::TCPLIFE, Some(Target { name: "P7", most: 0.05 })),
    (peers::TCPSTATES, Some(Target { name: "P7", most: 0.02 })),
];

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut worker = Worker::start(Work::Connections)?;
    let btf = Btf::from_system()?;
    let empty = || Floor::empty(c"inet_sock_set_state", &btf);
    let mut floor = empty()?;
    let mut two = [empty()?, empty()?];
    let mut following = Floor::following()?;
    let mut least = [Floor::following()?, empty()?];
    drop(btf);
    let (reading, mut alone) = half(&[SensorId::Tcp], options)?;
    let (_, mut calls) = half(&[SensorId::Syscalls], options)?;
    let (reading_beside, mut both) = half(&[SensorId::Syscalls, SensorId::Tcp], options)?;

    let mut legs = [
        Leg { name: FLOOR.into(), switch: Box::new(|on| floor.switch(on)) },
        Leg {
            name: TWO.into(),
            switch: Box::new(|on| two.iter_mut().try_for_each(|floor| floor.switch(on))),
        },
        Leg { name: FOLLOWING.into(), switch: Box::new(|on| following.switch(on)) },
        Leg {
            name: LEAST.into(),
            switch: Box::new(|on| least.iter_mut().try_for_each(|floor| floor.switch(on))),
        },
        Leg { name: AGENT.into(), switch: Box::new(|on| alone.switch(on)) },
        Leg { name: CALLS.into(), switch: Box::new(|on| calls.switch(on)) },
        Leg { name: BOTH.into(), switch: Box::new(|on| both.switch(on)) },
    ];
    let found = legs::run_all(&mut worker, &mut legs, options, LENGTH, PEER_LENGTH, &PEERS)?;
    drop(legs);

    let of = |name: &str| found.alone.of(name);
    let beside: Vec<_> = of(BOTH).iter().zip(of(CALLS)).map(|(both, calls)| both - calls).collect();
    let target = Some(Target { name: "P7", most: 3.0 });
    // In a single round a floor drowns in the noise.
    let [floor, least] =
        [FLOOR, LEAST].map(|floor| vec![Quartiles::of(of(floor).iter().copied()).median; beside.len()]);
    let mut rows = vec![
        Row::plain("bare connection", &found.alone.bare),
        Row::plain(FLOOR, of(FLOOR)),
        Row::against(TWO, of(TWO), "T1", &floor, None),
        Row::against(FOLLOWING, of(FOLLOWING), "T1", &floor, None),
        Row::against(LEAST, of(LEAST), "T1", &floor, None),
        Row::against(AGENT, of(AGENT), "T1", &floor, target),
        Row::against("the same", of(AGENT), "least without a miss", &least, None),
        Row::against(BESIDE, &beside, "T1", &floor, target),
        Row::against("the same", &beside, "least without a miss", &least, None),
    ];
    rows.extend(found.beside("agent", AGENT, &PEERS));
    let floors = PEERS.map(|(peer, _)| (peer, None));
    rows.extend(
        [("two empty", TWO), ("least", FOLLOWING), ("least without a miss", LEAST)]
            .iter()
            .flat_map(|(whose, leg)| found.beside(whose, leg, &floors)),
    );
    let mut notes = found.notes;
    notes.push(format!(
        "The agent's reader took out {} events meanwhile.",
        reading.events() + reading_beside.events()
    ));
    Ok(Report { title: "What is added to a TCP connection".into(), unit: "ns", rows, notes })
}

/// Flags by which the agent has these sensors and no other.
pub(crate) fn only(sensors: &[SensorId]) -> impl Iterator<Item = String> {
    let others = SENSORS.iter().map(|sensor| sensor.id).filter(|sensor| !sensors.contains(sensor));
    others.flat_map(|sensor| [format!("--sensors-{}", sensor.name().replace('_', "-")), "false".to_owned()])
}

/// A kernel half with these sensors, and who reads what it sends.
fn half(sensors: &[SensorId], options: &Options) -> Result<(Reading, Half)> {
    // Each container may send so many events a second; here they are to be sent all.
    let flags = only(sensors).chain(["--events-rate", "0"].map(str::to_owned));
    let flags: Vec<_> = flags.chain(options.flags.iter().cloned()).collect();
    let half = Half::load(&flags)?.context("the agent refuses these flags")?;
    let (rings, half) = half.apart()?;
    Ok((Reading::start(rings)?, half))
}

/// Somebody who reads the rings, as in the agent.
struct Reading {
    events: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Reading {
    fn start(mut rings: Ringside) -> Result<Self> {
        let (events, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopping) = (Arc::clone(&events), Arc::clone(&stop));
        let thread = thread::Builder::new().name("ring-reader".into()).spawn(move || {
            while !stopping.load(Ordering::Acquire) {
                match rings.read() {
                    Ok(read) => counter.fetch_add(read, Ordering::Relaxed),
                    Err(_) => break,
                };
            }
        })?;
        Ok(Self { events, stop, thread: Some(thread) })
    }

    fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
