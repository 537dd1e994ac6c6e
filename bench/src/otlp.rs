//! What sending spans to a collector takes, beside sending their bytes when they are there already.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use agent_ebpf::contract::event::EventKind;
use anyhow::{Context as _, Result, anyhow, bail};
use podwitness::{
    cli,
    config::Config,
    identity::{
        Bounds, Container, Registry, Resolution, Tree,
        names::{Container as ContainerName, NameBounds, Names, Pod, Source, Workload},
    },
    observation::{Detail, Observation, Process, Tcp, Traffic},
    otlp::{self, Running, Seen, Signal, Sink},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};

use crate::{
    Options,
    report::{Report, Row, Target},
};

/// In each leg: as many as the queue takes.
const SPANS: usize = 2048;
const CONTAINERS: usize = 100;
/// How often is looked whether all have been sent.
const LOOK: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let seen = connections()?;
    let collector = Collector::start()?;
    let exporter = |compression| Exporter::new(collector.address, compression, options);
    let (mut plain, mut gzip, mut zstd) = (exporter("none")?, exporter("gzip")?, exporter("zstd")?);
    // What the floor sends; and nothing is done for the first time when it is measured.
    plain.send(&seen)?;
    let requests = collector.take();
    let bytes = requests.iter().map(|(_, body)| body.len()).sum::<usize>();
    gzip.send(&seen)?;
    zstd.send(&seen)?;
    let mut floor = Bare::connect(collector.address)?;
    let (mut sent, mut made, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let (mut gzipped, mut zstandard) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let begun = cpu_time()?;
        requests.iter().try_for_each(|(head, body)| floor.post(head, body))?;
        sent.push(since(begun)?);
        let [making, all] = plain.send(&seen)?;
        made.push(making);
        whole.push(all);
        gzipped.push(gzip.send(&seen)?[1]);
        zstandard.push(zstd.send(&seen)?[1]);
        collector.take();
    }
    let rows = vec![
        Row::plain("O0: sending the bytes of one, ns", &sent),
        Row::against("making one, ns", &made, "O0", &sent, None),
        Row::against("a span, ns", &whole, "O0", &sent, None),
        Row::bounded("a span, µs", &micro(&whole), Target { name: "P16", most: 1.0 }),
        Row::against("a span with gzip, ns", &gzipped, "O0", &sent, None),
        Row::against("a span with zstd, ns", &zstandard, "O0", &sent, None),
    ];
    let notes = vec![format!("{SPANS} spans of {CONTAINERS} containers, {} bytes each.", bytes / SPANS)];
    Ok(Report { title: "What sending a span takes".into(), unit: "CPU time", rows, notes })
}

fn micro(nanoseconds: &[f64]) -> Vec<f64> {
    nanoseconds.iter().map(|span| span / 1e3).collect()
}

/// The agent's own, in the one thread that measures.
struct Exporter {
    runtime: Runtime,
    sink: Sink,
    running: Running,
    _stop: watch::Sender<bool>,
}

impl Exporter {
    fn new(collector: SocketAddr, compression: &str, options: &Options) -> Result<Self> {
        let endpoint = format!("http://{collector}");
        let words = [
            ["--otlp-endpoint", &endpoint],
            ["--otlp-compression", compression],
            ["--otlp-logs", "false"],
            ["--otlp-metrics", "false"],
            ["--otlp-sample-rate", "0"],
            ["--otlp-delay", "1ms"],
        ];
        let words = ["podwitness"].into_iter().chain(words.into_iter().flatten());
        let words = words.chain(options.flags.iter().map(String::as_str)).map(OsString::from);
        let (config, _) =
            Config::load(&cli::parse(words)?.flags, []).map_err(|errors| anyhow!("{errors}"))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopping) = watch::channel(false);
        let entered = runtime.enter();
        let (sink, running) = otlp::start(&config, &stopping)?.context("nothing is sent")?;
        drop(entered);
        Ok(Self { runtime, sink, running, _stop: stop })
    }

    /// CPU time for each span: until it waits, and until it is sent.
    fn send(&mut self, seen: &[Seen]) -> Result<[f64; 2]> {
        let counts = self.running.figures.of(Signal::Traces);
        let due = counts.sent() + SPANS as u64;
        let begun = cpu_time()?;
        self.sink.put(seen);
        let made = since(begun)?;
        let deadline = Instant::now() + PATIENCE;
        self.runtime.block_on(async {
            while counts.sent() < due && counts.all_dropped() == 0 && Instant::now() < deadline {
                tokio::time::sleep(LOOK).await;
            }
        });
        if counts.sent() != due {
            bail!("{} of {due} spans were sent, {} dropped", counts.sent(), counts.all_dropped());
        }
        Ok([made, since(begun)?])
    }
}

/// Connections of clients in pods, each from connect(2) to its close.
fn connections() -> Result<Vec<Seen>> {
    let containers = containers()?;
    let mut seen = Vec::with_capacity(2 * SPANS);
    for number in 0..SPANS {
        let container = &containers[number % CONTAINERS];
        let labels = container.labels();
        let local = Ipv4Addr::from(0x0a00_0000 + number as u32 % CONTAINERS as u32);
        for kind in [EventKind::TcpConnect, EventKind::TcpClose] {
            let is_close = kind == EventKind::TcpClose;
            let tcp = Tcp {
                local_address: IpAddr::V4(local),
                local_port: 32_768 + number as u16,
                remote_address: IpAddr::V4(Ipv4Addr::new(10, 96, 12, 34)),
                remote_port: 5432,
                peer: None,
                duration: Some(if is_close { 0.25 } else { 0.000_4 }),
                reason: None,
                errno: None,
                side: Some("client"),
                netns: 4_026_532_000 + (number % CONTAINERS) as u32,
                traffic: is_close.then_some(Traffic {
                    sent_bytes: 12_345,
                    received_bytes: 678_901,
                    retransmits: 0,
                    rtt: Some(0.000_4),
                }),
            };
            let pid = 1000 + (number % CONTAINERS) as u32;
            let process = Some(Process { pid, tid: pid + 7, comm: "checkout-worker".into() });
            seen.push(Seen {
                observation: Observation {
                    time: jiff::Timestamp::UNIX_EPOCH,
                    kind,
                    labels: Arc::clone(&labels),
                    process,
                    detail: Detail::Tcp(tcp),
                },
                boot_ns: 1_000_000_000 * (1 + u64::from(is_close)) + number as u64,
                offset_ns: 1_700_000_000_000_000_000,
                cgroup_id: container.cgroup_id,
                container: Some(Arc::clone(container)),
            });
        }
    }
    Ok(seen)
}

fn containers() -> Result<Vec<Arc<Container>>> {
    let bounds = NameBounds { containers: CONTAINERS, grace: PATIENCE };
    let names = Arc::new(Names::new(bounds));
    let bounds = Bounds { containers: CONTAINERS, hold: Duration::ZERO, grace: PATIENCE };
    let registry =
        Registry::new(Tree::find(Config::default().identity.hierarchy)?, bounds, Arc::clone(&names));
    let now = Instant::now();
    (0..CONTAINERS)
        .map(|number| {
            let (uid, id) = (format!("5ca1ab1e-0000-4000-8000-{number:012}"), format!("{number:064x}"));
            let workload = Some(Workload { kind: "Deployment".into(), name: "checkout".into() });
            let (namespace, name) = ("shop".into(), format!("checkout-5d9c7b6f4-{number:05}"));
            let pod = Pod { uid: uid.clone(), namespace, name, workload, ..Pod::default() };
            names.put_pod(Source::Kubernetes, pod, now);
            let container = ContainerName {
                id: id.clone(),
                pod_uid: Some(uid.clone()),
                name: "app".into(),
                ..ContainerName::default()
            };
            names.put_container(Source::Kubernetes, container, now);
            // No cgroup has such a number.
            let cgroup_id = u64::MAX / 2 + number as u64;
            registry.born(cgroup_id, format!("/kubepods/burstable/pod{uid}/{id}"), now);
            match registry.resolve(cgroup_id, now) {
                Resolution::Known(container) => Ok(container),
                other => bail!("a container is not known: {other:?}"),
            }
        })
        .collect()
}

/// Head and body of what was posted.
type Posted = (Vec<u8>, Vec<u8>);

/// Takes everything, in threads of its own, and does nothing with it.
struct Collector {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Collector {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let posted = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&posted);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let posted = Arc::clone(&shared);
                // It ends with its connection.
                thread::spawn(move || answer(stream, &posted));
            }
        });
        Ok(Self { address, posted })
    }

    /// What has come since this was last called.
    fn take(&self) -> Vec<Posted> {
        std::mem::take(&mut self.posted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn answer(mut stream: TcpStream, posted: &Mutex<Vec<Posted>>) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    stream.set_nodelay(true)?;
    loop {
        let (mut head, mut length) = (Vec::new(), 0);
        while !head.ends_with(b"\r\n\r\n") {
            let begin = head.len();
            if reader.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
            let line = std::str::from_utf8(&head[begin..])?.to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        posted.lock().unwrap_or_else(PoisonError::into_inner).push((head, body));
        stream.write_all(ANSWER)?;
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A client that only sends, and waits for the answer.
struct Bare(TcpStream);

impl Bare {
    fn connect(collector: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(collector)?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    fn post(&mut self, head: &[u8], body: &[u8]) -> Result<()> {
        self.0.write_all(head)?;
        self.0.write_all(body)?;
        Ok(self.0.read_exact(&mut [0; ANSWER.len()])?)
    }
}

/// Of this thread.
fn cpu_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a time that is ours.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if answer != 0 {
        return Err(std::io::Error::last_os_error()).context("read the thread's CPU time");
    }
    Ok(Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec)?))
}

/// Nanoseconds of CPU time for each span.
fn since(begun: Duration) -> Result<f64> {
    Ok((cpu_time()? - begun).as_nanos() as f64 / SPANS as f64)
}
