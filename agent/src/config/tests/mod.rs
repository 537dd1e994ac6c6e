//! Tests of the whole way from file, environment and flags to a `Config`.

mod layers;
mod mistakes;
mod output;
mod robust;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Config, ConfigErrors, Effective, EffectiveValue, Flags, OPTIONS, OptionSpec};

type Loaded = Result<(Config, Effective), ConfigErrors>;

/// For every option three values other than the default, in their usual notation (booleans have only two).
const SAMPLES: [(&str, [&str; 3]); 76] = [
    ("metrics.listen", ["[::]:9481", "127.0.0.1:0", "10.0.0.1:80"]),
    ("metrics.grace", ["0s", "1h30m", "24h"]),
    ("metrics.series_limit", ["0", "1000", "100000000"]),
    ("metrics.detail", ["none", "container,syscall", "errno"]),
    ("debug.listen", ["[::1]:9482", "127.0.0.2:1", "127.0.0.1:0"]),
    ("debug.token_file", ["/run/token", "/t", "/a b/c"]),
    ("debug.tls_certificate_file", ["/tls/tls.crt", "/t", "/a b/c"]),
    ("debug.tls_key_file", ["/tls/tls.key", "/t", "/a b/c"]),
    ("debug.buffer", ["16", "17", "1048576"]),
    ("debug.clients", ["1", "2", "4096"]),
    ("debug.replay", ["0", "1", "1048576"]),
    ("debug.deaths", ["0", "1", "65536"]),
    ("sensors.syscalls", ["false", "true", "false"]),
    ("sensors.syscalls_hook", ["raw", "classic", "auto"]),
    ("sensors.syscalls_mode", ["counts", "full", "default"]),
    ("sensors.syscalls_modes", ["shop=full", "batch=counts,shop=full", "a=default"]),
    ("sensors.io_uring", ["false", "true", "false"]),
    ("sensors.tcp", ["false", "true", "false"]),
    ("sensors.oom", ["false", "true", "false"]),
    ("sensors.process", ["false", "true", "false"]),
    ("sensors.cgroup", ["false", "true", "false"]),
    ("sensors.calls", ["false", "true", "false"]),
    ("sensors.calls_slow", ["none", "write=1s", "fsync=200ms,ioctl=off,read=2s"]),
    ("sensors.calls_failed", ["none", "ENOSPC", "EACCES,EPERM"]),
    ("sensors.calls_paths", ["true", "false", "true"]),
    ("sensors.calls_rate", ["1", "2", "100000"]),
    ("observe.namespaces", ["shop", "a,b", "kube-system"]),
    ("observe.exclude_namespaces", ["shop", "a,b", "kube-system"]),
    ("events.rate", ["0", "1", "10000000"]),
    ("events.burst", ["1", "2", "10000000"]),
    ("ring.size", ["4KiB", "64KiB", "1GiB"]),
    ("ring.rare_size", ["4KiB", "64KiB", "1GiB"]),
    ("ring.poll_min", ["2ms", "3ms", "50ms"]),
    ("ring.poll_max", ["1ms", "51ms", "1s"]),
    ("ring.look_timeout", ["1ms", "100ms", "10s"]),
    ("limits.slots", ["2", "3", "65535"]),
    ("limits.map_memory", ["16MiB", "16GiB", "16777217"]),
    ("limits.containers", ["16", "17", "1000000"]),
    ("limits.sockets", ["16", "17", "16777216"]),
    ("limits.tasks", ["128", "129", "4194304"]),
    ("limits.engine_sockets", ["1", "16", "1024"]),
    ("limits.peers", ["16", "17", "10000000"]),
    ("limits.peers_per_container", ["0", "1", "10000"]),
    ("identity.hierarchy", ["memory", "v2", "auto"]),
    ("identity.hold", ["0s", "1s", "5m"]),
    ("identity.scan_interval", ["1s", "1m", "1h"]),
    ("identity.kubernetes", ["off", "on", "off"]),
    ("identity.kubeconfig", ["/etc/kubeconfig", "/k", "/a b/c"]),
    ("identity.node_name", ["node1", "ip-10-0-0-1.example.com", "n"]),
    ("identity.cri_socket", ["off", "/run/crio/crio.sock", "/a b"]),
    ("identity.cri_interval", ["1s", "1m", "1h"]),
    ("identity.docker_socket", ["off", "/run/docker.sock", "/a b"]),
    ("identity.podman_socket", ["off", "/run/podman/podman.sock", "/a b"]),
    ("peers.kubernetes", ["true", "false", "true"]),
    ("peers.cidrs", ["10.20.0.0/16=database", "10.0.0.0/8=a,10.1.0.0/16=b", "2001:db8::/32=lab"]),
    ("otlp.endpoint", ["http://localhost:4318", "https://a.example/otlp", "http://[::1]:4318"]),
    ("otlp.protocol", ["grpc", "http/protobuf", "grpc"]),
    ("otlp.compression", ["none", "gzip", "zstd"]),
    ("otlp.certificate", ["/ca.pem", "/a b", "/c"]),
    ("otlp.client_certificate", ["/client.pem", "/a b", "/c"]),
    ("otlp.client_key", ["/key.pem", "/a b", "/c"]),
    ("otlp.logs", ["false", "true", "false"]),
    ("otlp.traces", ["false", "true", "false"]),
    ("otlp.metrics", ["false", "true", "false"]),
    ("otlp.timeout", ["10ms", "1s", "5m"]),
    ("otlp.retry_for", ["0s", "5m", "1h"]),
    ("otlp.queue", ["1", "100", "1048576"]),
    ("otlp.batch", ["1", "100", "65536"]),
    ("otlp.delay", ["1ms", "5s", "5m"]),
    ("otlp.metrics_interval", ["1s", "10s", "1h"]),
    ("otlp.slow", ["0s", "100ms", "1h"]),
    ("otlp.sample_ratio", ["0", "0.25", "0.000001"]),
    ("otlp.sample_rate", ["0", "1", "1000000"]),
    ("otlp.tracked", ["16", "1000", "1048576"]),
    ("otlp.well_known_labels", ["true", "false", "true"]),
    ("log.level", ["error", "info", "debug"]),
];

/// What stands in the same section beside an option, so that all samples of it go together with the rest.
fn neighbour(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "ring.poll_min" => ("ring.poll_max", "1s"),
        "ring.poll_max" => ("ring.poll_min", "1ms"),
        "debug.tls_certificate_file" => ("debug.tls_key_file", "/other"),
        "debug.tls_key_file" => ("debug.tls_certificate_file", "/other"),
        "otlp.client_certificate" => ("otlp.client_key", "/other"),
        "otlp.client_key" => ("otlp.client_certificate", "/other"),
        _ => return None,
    })
}

/// A file that is there as long as the value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: impl AsRef<[u8]>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("podwitness-config-{}-{count}.yaml", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn flags(&self) -> Flags {
        Flags { file: Some(self.0.clone()), values: Vec::new() }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load_file(content: impl AsRef<[u8]>) -> Loaded {
    Config::load(&TempFile::new(content).flags(), [])
}

fn load_path(path: &Path) -> Loaded {
    Config::load(&Flags { file: Some(path.into()), values: Vec::new() }, [])
}

fn load_env(name: &str, value: &str) -> Loaded {
    Config::load(&Flags::default(), [(OsString::from(name), OsString::from(value))])
}

fn load_flag(key: &'static str, value: &str) -> Loaded {
    Config::load(&Flags { file: None, values: vec![(option(key), value.into())] }, [])
}

/// One value as a file.
fn yaml(key: &str, value: &str) -> String {
    let (section, name) = key.split_once('.').unwrap();
    let quote = if value.contains(':') { "\"" } else { "" };
    format!("{section}:\n  {name}: {quote}{value}{quote}\n")
}

fn option(key: &str) -> &'static OptionSpec {
    OPTIONS.iter().find(|option| option.key == key).unwrap()
}

fn value<'e>(effective: &'e Effective, key: &str) -> &'e EffectiveValue {
    effective.values.iter().find(|value| value.option.key == key).unwrap()
}

/// What a refused configuration says.
fn errors(loaded: Loaded) -> String {
    let text = loaded.expect_err("accepted").to_string();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(
        text.ends_with("`podwitness config --help` lists every option with its allowed values."),
        "{text}"
    );
    text
}
