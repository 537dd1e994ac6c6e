//! What is added to one TCP connection over loopback, both of its ends included.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use podwitness::kernel::Btf;

use crate::{
    Options,
    bpf::Floor,
    half::{Half, Ringside},
    legs::{self, Leg},
    peers::{self, Peer},
    report::{Report, Row, Target},
    worker::{Work, Worker},
};

const FLOOR: &str = "T1: empty program on inet_sock_set_state";
const AGENT: &str = "agent, tcp alone";
/// The floor is one percent of a connection: it takes many of them to be told from the noise.
const LENGTH: Duration = Duration::from_millis(60);
const PEER_LENGTH: Duration = Duration::from_millis(300);
/// Other sensors have other hooks.
pub(crate) const ALONE: [&str; 12] = [
    "--sensors-syscalls",
    "false",
    "--sensors-oom",
    "false",
    "--sensors-process",
    "false",
    "--sensors-cgroup",
    "false",
    "--sensors-io-uring",
    "false",
    "--sensors-calls",
    "false",
];

const PEERS: [(Peer, Option<Target>); 2] = [
    (peers::TCPLIFE, Some(Target { name: "P7", most: 0.05 })),
    (peers::TCPSTATES, Some(Target { name: "P7", most: 0.02 })),
];

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut worker = Worker::start(Work::Connections)?;
    let btf = Btf::from_system()?;
    let mut floor = Floor::empty("inet_sock_set_state", &btf)?;
    drop(btf);
    // Each container may send so many events a second; here they are to be sent all.
    let flags = ALONE.iter().chain(&["--events-rate", "0"]).map(|word| (*word).to_owned());
    let flags: Vec<_> = flags.chain(options.flags.iter().cloned()).collect();
    let half = Half::load(&flags)?.context("the agent refuses these flags")?;
    let (rings, mut half) = half.apart()?;
    let reading = Reading::start(rings)?;

    let mut legs = [
        Leg { name: FLOOR.into(), switch: Box::new(|on| floor.switch(on)) },
        Leg { name: AGENT.into(), switch: Box::new(|on| half.switch(on)) },
    ];
    let found = legs::run_all(&mut worker, &mut legs, options, LENGTH, PEER_LENGTH, &PEERS)?;
    drop(legs);

    let of = |name: &str| found.alone.of(name);
    let mut rows = vec![
        Row::plain("bare connection", &found.alone.bare),
        Row::plain(FLOOR, of(FLOOR)),
        Row::against(AGENT, of(AGENT), "T1", of(FLOOR), Some(Target { name: "P7", most: 3.0 })),
    ];
    rows.extend(found.beside(AGENT, &PEERS));
    let mut notes = found.notes;
    notes.push(format!("The agent's reader took out {} events meanwhile.", reading.events()));
    Ok(Report { title: "What is added to a TCP connection".into(), unit: "ns", rows, notes })
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
