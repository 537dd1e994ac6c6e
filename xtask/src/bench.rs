//! `cargo xtask bench`: builds what is to be measured and the program that measures it, and runs that.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Profile};
use crate::machine;
use crate::process::{show, target_directory, workspace};
use crate::setup::{self, Purpose};

/// What the measuring program says of itself.
pub(crate) const USAGE: &str = include_str!("../../bench/src/usage.txt");

/// What was typed after `cargo xtask bench`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) profile: Profile,
    /// Whether peers that are missing are installed.
    pub(crate) install_peers: bool,
    /// Whether the results are kept in the repository.
    pub(crate) write: bool,
    /// Names of benches and what else the measuring program understands.
    pub(crate) words: Vec<String>,
    /// For the agent.
    pub(crate) flags: Vec<OsString>,
}

pub(crate) fn run(wish: &Wish) -> Result<()> {
    setup::run(Purpose::Run)?;
    if wish.install_peers {
        setup::peers()?;
    }
    let agent = build::agent(wish.profile)?;
    let bench = bench(wish.profile)?;
    machine::can_load("run `cargo xtask bench` as root")?;
    let mut command = Command::new(bench);
    command.args(&wish.words).arg("--agent").arg(agent);
    if wish.write {
        command.arg("--results").arg(workspace().join("bench/results"));
    }
    command.arg("--").args(&wish.flags).env_remove("LD_LIBRARY_PATH");
    let status = command.status().context("cannot start the bench")?;
    if !status.success() {
        bail!("a target was missed, or a bench failed");
    }
    Ok(())
}

fn bench(profile: Profile) -> Result<PathBuf> {
    build::package("bench", profile)?;
    Ok(target_directory().join(profile.directory()).join("bench"))
}

/// Records anew what `tests/tests/guards.rs` compares with.
pub(crate) fn record_guards() -> Result<()> {
    setup::run(Purpose::Run)?;
    let agent = build::agent(Profile::Release)?;
    machine::can_load("run `cargo xtask guards` as root")?;
    let mut tests = crate::process::cargo();
    tests.args(["test", "--package", "integration-tests", "--test", "guards", "programs", "--"]);
    tests.args(["--test-threads=1", "--nocapture"]);
    show(tests.env("PODWITNESS_BIN", agent).env("PODWITNESS_RECORD", "1"))
}
