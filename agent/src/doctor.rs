//! `podwitness doctor`: what works on this machine, and what would make the rest work.

mod running;

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};
use serde_json::json;

pub use self::running::ask;
use crate::{
    app,
    config::{Config, SocketChoice},
    http::{Gate, Tls},
    identity::{
        Tree,
        names::{
            NameBounds, Names, Source,
            cri::{Cri, CriError},
            docker::Docker,
            kubernetes::Kubernetes,
        },
        peers::{PeerBounds, Peers},
    },
    kernel::{Btf, Capabilities, can_make_maps, is_filtered, is_root},
    scrape,
    sensor::{Place, SENSORS, State},
};

/// Checks the machine, loads and attaches every sensor that is on, says what it found, and detaches again. No agent
/// need run, and one that does isn't disturbed.
pub fn run(config: &Config, json: bool) -> Result<()> {
    let mut out = io::stdout();
    let mut failed = false;
    let mut checks = Vec::new();
    for (name, verdict) in machine(config) {
        failed |= verdict.is_err();
        let (mark, text) = match &verdict {
            Ok(text) => ("ok", text),
            Err(text) => ("FAILED", text),
        };
        if json {
            checks.push(json!({ "name": name, "ok": verdict.is_ok(), "found": text }));
        } else {
            writeln!(out, "{name:<14} {mark:<12} {text}")?;
        }
    }
    let mut sensors = Vec::new();
    let mut error_of_load = None;
    let loaded = Tree::find(config.identity.hierarchy)
        .map_err(anyhow::Error::from)
        .and_then(|tree| app::load(config, tree.hierarchy(), app::NO_LISTENERS));
    match loaded {
        Ok(loaded) => {
            let (_running, states) = loaded.kernel.attach(|sensor| app::is_enabled(config, sensor));
            failed |= states.iter().any(|(_, state)| matches!(state, State::Unsupported { .. }));
            sensors.extend(states.iter().map(|(sensor, state)| {
                json!({
                    "name": sensor.name(),
                    "state": state.name(),
                    "hooks": state.hooks(),
                    "reason": state.reason(),
                })
            }));
            if !json {
                writeln!(out, "\n{}", Table(&states))?;
            }
        }
        Err(error) => {
            failed = true;
            if !json {
                writeln!(out, "\nThe programs can't be loaded: {error:#}")?;
            }
            error_of_load = Some(format!("{error:#}"));
        }
    }
    if json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ok": !failed,
            "checks": checks,
            "sensors": sensors,
            "error": error_of_load,
        });
        writeln!(out, "{report:#}")?;
    }
    if failed {
        bail!("not everything works on this machine: see the lines above");
    }
    Ok(())
}

/// The sensors with their states, for people.
pub struct Table<'a>(pub &'a [(agent_ebpf::contract::stats::SensorId, State)]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> =
            self.0.iter().map(|(id, state)| (id.name(), state, state.hooks().join(", "))).collect();
        let width = rows.iter().map(|(_, _, hooks)| hooks.len()).max().unwrap_or(0).max("HOOKS".len());
        write!(f, "{:<10} {:<12} {:<width$} REASON", "SENSOR", "STATE", "HOOKS")?;
        for (name, state, hooks) in rows {
            let reason = if state.reason().is_empty() { "-" } else { state.reason() };
            write!(f, "\n{name:<10} {:<12} {hooks:<width$} {reason}", state.name())?;
        }
        Ok(())
    }
}

type Verdict = Result<String, String>;

fn machine(config: &Config) -> Vec<(&'static str, Verdict)> {
    vec![
        ("privilege", privilege()),
        ("seccomp", seccomp()),
        ("kernel types", types()),
        ("cgroups", cgroups(config)),
        ("hooks", hooks()),
        ("debug", debug(config)),
        ("kubernetes", names_by_kubernetes(config)),
        ("cri", names_by_cri(config)),
        ("docker", names_by_engine(Source::Docker, &config.identity.docker_socket)),
        ("podman", names_by_engine(Source::Podman, &config.identity.podman_socket)),
        ("peers", peers(config)),
        ("series", series(config)),
    ]
}

fn privilege() -> Verdict {
    let own = Capabilities::effective();
    let lacks = Capabilities::BPF.with(Capabilities::PERFMON).without(own);
    if own.has(Capabilities::SYS_ADMIN) || lacks == Capabilities::NONE {
        Ok("CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN".into())
    } else if is_root() {
        Err(format!("root without {lacks}: add what is missing to the container's capabilities"))
    } else {
        Err(format!("without {lacks}: run as root, or give the binary what is missing (setcap)"))
    }
}

/// The kernel refuses for want of a capability and for a filter alike; which of them it was is told by what is there.
fn seccomp() -> Verdict {
    let own = Capabilities::effective();
    match can_make_maps() {
        Ok(()) if is_filtered() => Ok("the filter in force allows bpf(2)".into()),
        Ok(()) => Ok("no filter in force; deploy/seccomp.json is one".into()),
        Err(_) if !own.has(Capabilities::BPF) && !own.has(Capabilities::SYS_ADMIN) => {
            Ok("can't be told without CAP_BPF".into())
        }
        Err(error) if is_filtered() => Err(format!(
            "bpf(2) is refused ({error}) in spite of CAP_BPF: allow it in the seccomp profile, or use deploy/seccomp.json"
        )),
        Err(error) => Err(format!(
            "bpf(2) is refused ({error}) in spite of CAP_BPF: look for a security module's denial (dmesg), and for \
             RLIMIT_MEMLOCK on kernels before 5.11"
        )),
    }
}

/// Who can reach the live events, and who can read along.
fn debug(config: &Config) -> Verdict {
    let debug = &config.debug;
    let fault = |error: &(dyn std::error::Error + Send + Sync + 'static)| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let tls = wait_for(Tls::load(debug.tls_certificate_file.as_deref(), debug.tls_key_file.as_deref()))?;
    let tls = tls.map_err(|error| fault(&error))?;
    Gate::new(debug.token_file.as_deref()).map_err(|error| fault(&error))?;
    let address = debug.listen;
    Ok(match (address.ip().is_loopback(), tls.is_some()) {
        (_, true) => format!("https://{address}"),
        (true, false) => format!("http://{address}, this machine alone"),
        (false, false) => format!(
            "http://{address} is open to others, and neither the token nor what they read is encrypted: set \
             debug.tls_certificate_file and debug.tls_key_file"
        ),
    })
}

fn types() -> Verdict {
    Btf::from_system()
        .map(|_| crate::kernel::SYSTEM_BTF.into())
        .map_err(|error| format!("{error}. Until then system calls are counted, and nothing else is seen"))
}

fn cgroups(config: &Config) -> Verdict {
    match Tree::find(config.identity.hierarchy) {
        Ok(tree) if tree.is_whole() => Ok(tree.directory().display().to_string()),
        Ok(tree) => Err(format!(
            "{} shows a part of the hierarchy only: mount the host's, or run in its cgroup namespace",
            tree.directory().display()
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// For sources that are asked whether they would tell names, but not for the names.
fn nowhere() -> Arc<Names> {
    Arc::new(Names::new(NameBounds { containers: 0, grace: Duration::ZERO }))
}

fn wait_for<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| error.to_string())?.block_on(answer))
}

fn names_by_kubernetes(config: &Config) -> Verdict {
    let source = Kubernetes::new(&app::kubernetes(config), nowhere()).map_err(|error| error.to_string())?;
    let Some(source) = source else {
        return Ok("the API isn't asked: identity.kubernetes is off, or this is no pod with a service \
                   account's token"
            .into());
    };
    let (pods, lacks) = wait_for(source.check())?.map_err(|error| error.to_string())?;
    let node = source.node_name();
    let mut text = match pods {
        0 => format!("no pod on {node}: is identity.node_name (or NODE_NAME) what the API calls this node?"),
        _ => format!("{pods} pods on {node}"),
    };
    // Names go without: workloads are told by their pods' names, and namespaces can't decline.
    for lack in lacks {
        text.push_str(&format!("; {lack}"));
    }
    Ok(text)
}

fn names_by_cri(config: &Config) -> Verdict {
    let Some(cri) = Cri::new(&config.identity.cri_socket, config.identity.cri_interval, nowhere()) else {
        return Ok("the container runtime isn't asked: identity.cri_socket is off".into());
    };
    match wait_for(cri.probe())? {
        Ok(who) => Ok(who),
        Err(CriError::NoSocket) => {
            Ok("no container runtime is here: containers go by what their cgroup says".into())
        }
        Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
    }
}

fn names_by_engine(source: Source, socket: &SocketChoice) -> Verdict {
    let name = source.name();
    let Some(engine) = Docker::new(source, socket, 1, nowhere()) else {
        return Ok(format!("{name} isn't asked: identity.{name}_socket is off"));
    };
    let mut is_well = true;
    let mut lines = Vec::new();
    for (socket, answer) in wait_for(engine.probe())? {
        let text = answer.unwrap_or_else(|error| {
            is_well = false;
            format!("{:#}", anyhow::Error::new(error))
        });
        lines.push(format!("{}: {text}", socket.display()));
    }
    match (lines.is_empty(), is_well) {
        (true, _) => Ok(format!("no {name} is here")),
        (false, true) => Ok(lines.join("; ")),
        (false, false) => Err(lines.join("; ")),
    }
}

/// Who tells the names of the other ends of connections.
fn peers(config: &Config) -> Verdict {
    let bounds = PeerBounds { addresses: config.limits.peers, per_container: 0 };
    let peers = Arc::new(Peers::new(bounds, &[]));
    let cluster = app::cluster(config, &peers).map_err(|error| format!("{error:#}"))?;
    let Some(cluster) = cluster else {
        return Ok("the cluster isn't asked for its addresses: peers.kubernetes is false".into());
    };
    match (wait_for(cluster.check())?, peers.refused()) {
        (Err(error), _) => Err(format!("{:#}", anyhow::Error::new(error))),
        (Ok(()), 0) => Ok(format!("{} addresses of the cluster have names", peers.addresses())),
        (Ok(()), more) => {
            Err(format!("there is no room for {more} addresses of the cluster: raise limits.peers"))
        }
    }
}

/// Whether all series have room on the pages of the agent that runs here.
fn series(config: &Config) -> Verdict {
    let address = scrape::local(config.metrics.listen);
    match wait_for(scrape::series(&address.to_string()))? {
        Ok(series) => Ok(series.budget().to_string()),
        Err(_) => Ok(format!(
            "no agent answers at {address}: `podwitness metrics --dry-run` tells of one elsewhere"
        )),
    }
}

fn hooks() -> Verdict {
    let Ok(btf) = Btf::from_system() else {
        return Ok("raw tracepoints for system calls; all others need the kernel's types".into());
    };
    let mut missing: Vec<&str> = SENSORS
        .iter()
        .flat_map(|sensor| sensor.hooks)
        .filter(|hook| hook.place == Place::Tracepoint && hook.required)
        .filter(|hook| btf.tracepoint(hook.name).is_err())
        .map(|hook| hook.name)
        .collect();
    missing.dedup();
    if !missing.is_empty() {
        return Err(format!("this kernel has no tracepoint {}", missing.join(", ")));
    }
    let stats = Path::new("/proc/sys/kernel/bpf_stats_enabled");
    let runs = if stats.exists() { "; run times with sysctl kernel.bpf_stats_enabled=1" } else { "" };
    Ok(format!("all tracepoints are there{runs}"))
}
