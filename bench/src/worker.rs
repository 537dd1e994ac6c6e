//! The workload: a process of its own, on a CPU of its own, in a cgroup of its own. It is told when to work and says
//! what the work took. It is not the agent's process, whose calls the agent would pass over.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    mem,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use podwitness::identity::{Tree, Wanted};

use crate::{network, pods, statistics::undisturbed};

/// The first argument of a process that is to be a worker.
pub(crate) const COMMAND: &str = "worker";

/// The work of a worker that is one of many pods.
pub(crate) const POD: &str = "pod";

/// What a worker does over and over again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// getppid(2), the cheapest call that enters the kernel.
    Calls,
    /// A TCP connection over loopback from connect(2) to the close at both ends.
    Connections,
    /// The same, 12,500 times a second: 50,000 events.
    Steady,
    /// The same, 50 times a second.
    Trickle,
}

impl Work {
    const ALL: [Self; 4] = [Self::Calls, Self::Connections, Self::Steady, Self::Trickle];

    fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Connections => "connections",
            Self::Steady => "steady",
            Self::Trickle => "trickle",
        }
    }

    /// How often in a chunk, of which the undisturbed ones count.
    fn chunk(self) -> u32 {
        match self {
            Self::Calls => 500,
            Self::Connections | Self::Steady => 20,
            Self::Trickle => 1,
        }
    }

    /// From the beginning of a chunk to that of the next; one after the other without.
    fn pace(self) -> Option<Duration> {
        match self {
            Self::Calls | Self::Connections => None,
            Self::Steady => Some(Duration::from_micros(1600)),
            Self::Trickle => Some(Duration::from_millis(20)),
        }
    }
}

/// A worker, seen from the bench. It ends with its standard input.
pub(crate) struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    cgroup: PathBuf,
}

impl Worker {
    /// Starts a worker on the last CPU, and keeps this process off it.
    pub(crate) fn start(work: Work) -> Result<Self> {
        let cpus = allowed_cpus()?;
        let (last, others) = cpus.split_last().context("no CPU to run on")?;
        if !others.is_empty() {
            run_on(others)?;
        }
        let tree = Tree::find(Wanted::Auto)?;
        let cgroup = tree.directory().join(format!("podwitness-bench-{}", std::process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("make the cgroup {}", cgroup.display()))?;
        let mut child = Command::new(env::current_exe()?)
            .args([COMMAND, work.name(), &last.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the worker")?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let worker = Self { child, orders, answers, cgroup };
        fs::write(worker.cgroup.join("cgroup.procs"), worker.child.id().to_string())
            .context("move the worker into its cgroup")?;
        Ok(worker)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it work for a while: nanoseconds that each piece of work took.
    pub(crate) fn leg(&mut self, length: Duration) -> Result<f64> {
        let orders = self.orders.as_mut().context("the worker has ended")?;
        writeln!(orders, "{}", length.as_micros()).context("the worker has ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().with_context(|| format!("the worker says {answer:?}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
        // A process that has ended leaves its cgroup a moment later.
        let begun = Instant::now();
        while fs::remove_dir(&self.cgroup).is_err() && begun.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The worker's own side.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments == [POD] {
        return pod();
    }
    let [work, cpu] = arguments else { bail!("a worker takes its work and its CPU") };
    let work = Work::ALL.into_iter().find(|known| known.name() == work).context("no such work")?;
    run_on(&[cpu.parse().context("no such CPU")?])?;
    let mut piece: Box<dyn FnMut() -> io::Result<()>> = match work {
        Work::Calls => Box::new(call),
        Work::Connections | Work::Steady | Work::Trickle => {
            network::of_its_own().context("make a network namespace")?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
            let address = listener.local_addr()?;
            Box::new(move || {
                let client = TcpStream::connect(address)?;
                let server = listener.accept()?;
                drop(client);
                drop(server);
                Ok(())
            })
        }
    };
    for order in io::stdin().lines() {
        let length = Duration::from_micros(order?.parse().context("not a number of microseconds")?);
        println!("{}", leg(length, work, &mut piece)?);
    }
    Ok(())
}

/// Nanoseconds per piece of work in a chunk that nobody interrupted.
fn leg(length: Duration, work: Work, mut piece: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let mut chunks = Vec::with_capacity(4096);
    let begun = Instant::now();
    while begun.elapsed() < length || chunks.is_empty() {
        let chunk_begun = Instant::now();
        for _ in 0..work.chunk() {
            piece()?;
        }
        chunks.push(chunk_begun.elapsed().as_nanos() as f64 / f64::from(work.chunk()));
        // What was late is made up for, so that the rate holds on average.
        let due = work.pace().and_then(|pace| pace.checked_mul(u32::try_from(chunks.len()).ok()?));
        if let Some(wait) = due.and_then(|due| due.checked_sub(begun.elapsed())) {
            thread::sleep(wait);
        }
    }
    Ok(undisturbed(&mut chunks))
}

/// Until somebody ends it.
fn pod() -> Result<()> {
    let work = pods::Work::new()?;
    loop {
        work.once()?;
        thread::sleep(pods::BEAT);
    }
}

fn call() -> io::Result<()> {
    // SAFETY: getppid(2) takes nothing and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_getppid) };
    Ok(())
}

fn allowed_cpus() -> Result<Vec<usize>> {
    // SAFETY: a set of bits may be all zeros, and the kernel writes no more than its size.
    let (outcome, set) = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        (libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), set)
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error()).context("ask for the CPUs");
    }
    // SAFETY: the number is below the size of the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Keeps this thread, and what it starts, on these CPUs.
fn run_on(cpus: &[usize]) -> Result<()> {
    // SAFETY: a set of bits may be all zeros; the numbers are of CPUs that there are, which CPU_SET checks.
    let outcome = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error()).context("choose the CPU");
    }
    Ok(())
}
