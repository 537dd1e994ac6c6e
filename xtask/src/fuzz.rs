//! `cargo xtask fuzz`: the parsers under libFuzzer, one after the other.
//!
//! `cargo xtask test` runs the same targets over their seeds, without libFuzzer and everywhere.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::kernel_half::on_path;
use crate::process::{cargo, show, target_directory, workspace};

/// How long each target runs if nothing else is said.
pub(crate) const SECONDS: u32 = 60;
/// More than any seed, and quick to go through. Bytes.
const LONGEST: u32 = 16 * 1024;

pub(crate) fn run(wanted: &[String], seconds: u32) -> Result<()> {
    let targets = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        bail!("there is no target `{unknown}`; there are: {}", targets.join(", "));
    }
    if on_path("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is missing: `cargo install cargo-fuzz` (it takes a C++ compiler, too)");
    }
    for target in targets.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        let corpus = workspace().join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let mut fuzz = cargo();
        fuzz.args(["fuzz", "run", "--target-dir"]).arg(target_directory().join("fuzz"));
        // What is found goes into the first directory.
        fuzz.arg(target).arg(corpus).arg(workspace().join("fuzz/seeds").join(target));
        fuzz.arg("--").arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST}"));
        // Sanitizers on a stable compiler.
        show(fuzz.env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(())
}

/// By the files of their programs.
fn targets() -> Result<Vec<String>> {
    let directory = workspace().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
