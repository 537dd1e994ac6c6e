//! What the agent is told to do: one struct per section of the configuration, plain values in their final
//! types.
//!
//! The meaning, range and default of each field stand once, in [`OPTIONS`](super::OPTIONS); the short
//! notes here only name the unit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_ebpf::contract::syscalls::Mode;
use tracing::Level;

use super::options::OPTIONS;
use crate::{
    identity::{Wanted, names::kubernetes, peers::Network},
    metrics::Detail,
    sensor::calls::SlowCall,
};

/// The whole configuration, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What Prometheus scrapes.
    pub metrics: MetricsConfig,
    /// The server for people and tools on this node: live events, state.
    pub debug: DebugConfig,
    /// Which sensors run.
    pub sensors: SensorsConfig,
    /// Whom to observe.
    pub observe: ObserveConfig,
    /// How many events one container may cause.
    pub events: EventsConfig,
    /// The ring buffers between kernel and agent.
    pub ring: RingConfig,
    /// Upper bounds of what the agent remembers.
    pub limits: LimitsConfig,
    /// How containers are told apart and named.
    pub identity: IdentityConfig,
    /// How the other ends of connections are named.
    pub peers: PeersConfig,
    /// Where telemetry is sent.
    pub otlp: OtlpConfig,
    /// What the agent says about itself on standard error.
    pub log: LogConfig,
}

/// Section `metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Where `/metrics` is served; port 0 is any free port.
    pub listen: SocketAddr,
    /// How long series of a container that is gone are still exported.
    pub grace: Duration,
    /// Series of containers at most; 0 is no limit.
    pub series_limit: usize,
    /// What series are told apart by, besides the workload.
    pub detail: Detail,
}

/// Section `debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugConfig {
    /// Where `/v1/...` is served; port 0 is any free port.
    pub listen: SocketAddr,
    /// What holds the token of its readers; none is needed on loopback.
    pub token_file: Option<String>,
    /// What the listener shows to its readers; it speaks plain HTTP without. An absolute path, as the next one.
    pub tls_certificate_file: Option<String>,
    /// The key of the certificate; there is one where there is the other.
    pub tls_key_file: Option<String>,
    /// Events kept for a slow reader of `/v1/events`.
    pub buffer: usize,
    /// Readers of `/v1/events` at once.
    pub clients: usize,
    /// Events kept for readers who come back.
    pub replay: usize,
    /// OOM kills and bad exits that are remembered.
    pub deaths: usize,
}

/// Which tracepoints system calls are seen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyscallsHook {
    /// Whichever misses nothing and costs least.
    #[default]
    Auto,
    /// BTF-typed ones.
    Btf,
    /// Classic ones.
    Classic,
    /// Raw ones.
    Raw,
}

/// How system calls are measured in a namespace.
pub type ModeByNamespace = (String, Mode);

/// Section `sensors`: which of them run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SensorsConfig {
    /// System calls by number, outcome and duration.
    pub syscalls: bool,
    /// Where they are seen.
    pub syscalls_hook: SyscallsHook,
    /// How they are measured.
    pub syscalls_mode: Mode,
    /// How they are measured in single namespaces, in the order of their names.
    pub syscalls_modes: Vec<ModeByNamespace>,
    /// io_uring: rings and requests.
    pub io_uring: bool,
    /// TCP connections.
    pub tcp: bool,
    /// OOM kills.
    pub oom: bool,
    /// Processes that start and end.
    pub process: bool,
    /// Control groups that come and go.
    pub cgroup: bool,
    /// Single system calls.
    pub calls: bool,
    /// Which are slow, by class or name, in the order of these.
    pub calls_slow: Vec<SlowCall>,
    /// Errnos whose calls are told, in the order of their symbols.
    pub calls_failed: Vec<u32>,
    /// Whether the paths in their arguments are told.
    pub calls_paths: bool,
    /// Slow and failed calls per second and container.
    pub calls_rate: u64,
}

/// Section `observe`: empty lists say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObserveConfig {
    /// Kubernetes namespaces to observe.
    pub namespaces: Vec<String>,
    /// Kubernetes namespaces to leave alone.
    pub exclude_namespaces: Vec<String>,
}

/// Section `events`: the token bucket that each container has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventsConfig {
    /// Events per second and container on average; 0 is no limit.
    pub rate: u64,
    /// Events of one container at once, on top of the average.
    pub burst: u64,
}

/// Section `ring`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RingConfig {
    /// Bytes of the ring for the bulk of the events.
    pub size: u32,
    /// Bytes of the ring for the rare and precious events.
    pub rare_size: u32,
    /// Shortest time between two looks at the rings.
    pub poll_min: Duration,
    /// Longest time between two looks at the rings that nobody asked for; never below `poll_min`.
    pub poll_max: Duration,
    /// How long somebody waits for a look that was asked for.
    pub look_timeout: Duration,
}

/// Section `limits`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitsConfig {
    /// Containers whose system calls are told apart.
    pub slots: u32,
    /// Bytes that the kernel's tables and rings may take together.
    pub map_memory: u64,
    /// Containers remembered, alive and dead.
    pub containers: usize,
    /// TCP sockets tracked at once.
    pub sockets: u32,
    /// Tasks that sleep in a system call at once, where the kernel can't keep with a task what belongs to it.
    pub tasks: u32,
    /// Sockets of Docker, and of podman, that are listened to at a time.
    pub engine_sockets: usize,
    /// Addresses known by name.
    pub peers: usize,
    /// Peers that one container's counters tell apart.
    pub peers_per_container: usize,
}

/// Section `identity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConfig {
    /// Whose cgroups tell containers apart.
    pub hierarchy: Wanted,
    /// How long an unknown control group is tried before it counts as unknown.
    pub hold: Duration,
    /// Time between two walks over the control group tree.
    pub scan_interval: Duration,
    /// Whether the Kubernetes API is asked.
    pub kubernetes: kubernetes::Mode,
    /// How to reach it, instead of by the pod's service account: an absolute path.
    pub kubeconfig: Option<String>,
    /// What the API calls this node.
    pub node_name: Option<String>,
    /// The container runtime's socket.
    pub cri_socket: SocketChoice,
    /// Time between two lists of the container runtime.
    pub cri_interval: Duration,
    /// Docker's socket.
    pub docker_socket: SocketChoice,
    /// podman's socket.
    pub podman_socket: SocketChoice,
}

/// Which socket a source of names uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SocketChoice {
    /// Whatever answers at the usual places.
    #[default]
    Auto,
    /// None: the source is not used.
    Off,
    Path(PathBuf),
}

/// Section `peers`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeersConfig {
    /// Whether the whole cluster's addresses are watched.
    pub kubernetes: bool,
    /// Networks with names, in their order.
    pub cidrs: Vec<(Network, String)>,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Http,
    Grpc,
}

/// How what is sent is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    None,
    #[default]
    Gzip,
    Zstd,
}

/// Section `otlp`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OtlpConfig {
    /// The collector: a URL. Nothing is sent without.
    pub endpoint: Option<String>,
    pub protocol: Protocol,
    pub compression: Compression,
    /// Authorities that the collector's certificate must come from: an absolute path, as the next two.
    pub certificate: Option<String>,
    /// What the agent shows to the collector.
    pub client_certificate: Option<String>,
    pub client_key: Option<String>,
    /// What is sent.
    pub logs: bool,
    pub traces: bool,
    pub metrics: bool,
    /// Until the answer to one request.
    pub timeout: Duration,
    /// From the first try of a batch to the last.
    pub retry_for: Duration,
    /// Items of each kind that wait.
    pub queue: usize,
    /// Items in one request.
    pub batch: usize,
    /// How long an item may wait for its batch to be full.
    pub delay: Duration,
    /// Time between two exports of metrics.
    pub metrics_interval: Duration,
    /// From how long on a connect is slow.
    pub slow: Duration,
    /// Parts of a million of the spans of what went well.
    pub sample_ratio: u32,
    /// Spans per second and workload of what went well; 0 is no limit.
    pub sample_rate: u64,
    /// Processes, and connections, whose beginnings are remembered.
    pub tracked: usize,
    /// Whether labels of pods tell the name and the version of a service.
    pub well_known_labels: bool,
    /// Variables of OpenTelemetry that no option stands for, by name: headers, and what is for one signal alone.
    /// They hold secrets, so they are neither printed nor read from a file.
    pub variables: Vec<(String, String)>,
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe messages that are written.
    pub level: Level,
}

impl Default for Config {
    /// What runs when nothing is configured: the defaults of [`OPTIONS`](super::OPTIONS).
    #[expect(clippy::expect_used, reason = "a test sets every default")]
    fn default() -> Self {
        let mut config = Self::blank();
        for option in OPTIONS {
            option.set(&mut config, option.default).expect("every default is valid");
        }
        config
    }
}

impl Config {
    /// A configuration to be filled from the table: no value in it is meant to be seen.
    pub(super) fn blank() -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            metrics: MetricsConfig {
                listen: nowhere,
                grace: Duration::ZERO,
                series_limit: 0,
                detail: Detail::ALL,
            },
            debug: DebugConfig {
                listen: nowhere,
                token_file: None,
                tls_certificate_file: None,
                tls_key_file: None,
                buffer: 0,
                clients: 0,
                replay: 0,
                deaths: 0,
            },
            sensors: SensorsConfig::default(),
            observe: ObserveConfig::default(),
            events: EventsConfig::default(),
            ring: RingConfig::default(),
            limits: LimitsConfig::default(),
            identity: IdentityConfig {
                hierarchy: Wanted::Auto,
                hold: Duration::ZERO,
                scan_interval: Duration::ZERO,
                kubernetes: kubernetes::Mode::Auto,
                kubeconfig: None,
                node_name: None,
                cri_socket: SocketChoice::Auto,
                cri_interval: Duration::ZERO,
                docker_socket: SocketChoice::Auto,
                podman_socket: SocketChoice::Auto,
            },
            peers: PeersConfig::default(),
            otlp: OtlpConfig::default(),
            log: LogConfig { level: Level::INFO },
        }
    }
}
