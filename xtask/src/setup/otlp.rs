//! What the OTLP receiver of the live tests is made of: Python's libraries for gRPC and for OpenTelemetry's messages, in
//! a directory of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use crate::kernel_half::{cache, on_path};
use crate::machine;
use crate::process::{output, quietly};
use crate::steps::{Live, Outcome};

const LIBRARIES: [&str; 2] = ["grpcio==1.85.3", "opentelemetry-proto==1.45.2"];
/// Another one when the libraries change.
const NAME: &str = "otlp-python-1";

/// Where the libraries are, if they could be had.
pub(super) fn ensure(apt: &mut Apt, live: &Live) -> Result<(Option<PathBuf>, Outcome)> {
    let home = cache().context("HOME is not set")?.join(NAME);
    if home.exists() {
        return Ok((Some(home), Outcome::AlreadyThere));
    }
    match install(&home, apt, live) {
        Ok(()) => Ok((Some(home), Outcome::Done)),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok((None, Outcome::Skipped(format!("no OTLP receiver: {error:#}")))),
    }
}

fn install(home: &PathBuf, apt: &mut Apt, live: &Live) -> Result<()> {
    let has_pip = || output(Command::new("python3").args(["-m", "pip", "--version"])).is_some();
    if on_path("python3").is_none() || !has_pip() {
        apt.install(&["python3", "python3-pip"], live)?;
    }
    if !has_pip() {
        bail!("`python3 -m pip` does not work");
    }
    let partial = home.with_file_name(format!(".{NAME}-{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
    let installed = quietly(pip.arg(&partial).args(LIBRARIES), live).and_then(|()| {
        fs::rename(&partial, home).with_context(|| format!("cannot move the libraries to {}", home.display()))
    });
    let _ = fs::remove_dir_all(&partial);
    installed
}
