//! Python's libraries that the live tests stand on, each in a directory of its own: the OTLP receiver's, for gRPC,
//! OpenTelemetry's messages and zstd, and a validator of OpenAPI documents.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use crate::kernel_half::{cache, on_path};
use crate::machine;
use crate::process::{output, quietly};
use crate::steps::{Live, Outcome};

/// What is installed together.
pub(super) struct Libraries {
    /// Of the directory: another one when the libraries change.
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

/// Where the libraries are, if they could be had.
pub(super) fn ensure(wanted: &Libraries, apt: &mut Apt, live: &Live) -> Result<(Option<PathBuf>, Outcome)> {
    let home = cache().context("HOME is not set")?.join(wanted.name);
    if home.exists() {
        return Ok((Some(home), Outcome::AlreadyThere));
    }
    match install(wanted, &home, apt, live) {
        Ok(()) => Ok((Some(home), Outcome::Done)),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok((None, Outcome::Skipped(format!("no {}: {error:#}", wanted.what)))),
    }
}

fn install(wanted: &Libraries, home: &PathBuf, apt: &mut Apt, live: &Live) -> Result<()> {
    let has_pip = || output(Command::new("python3").args(["-m", "pip", "--version"])).is_some();
    if on_path("python3").is_none() || !has_pip() {
        apt.install(&["python3", "python3-pip"], live)?;
    }
    if !has_pip() {
        bail!("`python3 -m pip` does not work");
    }
    let partial = home.with_file_name(format!(".{}-{}", wanted.name, std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
    let installed = quietly(pip.arg(&partial).args(wanted.packages), live).and_then(|()| {
        fs::rename(&partial, home).with_context(|| format!("cannot move the libraries to {}", home.display()))
    });
    let _ = fs::remove_dir_all(&partial);
    installed
}
