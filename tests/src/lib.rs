//! Harness of the tests that run the shipped binary on a live kernel.
//!
//! They know the agent from the outside only: its command line, its HTTP and its metrics. What it says is
//! compared with what a helper program (`src/bin/workload`) did and measured itself. Every wait is for a
//! condition with a deadline; every name is unique, so that two runs on one machine don't meet.
//!
//! Environment: `PODWITNESS_BIN` (the agent, else `target/release/podwitness`), `PODWITNESS_WORKLOAD` (the helper,
//! else beside the test), `PODWITNESS_PROMETHEUS` and `PODWITNESS_PROMTOOL` (else from `PATH`),
//! `PODWITNESS_CHROMIUM` (else Chromium from `PATH`),
//! `PODWITNESS_CONTAINERD` (directories before `PATH`), `PODWITNESS_IMAGE` (the archive of `cargo xtask image`),
//! `PODWITNESS_OTLP_PYTHON` (libraries of the OTLP receiver), `PODWITNESS_OPENAPI_PYTHON` (those of the validator of
//! OpenAPI documents),
//! `PODWITNESS_HELM`, `PODWITNESS_KUBECTL` and `PODWITNESS_VALIDATOR` (what the tests of the manifests call), `CI` (a
//! test that can't run fails instead of saying so and passing), `PODWITNESS_VM` (the machine is a test's own, without
//! Prometheus: `cargo xtask vm`),
//! `PODWITNESS_TEST_SCALE` (see [`wait::scale`]).

pub mod agent;
pub mod allocations;
pub mod api;
pub mod bpf;
pub mod browser;
pub mod cgroup;
pub mod cluster;
pub mod containerd;
pub mod http;
pub mod kernel;
pub mod limits;
pub mod metrics;
pub mod netns;
pub mod otlp;
pub mod program;
pub mod prometheus;
pub mod pty;
pub mod refused;
pub mod relay;
pub mod schema;
pub mod tail;
pub mod tcp;
pub mod tls;
mod unoffered;
pub mod wait;
pub mod workload;

pub use agent::{Agent, Options};
pub use allocations::Allocations;
pub use api::Api;
pub use browser::Browser;
pub use cgroup::{Cgroup, hierarchies};
pub use cluster::Cluster;
pub use containerd::{Confinement, Containerd, Pod, Seccomp};
pub use metrics::Metrics;
pub use netns::NetNs;
pub use otlp::Receiver;
pub use prometheus::Prometheus;
pub use pty::Pty;
pub use relay::Relay;
pub use tail::Tail;
pub use wait::wait_until;
pub use workload::Workload;
