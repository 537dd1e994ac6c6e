//! Python's libraries that the live tests stand on, each in a directory of its own: the OTLP receiver's, for gRPC,
//! OpenTelemetry's messages and zstd, and validators of OpenAPI documents and of Kubernetes' objects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::settle;
use crate::kernel_half::{cache, on_path};
use crate::machine;
use crate::process::{output, quietly};
use crate::steps::{Live, Outcome};

/// What is installed together.
pub(super) struct Libraries {
    /// Of the directory, with the kind of Python behind it: another one when the libraries change.
    name: &'static str,
    packages: &'static [&'static str],
    what: &'static str,
}

pub(super) const OTLP: Libraries = Libraries {
    name: "otlp-python-2",
    packages: &["grpcio==1.85.3", "h2==4.4.1", "opentelemetry-proto==1.45.2", "zstandard==0.25.0"],
    what: "OTLP receiver",
};

pub(super) const OPENAPI: Libraries = Libraries {
    name: "openapi-python-1",
    packages: &["openapi-spec-validator==0.9.0"],
    what: "validator of OpenAPI documents",
};

pub(super) const KUBERNETES: Libraries = Libraries {
    name: "kubernetes-python-1",
    packages: &["kubernetes-validate==1.37.0"],
    what: "validator of Kubernetes' objects",
};

/// What compiled libraries depend on, as in "cpython-311 x86_64".
const KIND: &str = "import platform, sys; print(sys.implementation.cache_tag, platform.machine())";

/// Where the libraries are, if they could be had.
pub(super) fn ensure(wanted: &Libraries, apt: &mut Apt, live: &Live) -> Result<(Option<PathBuf>, Outcome)> {
    if let Some(home) = wanted.find() {
        return Ok((Some(home), Outcome::AlreadyThere));
    }
    match wanted.install(apt, live) {
        Ok(home) => Ok((Some(home), Outcome::Done)),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok((None, Outcome::Skipped(format!("no {}: {error:#}", wanted.what)))),
    }
}

impl Libraries {
    /// Those of an earlier setup, for the Python that is in use now.
    pub(super) fn find(&self) -> Option<PathBuf> {
        self.home().ok().filter(|home| home.exists())
    }

    fn home(&self) -> Result<PathBuf> {
        let kind = output(Command::new("python3").args(["-c", KIND])).context("`python3` does not work")?;
        let name = format!("{}-{}", self.name, kind.trim().replace(' ', "-"));
        Ok(cache().context("HOME is not set")?.join(name))
    }

    pub(super) fn install(&self, apt: &mut Apt, live: &Live) -> Result<PathBuf> {
        let has_pip = || output(Command::new("python3").args(["-m", "pip", "--version"])).is_some();
        if on_path("python3").is_none() || !has_pip() {
            apt.install(&["python3", "python3-pip"], live)?;
        }
        if !has_pip() {
            bail!("`python3 -m pip` does not work");
        }
        let home = self.home()?;
        let partial = home.with_file_name(format!(".{}-{}", self.name, std::process::id()));
        let installed = self.fetch(&partial, live).and_then(|()| settle(&partial, &home));
        let _ = fs::remove_dir_all(&partial);
        installed?;
        Ok(home)
    }

    fn fetch(&self, into: &Path, live: &Live) -> Result<()> {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        // What comes as source would run its own code here to be built.
        pip.args(["--only-binary=:all:", "--target"]).arg(into);
        quietly(pip.args(self.packages), live)
    }
}
