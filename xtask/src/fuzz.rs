//! `cargo xtask fuzz`: the parsers under libFuzzer, one after the other.
//!
//! The programs are laid out as `cargo fuzz` wants them, but need neither it nor a nightly compiler: what a compiler has
//! to do for libFuzzer stands in [`FOR_LIBFUZZER`], and libFuzzer itself comes with the crate `libfuzzer-sys`. There is no
//! address sanitizer: no parser has `unsafe` in it.
//!
//! `cargo xtask test` runs the same targets over their seeds, without libFuzzer and everywhere.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{cargo, output, show, target_directory, workspace};
use crate::setup;

/// How long each target runs if nothing else is said.
pub(crate) const SECONDS: u32 = 60;
/// More than any seed, and quick to go through. Bytes.
const LONGEST: u32 = 16 * 1024;
/// An input that takes longer is a finding. Seconds.
const SLOWEST: u32 = 10;

/// Code tells libFuzzer where it has been, and what it compares with what.
const FOR_LIBFUZZER: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                             -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                             -Cllvm-args=-sanitizer-coverage-pc-table \
                             -Cllvm-args=-sanitizer-coverage-trace-compares \
                             -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

pub(crate) fn run(wanted: &[String], seconds: u32) -> Result<()> {
    let targets = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        bail!("there is no target `{unknown}`; there are: {}", targets.join(", "));
    }
    let targets: Vec<_> =
        targets.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect();
    setup::cplusplus()?;
    // With a target named, programs that run during the build are spared the flags.
    let host = host()?;
    let directory = target_directory().join("fuzz");
    let mut build = cargo();
    build.args([
        "build",
        "--locked",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target",
        &host,
        "--target-dir",
    ]);
    build.arg(&directory).env("RUSTFLAGS", FOR_LIBFUZZER).env_remove("CARGO_ENCODED_RUSTFLAGS");
    for target in &targets {
        build.args(["--bin", target]);
    }
    show(&mut build)?;
    for target in &targets {
        let (corpus, found) = (fuzz().join("corpus").join(target), fuzz().join("artifacts").join(target));
        for directory in [&corpus, &found] {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let mut run = Command::new(directory.join(&host).join("debug").join(target));
        // What widens the coverage goes into the first directory.
        run.arg(corpus).arg(fuzz().join("seeds").join(target));
        run.arg(format!("-artifact_prefix={}/", found.display()));
        run.args([format!("-max_total_time={seconds}"), format!("-max_len={LONGEST}")]);
        run.args([format!("-timeout={SLOWEST}"), "-print_final_stats=1".into()]);
        show(&mut run).with_context(|| {
            format!(
                "target `{target}` has found something: mend it, and make what lies in {} a seed",
                found.display()
            )
        })?;
    }
    Ok(())
}

fn fuzz() -> std::path::PathBuf {
    workspace().join("fuzz")
}

/// What the compiler compiles for by itself.
fn host() -> Result<String> {
    let said = output(Command::new("rustc").arg("-vV")).context("rustc does not start")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it compiles for")?.to_owned())
}

/// By the files of their programs.
fn targets() -> Result<Vec<String>> {
    let directory = fuzz().join("fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
