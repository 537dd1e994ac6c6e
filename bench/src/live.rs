//! How long an event takes from the kernel to a reader's socket, and whether readers who don't read slow down a scrape.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    Options,
    agent::Agent,
    report::{Report, Row, Target},
    statistics::percentile,
    worker::{Work, Worker},
};

const ROUNDS: usize = 8;
const LENGTH: Duration = Duration::from_secs(2);
/// Scrapes go on for so long with each crowd.
const SCRAPING: Duration = Duration::from_secs(3);
/// What a reader's coming changes is done by then.
const SETTLED: Duration = Duration::from_millis(200);
/// As many as may read at once, less one that is measured.
const CROWD: usize = 63;
/// Beside the slow readers, clients that only begin to ask.
const HALVES: usize = 1000;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let flags = ["--events-rate", "0", "--debug-buffer", "65536"].map(str::to_owned);
    let flags: Vec<_> = flags.into_iter().chain(options.flags.iter().cloned()).collect();
    let agent = Agent::start(&options.agent, &flags)?;
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for (name, work) in [("at a trickle", Work::Trickle), ("at 50,000 events/s", Work::Steady)] {
        let mut worker = Worker::start(work)?;
        let (mut medians, mut tails, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let reading = Reading::start(&agent)?;
            thread::sleep(SETTLED);
            let begun = Instant::now();
            worker.leg(LENGTH)?;
            let seconds = begun.elapsed().as_secs_f64();
            let (mut delays, missed) = reading.end()?;
            if missed > 0 {
                notes.push(format!("The measuring reader itself missed {missed} events {name}."));
            }
            rates.push(delays.len() as f64 / seconds);
            medians.push(percentile(&mut delays, 0.5));
            tails.push(percentile(&mut delays, 0.99));
        }
        rows.push(Row::plain(format!("events per second, {name}"), &rates));
        let target = |most| Target { name: "P10", most };
        rows.push(Row::bounded(format!("kernel to socket {name}: p50, ms"), &medians, target(2.0)));
        rows.push(Row::bounded(format!("kernel to socket {name}: p99, ms"), &tails, target(12.0)));
    }
    let mut worker = Worker::start(Work::Steady)?;
    let (mut idle, mut slow) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for is_slow in [round % 2 == 0, round % 2 == 1] {
            let crowd = if is_slow { slow_ones(&agent) } else { idle_ones(&agent) }?;
            let figures = if is_slow { &mut slow } else { &mut idle };
            figures.push(scrapes(&agent, &mut worker)?);
            drop(crowd);
        }
    }
    rows.push(Row::plain("/metrics with idle readers: p99, ms", &idle));
    let target = Some(Target { name: "P10", most: 2.0 });
    rows.push(Row::against("/metrics with slow clients: p99, ms", &slow, "idle", &idle, target));
    notes.push(format!(
        "{CROWD} readers, idle or not reading at all; with the latter {HALVES} clients that only begin to ask. \
         The agent meanwhile tells 50,000 events/s."
    ));
    Ok(Report { title: "How live the stream is".into(), unit: "figure", rows, notes })
}

/// A reader that notes when bytes came, and looks at them later.
struct Reading {
    stream: TcpStream,
    thread: JoinHandle<Vec<(SystemTime, Vec<u8>)>>,
}

impl Reading {
    fn start(agent: &Agent) -> Result<Self> {
        let (stream, mut body) = subscribe(agent, "kind=tcp")?;
        let thread = thread::Builder::new().name("reader".into()).spawn(move || {
            let mut chunks = Vec::new();
            // What came along with the head.
            chunks.push((SystemTime::now(), body.buffer().to_vec()));
            let socket = body.get_mut();
            let mut buffer = vec![0; 256 << 10];
            while let Ok(length @ 1..) = socket.read(&mut buffer) {
                chunks.push((SystemTime::now(), buffer[..length].to_vec()));
            }
            chunks
        })?;
        Ok(Self { stream, thread })
    }

    /// Milliseconds that each event took, and how many didn't come.
    fn end(self) -> Result<(Vec<f64>, u64)> {
        // What the worker did last is told by then.
        thread::sleep(SETTLED);
        self.stream.shutdown(Shutdown::Both)?;
        let chunks = self.thread.join().map_err(|_| anyhow!("the reader panicked"))?;
        let (mut delays, mut missed, mut rest) = (Vec::new(), 0, Vec::new());
        for (came, chunk) in chunks {
            rest.extend(chunk);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<u8> = rest.drain(..whole).collect();
            for line in String::from_utf8_lossy(&lines).lines() {
                if line.contains("\"kind\":\"tcp.") {
                    delays.push(delay(line, came).with_context(|| format!("no time in {line}"))?);
                } else if let Some((_, lost)) = line.split_once("\"lost\":") {
                    missed +=
                        lost.split([',', '}']).next().and_then(|lost| lost.parse::<u64>().ok()).unwrap_or(0);
                }
            }
        }
        if delays.is_empty() {
            bail!("the reader got no event");
        }
        Ok((delays, missed))
    }
}

/// From the kernel's stamp to when the line had come, in milliseconds.
fn delay(line: &str, came: SystemTime) -> Option<f64> {
    let (time, _) = line.strip_prefix("{\"time\":\"")?.split_once('"')?;
    let happened = SystemTime::from(time.parse::<jiff::Timestamp>().ok()?);
    Some(match came.duration_since(happened) {
        Ok(delay) => delay.as_secs_f64() * 1e3,
        Err(early) => -early.duration().as_secs_f64() * 1e3,
    })
}

/// A stream up to its first event.
fn subscribe(agent: &Agent, query: &str) -> Result<(TcpStream, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(agent.debug()).context("reach the debug listener")?;
    write!(stream, "GET /v1/events?{query} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut body = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    body.read_line(&mut line)?;
    if !line.contains(" 200 ") {
        bail!("the debug listener says {line:?}");
    }
    while line.trim() != "" {
        line.clear();
        if body.read_line(&mut line)? == 0 {
            bail!("the debug listener broke off");
        }
    }
    Ok((stream, body))
}

/// Readers for whom nothing happens.
fn idle_ones(agent: &Agent) -> Result<Vec<TcpStream>> {
    (0..CROWD).map(|_| Ok(subscribe(agent, "kind=tcp&pod=nobody")?.0)).collect()
}

/// Readers for whom everything happens and who read nothing of it, and clients who never come to their question.
fn slow_ones(agent: &Agent) -> Result<Vec<TcpStream>> {
    let mut crowd = (0..CROWD).map(|_| Ok(subscribe(agent, "kind=tcp")?.0)).collect::<Result<Vec<_>>>()?;
    for _ in 0..HALVES {
        let mut stream = TcpStream::connect(agent.debug()).context("reach the debug listener")?;
        // Most find no place, and may know it by now.
        let _ = stream.write_all(b"GET /v1/events HTTP/1.1\r\nHo");
        crowd.push(stream);
    }
    Ok(crowd)
}

/// The 99th percentile of scrapes one after the other, while the worker works.
fn scrapes(agent: &Agent, worker: &mut Worker) -> Result<f64> {
    thread::scope(|scope| {
        let working = scope.spawn(|| worker.leg(SCRAPING));
        let mut took = Vec::new();
        while !working.is_finished() {
            let begun = Instant::now();
            agent.page()?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        working.join().map_err(|_| anyhow!("the worker's side panicked"))??;
        Ok(percentile(&mut took, 0.99))
    })
}
