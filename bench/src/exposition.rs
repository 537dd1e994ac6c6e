//! What a page of metrics takes, beside copying it when it is there already.

use std::{
    ffi::OsString,
    hint::black_box,
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};

use agent_ebpf::contract::{
    event::EventKind,
    stats::SensorId,
    tcp::{ACTIVE, DURATION_KNOWN, TcpEvent},
};
use anyhow::{Result, anyhow, bail};
use podwitness::{
    app, cli,
    config::Config,
    http::{Exposition as _, Format, Listeners, Scrapes},
    identity::{
        Bounds, Registry, Selection, Tree,
        names::{NameBounds, Names},
        peers::{PeerBounds, Peers},
    },
    kernel::Loaded,
    ledger::Ledger,
    live::Hub,
    metrics::{Agent, Exporter, Figures, KernelStats, Programs},
    reader::Deliveries,
    sensor::{Record, State},
};
use zerocopy::FromZeros as _;

use crate::{
    Options,
    report::{Report, Row, Target},
};

/// Lines of the page, at least.
const SERIES: usize = 100_000;
/// Containers with connections, each of which has some two dozen series.
const CONTAINERS: u64 = 6000;
const AF_INET: u16 = 2;

pub(crate) fn run(options: &Options) -> Result<Report> {
    // Without a limit, with one that isn't reached, and with one that leaves a fifth of it.
    let exporters = [0, 100 * SERIES, SERIES / 5].map(|limit| exporter(&options.flags, limit));
    let [free, within, beyond] = exporters;
    let (free, within, beyond) = (free?, within?, beyond?);
    let page = |exporter: &Exporter| {
        exporter.render(Format::OpenMetrics).map_err(|error| anyhow!("render: {error}"))
    };
    let render = || page(&free);
    let page_text = String::from_utf8(render()?.collect::<Vec<_>>().concat())?;
    let lines = page_text.lines().filter(|line| !line.starts_with('#')).count();
    if lines < SERIES {
        bail!("the page has {lines} series, not {SERIES}: there must be more containers");
    }
    let since = |begun: Instant| begun.elapsed().as_nanos() as f64 / lines as f64;
    let (mut copied, mut taken, mut rendered) = (Vec::new(), Vec::new(), Vec::new());
    let mut limited = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        let begun = Instant::now();
        black_box(black_box(&page_text).clone());
        copied.push(since(begun));
        let begun = Instant::now();
        let text = render()?;
        taken.push(since(begun));
        text.for_each(|chunk| drop(black_box(chunk)));
        rendered.push(since(begun));
        for (exporter, limited) in [&within, &beyond].into_iter().zip(&mut limited) {
            let begun = Instant::now();
            page(exporter)?.for_each(|chunk| drop(black_box(chunk)));
            limited.push(since(begun));
        }
    }
    let whole: Vec<_> = rendered.iter().map(|line| line * SERIES as f64 / 1e6).collect();
    let rows = vec![
        Row::plain("E0: copying the page, ns per line", &copied),
        Row::against("taking the figures, ns per line", &taken, "E0", &copied, None),
        Row::against(
            "rendering it, ns per line",
            &rendered,
            "E0",
            &copied,
            Some(Target { name: "P11", most: 1.5 }),
        ),
        Row::against("within metrics.series_limit, ns per line", &limited[0], "rendering", &rendered, None),
        Row::against("folded to a fifth, ns per line there were", &limited[1], "rendering", &rendered, None),
        Row::bounded("100,000 series, ms", &whole, Target { name: "P11", most: 3.0 }),
    ];
    let notes = vec![format!("{lines} series, {} bytes.", page_text.len())];
    Ok(Report { title: "What a page of metrics takes".into(), unit: "figure", rows, notes })
}

/// The agent's own, over accounts with connections in them. Nothing is attached.
fn exporter(flags: &[String], limit: usize) -> Result<Exporter> {
    let containers = (2 * CONTAINERS).to_string();
    let words = ["podwitness", "--limits-containers", &containers, "--sensors-syscalls", "false"];
    let words = words.into_iter().chain(flags.iter().map(String::as_str)).map(OsString::from);
    let (config, _) = Config::load(&cli::parse(words)?.flags, []).map_err(|errors| anyhow!("{errors}"))?;
    let tree = Tree::find(config.identity.hierarchy)?;
    let Loaded { kernel, slots, stats, opcodes, .. } =
        app::load(&config, tree.hierarchy(), app::NO_LISTENERS)?;
    let (running, _) = kernel.attach(|_| false);
    let most = config.limits.containers;
    let names = Arc::new(Names::new(NameBounds { containers: most, grace: config.metrics.grace }));
    let bounds = Bounds { containers: most, hold: config.identity.hold, grace: config.metrics.grace };
    let registry = Arc::new(Registry::new(tree, bounds, names));
    let bounds =
        PeerBounds { addresses: config.limits.peers, per_container: config.limits.peers_per_container };
    let peers = Arc::new(Peers::new(bounds, &config.peers.cidrs));
    let selection = Selection { only: Vec::new(), excluded: Vec::new() };
    let figures_slots = slots.count();
    let mut ledger =
        Ledger::new(Arc::clone(&registry), Arc::clone(&peers), selection, slots, None, None, most);
    fill(&registry, &mut ledger);
    let figures = Figures {
        sensors: SensorId::ALL.map(|sensor| (sensor, State::Disabled)).to_vec(),
        programs: Programs::new(running.attached().copied().collect()),
        limits: Figures::limits(&config, figures_slots),
        series_limit: limit,
        detail: config.metrics.detail,
        kernel_bytes: 0,
        opcodes,
        started: SystemTime::now(),
        node: String::new(),
    };
    Ok(Exporter::new(Arc::new(Agent {
        ledger: Arc::new(Mutex::new(ledger)),
        registry,
        kubernetes: None,
        hub: Arc::new(Hub::new(config.debug.buffer, config.debug.clients)),
        kernel: Arc::new(KernelStats::new(stats)),
        deliveries: Arc::new(Deliveries::default()),
        looks: None,
        peers,
        cluster: None,
        watch: Arc::default(),
        scrapes: Arc::new(Scrapes::default()),
        listeners: Listeners::default(),
        otlp: None,
        figures,
    })))
}

/// Books a connection of each kind for every container.
fn fill(registry: &Registry, ledger: &mut Ledger) {
    let now = Instant::now();
    for container in 0..CONTAINERS {
        // No cgroup has such a number.
        let id = u64::MAX / 2 + container;
        registry.born(id, format!("/bench/job-{container}"), now);
        let owner = ledger.owner(id, now);
        let mut event = TcpEvent::new_zeroed();
        event.header.cgroup_id = id;
        (event.family, event.duration_ns, event.flags) = (AF_INET, 1_000_000, DURATION_KNOWN | ACTIVE);
        event.remote[..4].copy_from_slice(&[127, 0, 0, 1]);
        for kind in [EventKind::TcpConnect, EventKind::TcpAccept, EventKind::TcpClose] {
            event.header.kind = kind as u32;
            ledger.book(Record::Tcp(kind, &event), &owner, now);
        }
    }
}
