//! What a node's pods cost: the agent's memory and CPU time, its page of metrics, and what a Prometheus stores of that.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use podwitness::identity::{Tree, Wanted};

use crate::{
    Options,
    agent::Agent,
    child,
    report::{Report, Row, Target},
    worker,
};

const NODES: [usize; 4] = [10, 100, 500, MANY];
/// With so many, nothing is folded, and the agent's memory has a bound.
const MANY: usize = 1000;
/// Of this many pods, what Prometheus stores is looked at.
const STORED: usize = 100;
/// Until each pod has done everything it does, and the agent has looked around.
const SETTLED: Duration = Duration::from_secs(10);
const SCRAPES: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// Pods look up from their work so often.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// By a Prometheus, which in the end holds 120 samples of each series: as many as it puts into one chunk.
const SCRAPED: Duration = Duration::from_secs(60);
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for count in NODES {
        let pods = Pods::start(count)?;
        let mut flags = options.flags.clone();
        if count == MANY {
            flags.extend(["--metrics-series-limit", "0"].map(String::from));
        }
        let agent = Agent::start(&options.agent, &flags)?;
        thread::sleep(SETTLED);
        let (begun, cpu) = (Instant::now(), agent.cpu()?);
        let (mut scrapes, mut pages) = (Vec::new(), Vec::new());
        for _ in 0..SCRAPES {
            thread::sleep(PAUSE);
            let asked = Instant::now();
            pages.push(agent.page()?);
            scrapes.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        let share = (agent.cpu()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        let (mapped, resident) = (agent.mapped()?, agent.resident()?);
        let series =
            |page: &String| page.lines().filter(|line| line.starts_with("podwitness_")).count() as f64;
        let of = |what: &str, sample: &[f64]| Row::plain(format!("{count} pods: {what}"), sample);
        let each = |figure: &dyn Fn(&String) -> f64| pages.iter().map(figure).collect::<Vec<_>>();
        rows.extend([
            of("series on the page", &each(&series)),
            of("page, MB", &each(&|page| page.len() as f64 / 1e6)),
            of("scrape, ms", &scrapes),
            of("the agent's own memory, MiB", &[(resident - mapped) as f64 / MIB]),
            of("kernel memory in all maps, MiB", &[agent.kernel_memory()? / MIB]),
            of("the agent's CPU, % of one, with two scrapes per second", &[share * 100.0]),
        ]);
        if count == MANY {
            let target = Target { name: "P14", most: 28.0 };
            rows.push(Row::bounded("1000 pods: resident memory, MiB", &[resident as f64 / MIB], target));
        }
        if count == STORED {
            match Stored::of(agent.metrics())? {
                Some(Stored { samples, bytes }) => {
                    rows.push(of("Prometheus' bytes per sample", &[bytes as f64 / samples as f64]));
                }
                None => {
                    notes.push("There is no `prometheus` in PATH: what it stores was not measured.".into());
                }
            }
        }
        drop(pods);
    }
    notes.push(
        "Each pod has one container, and in each second makes one connection, asks for another that is refused, and \
         calls some thirty different system calls, of which a few fail."
            .into(),
    );
    Ok(Report { title: "What a node's pods cost".into(), unit: "figure", rows, notes })
}

/// Containers at work, in cgroups as a kubelet makes them.
struct Pods {
    workers: Vec<Child>,
    /// In the order of their making.
    made: Vec<PathBuf>,
}

impl Pods {
    fn start(count: usize) -> Result<Self> {
        let tree = Tree::find(Wanted::Auto)?;
        let mut pods = Self { workers: Vec::new(), made: Vec::new() };
        for number in 0..count {
            let uid = format!("{:08x}-be7c-4000-8000-{number:012x}", std::process::id());
            let container = format!("{:0>40x}{number:024x}", std::process::id());
            let mut directory = tree.directory().to_owned();
            for part in ["kubepods", "burstable", &format!("pod{uid}"), &container] {
                directory.push(part);
                match fs::create_dir(&directory) {
                    Ok(()) => pods.made.push(directory.clone()),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error).with_context(|| format!("make {}", directory.display())),
                }
            }
            let worker = Command::new(env::current_exe()?)
                .args([worker::COMMAND, worker::POD])
                .stdin(Stdio::null())
                .spawn()
                .context("start a pod")?;
            let pid = worker.id();
            pods.workers.push(worker);
            fs::write(directory.join("cgroup.procs"), pid.to_string())
                .context("move a pod into its cgroup")?;
        }
        Ok(pods)
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| child::signal(worker, libc::SIGTERM));
        for worker in &mut self.workers {
            child::end(worker, libc::SIGTERM);
            let _ = fs::remove_dir_all(files_of(worker.id()));
        }
        for directory in self.made.iter().rev() {
            // A process that has ended leaves its cgroup a moment later.
            let begun = Instant::now();
            while fs::remove_dir(directory).is_err() && begun.elapsed() < Duration::from_secs(2) {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Where a pod has its files. It may be ended while there are some.
fn files_of(pid: u32) -> PathBuf {
    env::temp_dir().join(format!("podwitness-bench-pod-{pid}"))
}

/// What a pod does in a second.
pub(crate) struct Work {
    open: TcpListener,
    /// Nobody listens there.
    closed: (Ipv4Addr, u16),
    directory: PathBuf,
}

impl Work {
    pub(crate) fn new() -> io::Result<Self> {
        let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let directory = files_of(std::process::id());
        Ok(Self { open, closed: (Ipv4Addr::LOCALHOST, 1), directory })
    }

    /// Failures are part of it.
    pub(crate) fn once(&self) -> io::Result<()> {
        let mut client = TcpStream::connect(self.open.local_addr()?)?;
        let (mut server, _) = self.open.accept()?;
        client.set_nodelay(true)?;
        client.write_all(&[0; 512])?;
        server.read_exact(&mut [0; 512])?;
        let _ = TcpStream::connect(self.closed);
        for _ in 0..10 {
            fs::create_dir_all(&self.directory)?;
            let (file, other) = (self.directory.join("file"), self.directory.join("other"));
            fs::write(&file, [0; 1024])?;
            fs::read(&file)?;
            fs::rename(&file, &other)?;
            fs::copy(&other, &file)?;
            let _ = fs::metadata(&file)?;
            let _ = fs::read(self.directory.join("nothing"));
            let _ = fs::create_dir(&self.directory);
            let _ = fs::read_dir(&self.directory)?.count();
            fs::remove_file(&other)?;
            fs::remove_dir_all(&self.directory)?;
            env::current_dir()?;
            thread::spawn(|| ()).join().map_err(|_| io::Error::other("a thread panicked"))?;
        }
        Ok(())
    }
}

/// What a Prometheus has put on the disk.
struct Stored {
    samples: u64,
    bytes: u64,
}

impl Stored {
    /// Lets one scrape the agent for a while and write a block. None where there is no Prometheus.
    fn of(agent: &str) -> Result<Option<Self>> {
        let home = env::temp_dir().join(format!("podwitness-bench-prometheus-{}", std::process::id()));
        fs::create_dir_all(&home)?;
        let config = home.join("prometheus.yml");
        fs::write(
            &config,
            format!(
                "scrape_configs:\n- job_name: podwitness\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  \
                 static_configs:\n  - targets: ['{agent}']\n"
            ),
        )?;
        // Its port has to be said: it doesn't tell one that it was given.
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string();
        let started = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .args([&format!("--web.listen-address={listen}"), "--web.enable-admin-api"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut server = match started {
            Ok(server) => server,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("start Prometheus"),
        };
        let stored = Self::of_server(&listen, &home.join("data/snapshots"));
        child::end(&mut server, libc::SIGTERM);
        let _ = fs::remove_dir_all(home);
        stored.map(Some)
    }

    fn of_server(listen: &str, snapshots: &Path) -> Result<Self> {
        let begun = Instant::now();
        let samples = loop {
            thread::sleep(Duration::from_millis(500));
            if begun.elapsed() > SCRAPED {
                break appended(listen)?;
            }
        };
        ask(listen, "POST", "/api/v1/admin/tsdb/snapshot")?;
        Ok(Self { samples, bytes: bytes_in(snapshots)? })
    }
}

/// Samples that it has taken up so far.
fn appended(listen: &str) -> Result<u64> {
    let page = ask(listen, "GET", "/metrics")?;
    let line = page.lines().find(|line| line.starts_with("prometheus_tsdb_head_samples_appended_total"));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    count.map(|count| count as u64).context("Prometheus doesn't say how many samples it has")
}

fn ask(address: &str, method: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("reach Prometheus")?;
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.split(' ').nth(1) != Some("200") {
        bail!("Prometheus says {}", answer.lines().next().unwrap_or_default());
    }
    Ok(answer)
}

fn bytes_in(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { bytes_in(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
