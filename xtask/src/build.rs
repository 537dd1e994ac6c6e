//! `cargo xtask build` and `cargo xtask run`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::machine;
use crate::process::{cargo, output, show, target_directory};
use crate::setup::{self, Purpose};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

impl Profile {
    fn flag(self) -> Option<&'static str> {
        (self == Self::Release).then_some("--release")
    }

    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

pub(crate) fn build(profile: Profile) -> Result<()> {
    setup::run(Purpose::Build)?;
    let agent = agent(profile)?;
    eprintln!("built {}", agent.display());
    Ok(())
}

/// Compiles the agent, kernel half included. `agent/build.rs` finds the toolchain that the setup left.
pub(crate) fn agent(profile: Profile) -> Result<PathBuf> {
    package("podwitness", profile)?;
    Ok(target_directory().join(profile.directory()).join("podwitness"))
}

/// The same without any library that the system would have to have: for images, and for other distributions.
///
/// The target is named, so that programs that run during the build, and the kernel half, are spared the flag.
pub(crate) fn static_agent(profile: Profile) -> Result<PathBuf> {
    let said = output(Command::new("rustc").arg("-vV")).context("rustc does not start")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it compiles for")?;
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", host.to_uppercase().replace('-', "_"));
    let mut build = cargo();
    build.args(["build", "--package", "podwitness", "--target", host]).args(profile.flag());
    show(build.env(variable, "-C target-feature=+crt-static"))?;
    Ok(target_directory().join(host).join(profile.directory()).join("podwitness"))
}

pub(crate) fn package(name: &str, profile: Profile) -> Result<()> {
    show(cargo().args(["build", "--package", name]).args(profile.flag()))
}

/// Builds the agent and becomes it.
pub(crate) fn run(profile: Profile, arguments: &[OsString]) -> Result<Infallible> {
    setup::run(Purpose::Run)?;
    let agent = agent(profile)?;
    let as_root = format!("start what was just built as root: sudo {}", agent.display());
    machine::can_load(&as_root)?;
    let mut command = Command::new(&agent);
    // Cargo's own libraries must not follow the agent.
    command.args(arguments).env_remove("LD_LIBRARY_PATH");
    Err(command.exec()).with_context(|| format!("cannot start {}", agent.display()))
}
