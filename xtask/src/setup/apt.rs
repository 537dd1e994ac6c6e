//! Debian's package manager, asked as little as possible.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::kernel_half::on_path;
use crate::machine;
use crate::process::{output, quietly};
use crate::steps::{Failure, Live};

#[derive(Default)]
pub(crate) struct Apt {
    /// The package lists were fetched by us already.
    updated: bool,
}

impl Apt {
    pub(crate) fn exists() -> bool {
        on_path("apt-get").is_some()
    }

    /// Installs `packages`; never at the price of removing another one.
    pub(crate) fn install(&mut self, packages: &[&str], live: &Live) -> Result<()> {
        let by_hand = format!("sudo apt-get install --no-install-recommends {}", packages.join(" "));
        if !Self::exists() {
            return Err(Failure::error(
                format!(
                    "the Debian packages {} are missing, and this system has no apt-get",
                    packages.join(", ")
                ),
                "install their equivalents of your distribution by hand",
            ));
        }
        if !machine::is_root() {
            return Err(Failure::error(
                format!("only root can install the missing packages: {}", packages.join(", ")),
                format!("{by_hand}, then run this again"),
            ));
        }
        self.update(live);
        let options = ["install", "--yes", "--no-install-recommends", "--no-remove"];
        quietly(Self::apt_get().args(options).args(packages), live)
            .map_err(|error| Failure::error(format!("{error:#}"), by_hand))
    }

    /// Fetches one package into `directory` without installing it, which would also start its service.
    pub(crate) fn download(&mut self, package: &str, directory: &std::path::Path, live: &Live) -> Result<()> {
        if machine::is_root() {
            self.update(live);
        }
        quietly(Self::apt_get().args(["download", package]).current_dir(directory), live)
            .with_context(|| format!("cannot download the Debian package {package}"))
    }

    /// Fetches packages and unpacks them into `directory`, which must not exist.
    pub(crate) fn unpack(
        &mut self,
        packages: &[&str],
        directory: &std::path::Path,
        live: &Live,
    ) -> Result<()> {
        let archives = directory.join("archives");
        fs::create_dir_all(&archives).with_context(|| format!("cannot create {}", archives.display()))?;
        for package in packages {
            self.download(package, &archives, live)?;
        }
        for archive in archives.read_dir()?.flatten() {
            quietly(Command::new("dpkg-deb").arg("--extract").arg(archive.path()).arg(directory), live)?;
        }
        fs::remove_dir_all(archives).context("cannot remove the packages")
    }

    /// The version that an installation would take.
    pub(crate) fn candidate(&mut self, package: &str, live: &Live) -> Option<String> {
        if machine::is_root() {
            self.update(live);
        }
        let policy = output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"))?;
        let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
        (version != "(none)").then(|| version.to_owned())
    }

    /// Fetches the package lists once. One unreachable source must not stop the others: whether what
    /// came is enough shows when a package is wanted.
    fn update(&mut self, live: &Live) {
        if !self.updated {
            let _ = quietly(Self::apt_get().arg("update"), live);
            self.updated = true;
        }
    }

    fn apt_get() -> Command {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command.args(["--quiet", "--option", "DPkg::Lock::Timeout=120"]).env_remove("LD_LIBRARY_PATH");
        command.current_dir(env::temp_dir());
        command
    }
}
