//! The agent from start to stop: bind → load → attach → serve → detach → drain.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Instant, SystemTime},
};

use agent_ebpf::contract::stats::SensorId;
use anyhow::{Context as _, Result, anyhow};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinSet,
};
use tracing::Level;
use tracing_subscriber::{
    filter::{ParseError, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    clock::WallClock,
    config::{Config, Effective, SocketChoice, SyscallsHook},
    doctor::Table,
    http::{self, Debug, Gate, Health, Listener, Listeners, Scrapes, Tls},
    identity::{
        Bounds, Hierarchy, Registry, Selection, Tree,
        names::{
            NameBounds, Names, Source,
            cri::Cri,
            docker::Docker,
            kubernetes::{self, Kubernetes, cluster::Cluster},
        },
        peers::{PeerBounds, Peers, keep_own},
    },
    kernel::{
        CallSettings, Kernel, Loaded, Needs, Privilege, Room, Settings, Tracepoints, give_code_back,
        keep_no_large_blocks, map_memory, preempts_tracepoints,
    },
    ledger::Ledger,
    live::Hub,
    looks::Looks,
    metrics::{Agent, Exporter, Figures, KernelStats, Programs},
    mistake::Mistake,
    otlp,
    outlets::Outlets,
    reader::{Deliveries, Reader},
    recording::Recorder,
    sensor::{State, calls, io_uring, syscalls},
    watch::Watch,
};

/// Runs the agent until SIGTERM or SIGINT; writes what it observes into a file, if that is named.
pub fn run(config: &Config, effective: &Effective, recording: Option<&Path>) -> Result<()> {
    let filter = log_filter(&env::var("PODWITNESS_LOG").unwrap_or_default(), config.log.level)?;
    let format = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(format).with(filter).init();
    for value in effective.chosen() {
        tracing::info!("{value}");
    }
    keep_no_large_blocks();
    let privilege = Privilege::foresee(needs(config));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("podwitness")
        // Only this thread loads and attaches. One that can't settle down is told of by `serve`.
        .on_thread_start(move || drop(privilege.settle()))
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(config, privilege, recording));
    // A name server that hangs would keep a thread, and the end, waiting for its answer.
    runtime.shutdown_background();
    outcome
}

/// A filter of targets and levels for those who look for something; else the configured level for everything.
fn log_filter(chosen: &str, level: Level) -> Result<Targets, Mistake> {
    if chosen.is_empty() {
        return Ok(Targets::new().with_default(level));
    }
    let filter = chosen.parse();
    filter.map_err(|error: ParseError| {
        let example = "an example is `info,podwitness::identity=debug`";
        Mistake(format!("PODWITNESS_LOG is no filter ({error}); {example}"))
    })
}

/// What needs privileges for as long as the agent runs.
fn needs(config: &Config) -> Needs {
    let identity = &config.identity;
    let sockets = [&identity.docker_socket, &identity.podman_socket];
    Needs {
        user_engines: sockets.contains(&&SocketChoice::Auto),
        classic: tracepoints(config) == Tracepoints::Classic,
    }
}

/// Where system calls are seen.
fn tracepoints(config: &Config) -> Tracepoints {
    match config.sensors.syscalls_hook {
        SyscallsHook::Auto if preempts_tracepoints() => Tracepoints::Classic,
        SyscallsHook::Auto | SyscallsHook::Btf => Tracepoints::Typed,
        SyscallsHook::Classic => Tracepoints::Classic,
        SyscallsHook::Raw => Tracepoints::Raw,
    }
}

/// For whoever loads the kernel half and listens nowhere.
pub const NO_LISTENERS: [SocketAddr; 2] = [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0); 2];

/// Loads the kernel half for this configuration.
pub fn load(config: &Config, hierarchy: Hierarchy, own_listeners: [SocketAddr; 2]) -> Result<Loaded> {
    let settings = settings(config, hierarchy, own_listeners);
    Kernel::load(&settings, |sensor| is_enabled(config, sensor))
        .context("cannot load the kernel programs; `podwitness doctor` says what this machine lacks")
}

async fn serve(config: &Config, privilege: Privilege, recording: Option<&Path>) -> Result<()> {
    let started = Instant::now();
    // Before anything is loaded: a certificate that can't be read, or a taken port, is found at once.
    let (shutdown_otlp, otlp_stopping) = watch::channel(false);
    let otlp = otlp::start(config, &otlp_stopping).context("cannot send telemetry")?;
    let (sink, mut otlp) = otlp.unzip();
    let recorder = recording.map(|path| Recorder::create(path, &otlp::host(config))).transpose()?;
    let gate = Gate::new(config.debug.token_file.as_deref())
        .context("debug.token_file is set, and nobody could read the live events")?;
    let (certificate, key) = (&config.debug.tls_certificate_file, &config.debug.tls_key_file);
    let tls = Tls::load(certificate.as_deref(), key.as_deref())
        .await
        .context("debug.tls_certificate_file is set, and nobody could reach the live events")?;
    let metrics = http::bind(config.metrics.listen, "metrics.listen").await?;
    let debug = http::bind(config.debug.listen, "debug.listen").await?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;

    let own_listeners = [metrics.address(), debug.address()];
    let tree = Tree::find(config.identity.hierarchy)?;
    let Loaded { kernel, rings, slots, stats, banks, errors, requests, opcodes, cpus } =
        load(config, tree.hierarchy(), own_listeners)?;
    let names = Arc::new(Names::new(NameBounds {
        containers: config.limits.containers,
        grace: config.metrics.grace,
    }));
    let registry = Arc::new(registry(config, tree, Arc::clone(&names)));
    let figures_slots = slots.count();
    let tables =
        config.sensors.syscalls.then(|| syscalls::Tables { banks, errors, cpus, slots: slots.count() });
    let requests = config.sensors.io_uring.then(|| io_uring::Tables { requests, cpus, slots: slots.count() });
    let selection = Selection {
        only: config.observe.namespaces.clone(),
        excluded: config.observe.exclude_namespaces.clone(),
    };
    let bounds =
        PeerBounds { addresses: config.limits.peers, per_container: config.limits.peers_per_container };
    let peers = Arc::new(Peers::new(bounds, &config.peers.cidrs));
    let ledger = Ledger::new(
        Arc::clone(&registry),
        Arc::clone(&peers),
        selection,
        slots,
        tables,
        requests,
        config.limits.containers,
    );
    let ledger =
        ledger.measuring(config.sensors.syscalls_modes.clone()).by_workload(!config.metrics.detail.container);
    let ledger = Arc::new(Mutex::new(ledger));
    let hub = Hub::new(config.debug.buffer, config.debug.clients)
        .remembering(config.debug.replay, config.debug.deaths);
    let hub = Arc::new(hub);
    let kernel_stats = Arc::new(KernelStats::new(stats));
    let deliveries = Arc::new(Deliveries::default());
    let looks = Arc::new(Looks::new(rings.bell(), config.ring.look_timeout));
    let stop = Arc::new(AtomicBool::new(false));
    // Before the scan: whose names can be had by now needn't wait for them.
    let (mut sources, kubernetes) = sources(config, &names)?;
    sources.spawn(keep_own(Arc::clone(&peers), config.identity.scan_interval));
    let cluster = cluster(config, &peers)?;
    if let Some(cluster) = cluster.clone() {
        sources.spawn(cluster.run());
    }

    let kernel_bytes = map_memory();
    let (running, sensors) = kernel.attach(|sensor| is_enabled(config, sensor));
    match privilege.settle() {
        Ok(()) => {
            tracing::info!(kept = %privilege.kept(), reserve = %privilege.reserve(), "capabilities given up");
        }
        Err(error) => {
            tracing::warn!(%error, "cannot give up capabilities: does a seccomp profile forbid capset?");
        }
    }
    // After the hooks that tell of births: no cgroup falls between them and the scan.
    let scanned = registry.scan(Instant::now()).context("cannot list the cgroups")?;
    print_start(&metrics, &debug, tls.is_some(), &sensors)?;
    tracing::info!(
        cgroups = scanned.found,
        kernel_kib = kernel_bytes / 1024,
        after_ms = started.elapsed().as_millis(),
        "observing"
    );
    give_code_back();

    let (poll_min, poll_max, scan_interval) = Reader::intervals(config);
    let reader = Reader {
        rings,
        ledger: Arc::clone(&ledger),
        registry: Arc::clone(&registry),
        hub: Arc::clone(&hub),
        outlets: Outlets { sink, recorder },
        clock: WallClock::default(),
        stats: Arc::clone(&kernel_stats),
        deliveries: Arc::clone(&deliveries),
        looks: Arc::clone(&looks),
        stop: Arc::clone(&stop),
        poll_min,
        poll_max,
        scan_interval,
    };
    let (ended, mut reader_ended) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("ring-reader".into())
        .spawn(move || {
            // The receiver lives until the agent ends.
            let _ = ended.send(reader.run());
        })
        .context("cannot start the reader of the rings")?;

    let programs = Programs::new(running.attached().copied().collect());
    let watch = Arc::new(Watch::default());
    let running = Arc::new(Mutex::new(running));
    let watching = {
        let (hub, registry, running) = (Arc::clone(&hub), Arc::clone(&registry), Arc::clone(&running));
        tokio::spawn(Arc::clone(&watch).run(hub, registry, running))
    };
    let following = tokio::spawn(Arc::clone(&looks).follow(hub.watchers()));
    let health = Health::waiting_for("the programs to be attached");
    let scrapes = Arc::new(Scrapes::default());
    let listeners = Listeners { tls, ..Listeners::default() };
    let figures = Figures {
        sensors,
        programs,
        limits: Figures::limits(config, figures_slots),
        series_limit: config.metrics.series_limit,
        detail: config.metrics.detail,
        kernel_bytes,
        opcodes,
        started: SystemTime::now(),
        node: config.identity.node_name.clone().unwrap_or_else(host_name),
    };
    let known = Arc::clone(&registry);
    let agent = Agent {
        ledger,
        registry,
        kubernetes,
        hub: Arc::clone(&hub),
        kernel: kernel_stats,
        deliveries,
        looks: Some(Arc::clone(&looks)),
        peers,
        cluster,
        watch,
        scrapes: Arc::clone(&scrapes),
        listeners: listeners.clone(),
        otlp: otlp.as_ref().map(|otlp| Arc::clone(&otlp.figures)),
        figures,
    };
    let agent = Arc::new(agent);
    let exporter = Arc::new(Exporter::new(Arc::clone(&agent)));
    if let Some(otlp) = &mut otlp {
        let exposition = Arc::clone(&exporter) as Arc<dyn http::Exposition>;
        otlp.send_metrics(config, exposition, known, &otlp_stopping);
    }
    let (shutdown, stopping) = watch::channel(false);
    let mut servers = JoinSet::new();
    let Listeners { metrics: to_metrics, debug: to_debug, tls } = listeners;
    servers.spawn(http::serve_metrics(
        metrics,
        exporter,
        scrapes,
        health.clone(),
        to_metrics,
        stopping.clone(),
    ));
    let shown = Debug { hub, health: health.clone(), insight: agent, gate, tls, connections: to_debug };
    servers.spawn(http::serve_debug(debug, shown, stopping));
    health.set_ready();

    let early = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        Some(_) = sources.join_next() => Some(anyhow!("a source of names ended by itself")),
        Some(_) = ended_sending(&mut otlp) => Some(anyhow!("what sends telemetry ended by itself")),
        _ = servers.join_next() => Some(anyhow!("a listener ended by itself")),
        result = &mut reader_ended => Some(match result {
            Ok(Err(error)) => error.into(),
            _ => anyhow!("the reader of the rings ended by itself"),
        }),
    };
    tracing::info!("stopping");
    if let Some(error) = &early {
        health.fail(error.to_string());
    }
    watching.abort();
    following.abort();
    running.lock().unwrap_or_else(PoisonError::into_inner).detach();
    stop.store(true, Ordering::Release);
    looks.ask();
    // Mistakes of its last look, and of the recording, are the agent's, too.
    let failure = match early {
        Some(error) => Some(error),
        None => reader_ended.await.ok().and_then(Result::err).map(Into::into),
    };
    // Whether it panicked was told by the channel.
    let _ = thread.join();
    let _ = shutdown.send(true);
    // What the reader has put in last is sent, too.
    let _ = shutdown_otlp.send(true);
    if let Some(otlp) = &mut otlp {
        while otlp.tasks.join_next().await.is_some() {}
    }
    while servers.join_next().await.is_some() {}
    failure.map_or(Ok(()), Err)
}

/// Whatever of the sending ends; nothing does where nothing is sent.
async fn ended_sending(otlp: &mut Option<otlp::Running>) -> Option<()> {
    match otlp {
        Some(otlp) => otlp.tasks.join_next().await.map(drop),
        None => None,
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned()
}

fn print_start(
    metrics: &Listener,
    debug: &Listener,
    is_encrypted: bool,
    sensors: &[(SensorId, State)],
) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "podwitness {}\n", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "{}\n", Table(sensors))?;
    writeln!(out, "metrics: http://{}/metrics", metrics.address())?;
    let scheme = if is_encrypted { "https" } else { "http" };
    writeln!(out, "debug: {scheme}://{}/", debug.address())?;
    out.flush().context("cannot write to standard output")
}

/// How the Kubernetes API is to be asked, if at all.
pub fn kubernetes(config: &Config) -> kubernetes::Settings {
    let identity = &config.identity;
    kubernetes::Settings {
        mode: identity.kubernetes,
        kubeconfig: identity.kubeconfig.as_ref().map(Into::into),
        node_name: identity.node_name.clone(),
        pods: config.limits.containers,
    }
}

/// Starts whatever can tell the names of containers.
fn sources(config: &Config, names: &Arc<Names>) -> Result<(JoinSet<()>, Option<Kubernetes>)> {
    let mut sources = JoinSet::new();
    let identity = &config.identity;
    let kubernetes =
        Kubernetes::new(&kubernetes(config), Arc::clone(names)).context("cannot ask the Kubernetes API")?;
    if let Some(kubernetes) = kubernetes.clone() {
        sources.spawn(kubernetes.run());
    }
    if let Some(cri) = Cri::new(&identity.cri_socket, identity.cri_interval, Arc::clone(names)) {
        sources.spawn(cri.run());
    }
    let engines = [(Source::Docker, &identity.docker_socket), (Source::Podman, &identity.podman_socket)];
    for (source, socket) in engines {
        if let Some(engine) = Docker::new(source, socket, config.limits.engine_sockets, Arc::clone(names)) {
            sources.spawn(engine.run());
        }
    }
    Ok((sources, kubernetes))
}

/// What tells the addresses of the whole cluster, if that is wanted.
pub fn cluster(config: &Config, peers: &Arc<Peers>) -> Result<Option<Cluster>> {
    let kubeconfig = config.identity.kubeconfig.as_deref().map(Path::new);
    let make = || Cluster::new(kubeconfig, config.limits.peers, Arc::clone(peers));
    let cluster = config.peers.kubernetes.then(make).transpose();
    cluster.context("cannot watch the cluster's addresses, as peers.kubernetes demands")
}

fn registry(config: &Config, tree: Tree, names: Arc<Names>) -> Registry {
    if !tree.is_whole() {
        tracing::warn!(
            mount = %tree.directory().display(),
            "only a part of the cgroup hierarchy is visible: containers outside of it stay unknown"
        );
    }
    let bounds = Bounds {
        containers: config.limits.containers,
        hold: config.identity.hold,
        grace: config.metrics.grace,
    };
    Registry::new(tree, bounds, names)
}

/// Whether the configuration wants this sensor.
pub fn is_enabled(config: &Config, sensor: SensorId) -> bool {
    let sensors = &config.sensors;
    match sensor {
        SensorId::Syscalls => sensors.syscalls,
        SensorId::Tcp => sensors.tcp,
        SensorId::Oom => sensors.oom,
        SensorId::Process => sensors.process,
        SensorId::Cgroup => sensors.cgroup,
        SensorId::IoUring => sensors.io_uring,
        SensorId::Calls => sensors.calls,
    }
}

fn settings(config: &Config, hierarchy: Hierarchy, own_listeners: [SocketAddr; 2]) -> Settings {
    Settings {
        own_listeners,
        hierarchy,
        room: Room {
            map_memory: config.limits.map_memory,
            slots: config.limits.slots,
            excluded: u32::try_from(config.limits.containers).unwrap_or(u32::MAX),
            sockets: config.limits.sockets,
            tasks: config.limits.tasks,
            ring_bytes: config.ring.size,
            rare_ring_bytes: config.ring.rare_size,
        },
        tracepoints: tracepoints(config),
        mode: config.sensors.syscalls_mode,
        mode_of_others: config.sensors.syscalls_modes.iter().map(|(_, mode)| *mode).max(),
        event_rate: config.events.rate,
        event_burst: config.events.burst,
        numbers: syscalls::numbers(),
        classes: syscalls::classes(),
        calls: CallSettings {
            slow_ns: calls::slow_ns(&config.sensors.calls_slow),
            failed: config.sensors.calls_failed.clone(),
            paths: config.sensors.calls_paths,
            rate: config.sensors.calls_rate,
            burst: config.sensors.calls_rate * 10,
            places: calls::places(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_a_level_for_everything_or_a_filter() {
        let shows = |chosen, target| {
            let filter = log_filter(chosen, Level::INFO).unwrap();
            [Level::INFO, Level::DEBUG].map(|level| filter.would_enable(target, &level))
        };
        assert_eq!(shows("", "podwitness::identity"), [true, false]);
        assert_eq!(shows("warn,podwitness::identity=debug", "podwitness::identity::names"), [true, true]);
        assert_eq!(shows("warn,podwitness::identity=debug", "podwitness::ledger"), [false, false]);
        let error = log_filter("podwitness=loud", Level::INFO).unwrap_err().to_string();
        assert!(error.starts_with("PODWITNESS_LOG is no filter"), "{error}");
    }
}
