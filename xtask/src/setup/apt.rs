//! Debian's package manager, asked as little as possible.

use std::env;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::kernel_half::on_path;
use crate::machine;
use crate::process::{output, quietly};
use crate::steps::{Failure, Live};

/// How long another package manager may keep us waiting for the package lists; for the packages, apt itself waits.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);
const LOCK_LOOK: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Apt {
    /// The package lists were fetched by us already.
    updated: bool,
    /// What was said if not all of them came.
    complaint: Option<String>,
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
            .map_err(|error| Failure::error(self.with_complaint(&format!("{error:#}")), by_hand))
    }

    /// Fetches one package into `directory` without installing it, which would also start its service.
    pub(crate) fn download(&mut self, package: &str, directory: &std::path::Path, live: &Live) -> Result<()> {
        if machine::is_root() {
            self.update(live);
        }
        quietly(Self::apt_get().args(["download", package]).current_dir(directory), live)
            .with_context(|| self.with_complaint(&format!("cannot download the Debian package {package}")))
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
    /// came is enough shows when a package is wanted, and then the reason is told, too.
    fn update(&mut self, live: &Live) {
        if self.updated {
            return;
        }
        self.updated = true;
        let (deadline, mut waiting) = (Instant::now() + LOCK_PATIENCE, false);
        loop {
            let mut update = Self::apt_get();
            // Else a list that could not be fetched is no error.
            update.args(["--option", "APT::Update::Error-Mode=any", "update"]);
            let Err(error) = quietly(&mut update, live) else { return };
            let complaint = complaint(&error.to_string());
            if !is_about_a_lock(&complaint) || Instant::now() >= deadline {
                self.complaint = Some(complaint);
                return;
            }
            if !waiting {
                live.note("waiting for another package manager, which holds the package lists");
                waiting = true;
            }
            live.tick();
            thread::sleep(LOCK_LOOK);
        }
    }

    /// What failed, and what may be the reason: lists that could not be fetched before.
    pub(crate) fn with_complaint(&self, what: &str) -> String {
        match &self.complaint {
            Some(complaint) => format!("{what}\n  the package lists had not all come: {complaint}"),
            None => what.to_owned(),
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

/// The errors and warnings among what apt has said; if there is none, all of it.
fn complaint(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| line.starts_with("E: ") || line.starts_with("W: "));
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { said.to_owned() } else { lines.join("; ") }
}

fn is_about_a_lock(complaint: &str) -> bool {
    complaint.contains("Could not get lock")
}

#[cfg(test)]
mod tests {
    use super::{Apt, complaint, is_about_a_lock};

    #[test]
    fn why_the_lists_did_not_come_is_told_with_what_failed_then() {
        let said = "`apt-get --quiet update` ended with exit status: 100:\n    Hit:1 http://m/debian trixie\n    \
                    W: Failed to fetch http://m/x  404\n    E: Some index files failed to download.";
        let mut apt = Apt::default();
        assert_eq!(apt.with_complaint("no rustc-web"), "no rustc-web");
        apt.complaint = Some(complaint(said));
        assert_eq!(
            apt.with_complaint("no rustc-web"),
            "no rustc-web\n  the package lists had not all come: W: Failed to fetch http://m/x  404; \
             E: Some index files failed to download."
        );
        assert_eq!(complaint("cannot run apt-get"), "cannot run apt-get");
    }

    #[test]
    fn a_lock_is_waited_for_and_nothing_else() {
        assert!(is_about_a_lock("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7"));
        assert!(!is_about_a_lock("E: The list of sources could not be read."));
    }
}
