//! What the agent takes before it has done anything: time, memory, a file.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    Options,
    agent::Agent,
    report::{Report, Row, Target},
};

const STARTS: usize = 10;
/// What the agent does once after its start has settled by then.
const SETTLED: Duration = Duration::from_secs(3);
/// An idle reader is watched for so long.
const IDLE: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let (mut took, mut sleeps) = (Vec::new(), Vec::new());
    let (mut resident, mut mapped, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    for start in 0..STARTS {
        // The kernel frees what the agent before has left.
        thread::sleep(SETTLED);
        let agent = Agent::start(&options.agent, &options.flags)?;
        took.push(agent.took.as_secs_f64() * 1e3);
        // These don't differ much from start to start.
        if start % 5 == 0 {
            thread::sleep(SETTLED);
            resident.push(agent.resident()? as f64 / MIB);
            mapped.push(agent.mapped()? as f64 / MIB);
            kernel.push(agent.kernel_memory()? / MIB);
            let before = agent.sleeps("ring-reader")?;
            thread::sleep(IDLE);
            sleeps.push((agent.sleeps("ring-reader")? - before) as f64 / IDLE.as_secs_f64());
        }
    }
    let binary =
        fs::metadata(&options.agent).with_context(|| format!("look at {}", options.agent.display()))?;
    let rows = vec![
        Row::bounded("start until all hooks are live, ms", &took, Target { name: "P15", most: 200.0 }),
        Row::bounded("binary, MB", &[binary.len() as f64 / 1e6], Target { name: "P15", most: 6.0 }),
        Row::bounded("resident memory at rest, MiB", &resident, Target { name: "P14", most: 10.0 }),
        Row::plain("of this the kernel's maps, MiB", &mapped),
        Row::bounded("kernel memory in all maps, MiB", &kernel, Target { name: "P14", most: 16.0 }),
        Row::bounded("wakeups of the reader at rest, per second", &sleeps, Target { name: "P8", most: 2.0 }),
    ];
    Ok(Report { title: "What the agent takes at rest".into(), unit: "figure", rows, notes: Vec::new() })
}
