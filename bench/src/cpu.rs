//! What the agent's own process takes of a CPU when others make system calls: it has no part in them.

use std::{thread, time::Duration};

use anyhow::Result;

use crate::{
    Options,
    agent::Agent,
    report::{Report, Row, Target},
    worker::{Work, Worker},
};

const ROUNDS: usize = 8;
const LENGTH: Duration = Duration::from_secs(2);
/// What the agent does once after its start has settled by then.
const SETTLED: Duration = Duration::from_secs(3);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut worker = Worker::start(Work::Calls)?;
    let agent = Agent::start(&options.agent, &options.flags)?;
    thread::sleep(SETTLED);
    let (mut idle, mut gained, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = agent.cpu()?;
        thread::sleep(LENGTH);
        let between = agent.cpu()?;
        let per_call = worker.leg(LENGTH)?;
        let after = agent.cpu()?;
        let share = |cpu: Duration| cpu.as_secs_f64() / LENGTH.as_secs_f64();
        idle.push(share(between - before));
        // The worker does nothing else meanwhile: its CPU time is the time that has passed.
        gained.push(share(after - between) - share(between - before));
        rates.push(1e3 / per_call);
    }
    let rows = vec![
        Row::plain("million system calls per second", &rates),
        Row::plain("agent's CPU while nothing happens", &idle),
        Row::bounded("agent's CPU gained, of the workload's", &gained, Target { name: "P13", most: 0.002 }),
    ];
    Ok(Report { title: "What the agent's process takes".into(), unit: "figure", rows, notes: Vec::new() })
}
