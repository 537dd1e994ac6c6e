//! Other people's tools, for `cargo xtask bench` to compare with.

use anyhow::Result;

use super::apt::Apt;
use crate::kernel_half::on_path;
use crate::steps::{Live, Outcome};

/// A program and the Debian package it comes in. `bench/src/peers.rs` names the same.
const PEERS: [(&str, &str); 6] = [
    ("bpftrace", "bpftrace"),
    ("perf", "linux-perf"),
    ("strace", "strace"),
    ("syscount", "libbpf-tools"),
    ("tcplife", "libbpf-tools"),
    ("tcpstates", "libbpf-tools"),
];

pub(super) fn ensure(apt: &mut Apt, live: &Live) -> Result<Outcome> {
    let missing = PEERS.iter().filter(|(program, _)| on_path(program).is_none());
    let mut packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(Outcome::AlreadyThere);
    }
    apt.install(&packages, live)?;
    Ok(Outcome::Done)
}
