//! The kernel's file systems that the agent and its tests look into.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::machine;
use crate::process::output;
use crate::steps::{Failure, Outcome};

struct Mount {
    kind: &'static str,
    at: &'static str,
    /// The agent sees nothing without it.
    needed: bool,
}

const MOUNTS: [Mount; 3] = [
    // On a pure v2 system it is long there, at /sys/fs/cgroup itself.
    Mount { kind: "cgroup2", at: "/sys/fs/cgroup/unified", needed: true },
    Mount { kind: "tracefs", at: "/sys/kernel/tracing", needed: false },
    Mount { kind: "bpf", at: "/sys/fs/bpf", needed: false },
];

pub(super) fn ensure() -> Result<Outcome> {
    let table = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let missing: Vec<_> = MOUNTS.iter().filter(|mount| !mount.is_in(&table)).collect();
    if missing.is_empty() {
        return Ok(Outcome::AlreadyThere);
    }
    if !machine::is_root() {
        let kinds: Vec<_> = missing.iter().map(|mount| mount.kind).collect();
        return Ok(Outcome::Skipped(format!("only root can mount {}", kinds.join(", "))));
    }
    let mut refused = Vec::new();
    for mount in missing {
        if mount.mount().is_some() {
            continue;
        }
        if mount.needed {
            return Err(Failure::error(
                format!(
                    "the {} file system is mounted nowhere and cannot be mounted at {}",
                    mount.kind, mount.at
                ),
                format!("mount -t {} none DIRECTORY", mount.kind),
            ));
        }
        refused.push(mount.kind);
    }
    if refused.is_empty() {
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Skipped(format!("this kernel lets nobody mount {} here", refused.join(", "))))
}

impl Mount {
    /// Anywhere will do: whoever uses it looks it up in the same table.
    fn is_in(&self, table: &str) -> bool {
        table.lines().any(|line| line.split(' ').nth(2) == Some(self.kind))
    }

    fn mount(&self) -> Option<()> {
        if !Path::new(self.at).exists() {
            fs::create_dir_all(self.at).ok()?;
        }
        output(Command::new("mount").args(["-t", self.kind, "none", self.at])).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::MOUNTS;

    #[test]
    fn a_mount_is_known_by_its_kind_wherever_it_is() {
        let table = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nnone /bpf tmpfs rw 0 0\n";
        let found: Vec<_> =
            MOUNTS.iter().filter(|mount| mount.is_in(table)).map(|mount| mount.kind).collect();
        assert_eq!(found, ["cgroup2"]);
    }
}
