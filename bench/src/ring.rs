//! How often the reader of the rings wakes up for a thousand events.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    Options,
    agent::Agent,
    report::{Report, Row, Target},
    worker::{Work, Worker},
};

const ROUNDS: usize = 10;
const LENGTH: Duration = Duration::from_millis(500);
/// Below this rate the timer decides how many wakeups come on an event.
const RATE: f64 = 10_000.0;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut worker = Worker::start(Work::Connections)?;
    let flags = ["--events-rate", "0"].map(str::to_owned).into_iter().chain(options.flags.iter().cloned());
    let agent = Agent::start(&options.agent, &flags.collect::<Vec<_>>())?;
    let (mut wakeups, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begun, events, sleeps) = (Instant::now(), agent.events()?, agent.sleeps("ring-reader")?);
        worker.leg(LENGTH)?;
        let (seconds, sleeps) = (begun.elapsed().as_secs_f64(), agent.sleeps("ring-reader")? - sleeps);
        let events = (agent.events()? - events) as f64;
        if events == 0.0 {
            bail!("the agent has seen no event");
        }
        wakeups.push(sleeps as f64 * 1000.0 / events);
        rates.push(events / seconds);
    }
    let mut notes = Vec::new();
    if rates.iter().any(|rate| *rate < RATE) {
        notes.push(format!("Some rounds had fewer than {RATE} events per second: their figures say little."));
    }
    let rows = vec![
        Row::plain("events per second", &rates),
        Row::bounded("wakeups per 1,000 events", &wakeups, Target { name: "P8", most: 2.0 }),
    ];
    Ok(Report { title: "How often the reader wakes up".into(), unit: "figure", rows, notes })
}
