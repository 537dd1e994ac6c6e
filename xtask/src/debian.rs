//! Debian packages of any release, without touching this machine's own package state.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::architecture::Architecture;
use crate::kernel_half::on_path;
use crate::machine;
use crate::process::{output, quietly};
use crate::steps::{Failure, Live};

/// Names a Debian mirror (the directory that holds `dists`) where the machine's own sources name none.
pub(crate) const MIRROR_VARIABLE: &str = "PODWITNESS_DEBIAN_MIRROR";

const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Where a package manager's packages are between download and unpacking.
const ARCHIVES: &str = "cache/archives";

/// How long the answer to "which version is current?" stays good.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Where this machine gets Debian's packages from.
#[derive(Debug, PartialEq)]
pub(crate) struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    pub(crate) fn of_this_machine() -> Result<Self> {
        if let Some(main) = env::var_os(MIRROR_VARIABLE).and_then(|value| value.into_string().ok()) {
            return Ok(Self { security: beside(&main), main });
        }
        let known_to_apt = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ]));
        known_to_apt.as_deref().and_then(Self::in_targets).ok_or_else(|| {
            Failure::error(
                "this needs packages of Debian, and the machine's package sources name no Debian mirror",
                format!("set {MIRROR_VARIABLE} to one, as in http://MIRROR/debian"),
            )
        })
    }

    /// Reads lines like "http://mirror/debian/ bookworm".
    fn in_targets(targets: &str) -> Option<Self> {
        let of_debian = || {
            let pairs = targets.lines().filter_map(|line| line.split_once(' '));
            pairs.filter(|(uri, _)| uri.contains("/debian"))
        };
        let (main, _) = of_debian().find(|(_, release)| !release.contains(['-', '/']))?;
        let security = of_debian().find(|(_, release)| release.ends_with("-security"));
        let security = security.map_or_else(|| beside(main), |(uri, _)| uri.to_owned());
        Some(Self { main: main.to_owned(), security })
    }

    /// A line of a sources list; security updates are on a mirror of their own.
    fn source(&self, suite: &str) -> Result<String> {
        let mirror = if suite.ends_with("-security") { &self.security } else { &self.main };
        let keyring = KEYRINGS.iter().find(|file| Path::new(file).exists()).ok_or_else(|| {
            Failure::error("Debian's keys are missing", "install the package debian-archive-keyring")
        })?;
        // Only what `apt-get install` needs to know, no descriptions and no icons.
        Ok(format!("deb [signed-by={keyring} target=Packages] {mirror} {suite} main\n"))
    }
}

/// The mirror of the security updates, as Debian's mirrors have it.
fn beside(main: &str) -> String {
    format!("{}-security", main.trim_end_matches('/'))
}

/// A package manager with lists of its own.
pub(crate) struct Packages {
    home: PathBuf,
    /// What is installed here counts as there; otherwise nothing is.
    on_top_of_this_system: bool,
    /// This machine's, or that of an emulated one.
    architecture: Architecture,
}

impl Packages {
    pub(crate) fn open(
        home: PathBuf,
        mirrors: &Mirrors,
        suites: &[&str],
        architecture: Architecture,
        live: &Live,
    ) -> Result<Self> {
        if on_path("apt-get").is_none() || on_path("dpkg-deb").is_none() {
            return Err(Failure::error(
                "this needs packages of Debian, and the system has no apt-get or no dpkg-deb",
                "run this on Debian or in a container of it",
            ));
        }
        for directory in [home.join("lists/partial"), home.join(ARCHIVES).join("partial")] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let sources: String = suites.iter().map(|suite| mirrors.source(suite)).collect::<Result<_>>()?;
        fs::write(home.join("sources.list"), sources).context("cannot write the list of package sources")?;
        let packages = Self { home, on_top_of_this_system: false, architecture };
        // One missing suite is no reason to stop: whether the rest suffices shows when a package is wanted.
        let _ = quietly(packages.apt("apt-get").args(["--quiet", "update"]), live);
        Ok(packages)
    }

    pub(crate) fn on_top_of_this_system(mut self) -> Self {
        self.on_top_of_this_system = true;
        self
    }

    /// A field of the newest version of a package.
    pub(crate) fn field(&self, package: &str, name: &str) -> Result<String> {
        let shown = output(self.apt("apt-cache").args(["show", "--no-all-versions", package]));
        let prefix = format!("{name}: ");
        shown
            .as_deref()
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix(&prefix)))
            .map(str::to_owned)
            .ok_or_else(|| {
                Failure::error(
                    format!("the Debian package {package} is not to be had"),
                    format!("look whether apt reaches the sources in {}", self.list().display()),
                )
            })
    }

    /// Unpacks one package, and none that it depends on.
    pub(crate) fn unpack(&self, package: &str, into: &Path, live: &Live) -> Result<()> {
        let archives = self.no_archives()?;
        quietly(self.apt("apt-get").args(["--quiet", "download", package]).current_dir(&archives), live)
            .with_context(|| format!("cannot download the Debian package {package}"))?;
        self.extract_all(into, live)
    }

    /// Unpacks packages with everything they need that isn't there.
    pub(crate) fn unpack_with_needs(
        &self,
        packages: &[&str],
        suite: &str,
        into: &Path,
        live: &Live,
    ) -> Result<()> {
        self.no_archives()?;
        let mut command = self.apt("apt-get");
        command.args(["--quiet", "install", "--download-only", "--yes", "--no-install-recommends"]);
        quietly(command.args(["--target-release", suite]).args(packages), live)
            .with_context(|| format!("cannot download from Debian: {}", packages.join(", ")))?;
        self.extract_all(into, live)
    }

    /// Everything that was downloaded, which is then no longer needed.
    fn extract_all(&self, into: &Path, live: &Live) -> Result<()> {
        for file in self.archives()? {
            quietly(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(into), live)?;
            fs::remove_file(&file)?;
        }
        Ok(())
    }

    /// Where packages go, without those of a setup that was stopped before it had unpacked them.
    fn no_archives(&self) -> Result<PathBuf> {
        for left in self.archives()? {
            fs::remove_file(&left).with_context(|| format!("cannot remove {}", left.display()))?;
        }
        Ok(self.home.join(ARCHIVES))
    }

    fn archives(&self) -> Result<Vec<PathBuf>> {
        let directory = self.home.join(ARCHIVES);
        let entries = directory.read_dir().with_context(|| format!("cannot read {}", directory.display()))?;
        let files = entries.flatten().map(|entry| entry.path());
        Ok(files.filter(|file| file.extension().is_some_and(|extension| extension == "deb")).collect())
    }

    fn list(&self) -> PathBuf {
        self.home.join("sources.list")
    }

    /// A tool of apt that sees our sources only.
    fn apt(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        command.env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH").current_dir(&self.home);
        let mut option = |name: &str, value: &str| {
            command.arg("--option").arg(format!("{name}={value}"));
        };
        let at = |name: &str| self.home.join(name).display().to_string();
        option("Dir::Etc::SourceList", &at("sources.list"));
        option("Dir::State::Lists", &at("lists"));
        option("Dir::Cache", &at("cache"));
        option("APT::Architecture", self.architecture.debian());
        option("APT::Architectures", self.architecture.debian());
        for own in ["Dir::Etc::SourceParts", "Dir::Etc::Preferences", "Dir::Etc::PreferencesParts"] {
            option(own, "/dev/null");
        }
        if !self.on_top_of_this_system {
            option("Dir::State::Status", "/dev/null");
        }
        // Nothing of the system's is written to.
        option("Debug::NoLocking", "true");
        if machine::is_root() {
            // The user that apt downloads as can't reach a cache in root's home.
            option("APT::Sandbox::User", "root");
        }
        command
    }
}

/// As in "bookworm"; only Debian has one that its mirrors know.
pub(crate) fn release_of_this_system() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let field =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    (field("ID=") == Some("debian")).then(|| field("VERSION_CODENAME=").map(str::to_owned))?
}

/// What an earlier run noted in `file`, unless that was long ago.
pub(crate) fn noted(file: &Path) -> Option<String> {
    let written = file.metadata().ok()?.modified().ok()?;
    let fresh = written.elapsed().is_ok_and(|age| age < FRESH);
    fresh.then(|| fs::read_to_string(file).ok())?
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::{ARCHIVES, Mirrors, Packages};
    use crate::architecture::Architecture;

    #[test]
    fn what_a_stopped_setup_has_downloaded_is_not_unpacked() {
        let home = env::temp_dir().join(format!("podwitness-archives-{}", std::process::id()));
        fs::create_dir_all(home.join(ARCHIVES).join("partial")).unwrap();
        fs::write(home.join(ARCHIVES).join("linux-of-then.deb"), "").unwrap();
        let packages =
            Packages { home: home.clone(), on_top_of_this_system: false, architecture: Architecture::X86_64 };
        assert_eq!(packages.archives().unwrap().len(), 1);
        assert_eq!(packages.no_archives().unwrap(), home.join(ARCHIVES));
        assert!(packages.archives().unwrap().is_empty());
        assert!(home.join(ARCHIVES).join("partial").exists());
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn the_mirror_is_the_one_the_machine_uses() {
        let targets = "http://other/apt stable\nhttp://m/debian/ bookworm\nhttp://m/debian/ bookworm-updates\n\
                       http://s/debian-security/ bookworm-security\n";
        let mirrors = Mirrors::in_targets(targets).unwrap();
        assert_eq!(mirrors.main, "http://m/debian/");
        assert_eq!(mirrors.security, "http://s/debian-security/");
    }

    #[test]
    fn security_updates_lie_beside_the_rest_if_nothing_else_is_said() {
        let mirrors = Mirrors::in_targets("http://m/debian/ trixie\n").unwrap();
        assert_eq!(mirrors.security, "http://m/debian-security");
        assert_eq!(Mirrors::in_targets("http://m/ubuntu noble\n"), None);
    }
}
