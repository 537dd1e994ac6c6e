//! What the live tests need beside the agent: Prometheus, the usual network and process tools, and openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use crate::kernel_half::{cache, on_path};
use crate::machine;
use crate::process::{output, quietly};
use crate::steps::{Live, Outcome};

/// A program the tests call, and the Debian package it comes in.
const TOOLS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("ss", "iproute2"), ("ps", "procps"), ("openssl", "openssl")];

/// A real Prometheus and its checker.
pub(crate) struct Prometheus {
    pub(crate) server: PathBuf,
    pub(crate) promtool: PathBuf,
}

pub(super) fn ensure(apt: &mut Apt, live: &Live) -> Result<(Option<Prometheus>, Outcome)> {
    let mut packages: Vec<_> =
        TOOLS.iter().filter(|(tool, _)| on_path(tool).is_none()).map(|(_, package)| *package).collect();
    packages.dedup();
    let missing = !packages.is_empty();
    if missing {
        apt.install(&packages, live)?;
    }
    if let Some(prometheus) = Prometheus::find() {
        let outcome = if missing { Outcome::Done } else { Outcome::AlreadyThere };
        return Ok((Some(prometheus), outcome));
    }
    match Prometheus::unpack(apt, live) {
        Ok(prometheus) => Ok((Some(prometheus), Outcome::Done)),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => {
            Ok((None, Outcome::Skipped(format!("no Prometheus on the PATH, and none to be had: {error:#}"))))
        }
    }
}

impl Prometheus {
    /// On the PATH, or unpacked by an earlier setup.
    fn find() -> Option<Self> {
        let on_path = on_path("prometheus").zip(on_path("promtool"));
        if let Some((server, promtool)) = on_path {
            return Some(Self { server, promtool });
        }
        let mut unpacked: Vec<_> = cache()?.read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
        unpacked.sort();
        unpacked.iter().rev().find_map(|directory| Self::inside(directory))
    }

    fn inside(directory: &Path) -> Option<Self> {
        let name = directory.file_name()?.to_str()?;
        let binaries = directory.join("usr/bin");
        let prometheus = Self { server: binaries.join("prometheus"), promtool: binaries.join("promtool") };
        let complete = prometheus.server.exists() && prometheus.promtool.exists();
        // Names that begin with a dot are unfinished.
        (name.starts_with("prometheus-") && complete).then_some(prometheus)
    }

    /// Unpacks Debian's package into the cache: installing it would also start a service.
    fn unpack(apt: &mut Apt, live: &Live) -> Result<Self> {
        if !Apt::exists() {
            bail!("this system has no apt-get; install Prometheus by hand");
        }
        let cache = cache().context("HOME is not set")?;
        let partial = cache.join(format!(".prometheus-{}", std::process::id()));
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let prometheus = Self::unpack_by_way_of(&partial, &cache, apt, live);
        let _ = fs::remove_dir_all(&partial);
        prometheus
    }

    fn unpack_by_way_of(partial: &Path, cache: &Path, apt: &mut Apt, live: &Live) -> Result<Self> {
        apt.download("prometheus", partial, live)?;
        let package = partial
            .read_dir()?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get download left no package behind")?;
        let version = output(Command::new("dpkg-deb").arg("--field").arg(&package).arg("Version"))
            .context("cannot read the version of the package")?;
        let root = partial.join("root");
        quietly(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root), live)?;

        let home = cache.join(format!("prometheus-{}", version.trim()));
        let _ = fs::remove_dir_all(&home);
        fs::rename(&root, &home).with_context(|| format!("cannot move Prometheus to {}", home.display()))?;
        let prometheus = Self::inside(&home).context("the package has no prometheus or no promtool")?;
        for program in [&prometheus.server, &prometheus.promtool] {
            if output(Command::new(program).arg("--version")).is_none() {
                fs::remove_dir_all(&home)?;
                bail!("Debian's {} does not start on this system", program.display());
            }
        }
        Ok(prometheus)
    }
}
