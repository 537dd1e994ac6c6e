//! What the reader of the rings takes: wakeups for a thousand events, CPU time for each.

use std::{
    thread,
    time::{Duration, Instant},
};

use agent_ebpf::contract::stats::SensorId;
use anyhow::{Context as _, Result, bail};

use crate::{
    Options,
    agent::Agent,
    half::Half,
    report::{Report, Row, Target},
    tcp::only,
    worker::{Work, Worker},
};

/// The agent's thread.
const READER: &str = "ring-reader";
const ROUNDS: usize = 10;
const LENGTH: Duration = Duration::from_millis(500);
/// Below this rate the timer decides how many wakeups come on an event.
const RATE: f64 = 10_000.0;

/// Long enough for some ten thousand events, and of which [`RING`] holds all.
const FILLING: Duration = Duration::from_millis(200);
/// Of both readers, how often one reads in a round: they take turns, since the machine changes its speed.
const TURNS: usize = 4;
const RING: &str = "8MiB";
/// Until the agent has read what was there when it was let go.
const READ: Duration = Duration::from_secs(10);
/// Asking how many events there were makes a few of its own.
const ASKING: u64 = 100;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut worker = Worker::start(Work::Connections)?;
    let flags = ["--events-rate", "0", "--ring-size", RING].map(str::to_owned);
    let flags: Vec<_> = flags.into_iter().chain(options.flags.iter().cloned()).collect();
    // Before there is an agent: two that load at once would wait for each other.
    let half = Half::load(&only(&[SensorId::Tcp]).chain(flags.clone()).collect::<Vec<_>>())?;
    let (mut bare, mut half) = half.context("the agent refuses these flags")?.apart()?;
    let agent = Agent::start(&options.agent, &flags)?;
    let (mut wakeups, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begun, events, sleeps) = (Instant::now(), agent.events()?, agent.sleeps(READER)?);
        worker.leg(LENGTH)?;
        let (seconds, sleeps) = (begun.elapsed().as_secs_f64(), agent.sleeps(READER)? - sleeps);
        let events = (agent.events()? - events) as f64;
        if events == 0.0 {
            bail!("the agent has seen no event");
        }
        wakeups.push(sleeps as f64 * 1000.0 / events);
        rates.push(events / seconds);
    }
    let (mut floor, mut read) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mut by_bare, mut by_agent) = (Taken::default(), Taken::default());
        for _ in 0..TURNS {
            half.switch(true)?;
            worker.leg(FILLING)?;
            half.switch(false)?;
            let begun = Instant::now();
            let events = bare.take()?;
            by_bare.add(events, begun.elapsed());

            let events = settled(&agent)?;
            let before = agent.held(|| worker.leg(FILLING).and_then(|_| Rested::now(&agent)))?;
            let cpu = before.until_next(&agent)?;
            by_agent.add(settled(&agent)? - events, cpu);
        }
        floor.push(by_bare.each_ns());
        read.push(by_agent.each_ns());
    }
    let mut notes = Vec::new();
    if rates.iter().any(|rate| *rate < RATE) {
        notes.push(format!("Some rounds had fewer than {RATE} events per second: their figures say little."));
    }
    let rows = vec![
        Row::plain("events per second", &rates),
        Row::bounded("wakeups per 1,000 events", &wakeups, Target { name: "P8", most: 2.0 }),
        Row::plain("R0: an event taken out of a full ring, ns", &floor),
        Row::against(
            "the same, decoded and booked",
            &read,
            "R0",
            &floor,
            Some(Target { name: "P9", most: 3.0 }),
        ),
    ];
    Ok(Report { title: "What the reader of the rings takes".into(), unit: "figure", rows, notes })
}

/// Events that a reader has taken out, and how long that took it.
#[derive(Default)]
struct Taken {
    events: u64,
    time: Duration,
}

impl Taken {
    fn add(&mut self, events: u64, time: Duration) {
        self.events += events;
        self.time += time;
    }

    fn each_ns(&self) -> f64 {
        self.time.as_nanos() as f64 / self.events as f64
    }
}

/// How often the agent's reader has come to rest, and the CPU time that it had taken by then.
struct Rested {
    times: u64,
    cpu: Duration,
}

impl Rested {
    fn now(agent: &Agent) -> Result<Self> {
        Ok(Self { times: agent.sleeps(READER)?, cpu: agent.cpu_of(READER)? })
    }

    /// The CPU time that it takes until it rests the next time. When it looks at empty rings later on, that is for no event.
    fn until_next(&self, agent: &Agent) -> Result<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < READ {
            let now = Self::now(agent)?;
            if now.times > self.times {
                return Ok(now.cpu - self.cpu);
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("the agent's reader didn't rest in {READ:?}")
    }
}

/// The events that the agent has taken out once no more come than those of the question.
fn settled(agent: &Agent) -> Result<u64> {
    let begun = Instant::now();
    let mut before = agent.events()?;
    while begun.elapsed() < READ {
        thread::sleep(Duration::from_millis(100));
        let now = agent.events()?;
        if now - before < ASKING {
            return Ok(now);
        }
        before = now;
    }
    bail!("the agent still reads events after {READ:?}, although none are made")
}
