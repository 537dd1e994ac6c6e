//! `cargo xtask test`: what needs no privilege first, then the proof on the live kernel.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::architecture::Architecture;
use crate::build;
use crate::image;
use crate::machine;
use crate::process::{cargo, show_and_watch};
use crate::setup::{self, Purpose, Ready};

/// The crate that needs a kernel it may load programs into.
const LIVE: &str = "integration-tests";

pub(crate) fn run(unprivileged: bool, filter: &[String]) -> Result<()> {
    let begun = Instant::now();
    let skipped = reason_to_skip(unprivileged)?;
    if let Some(reason) = &skipped {
        eprintln!("the tests on the live kernel will be skipped: {reason}");
    }
    let ready = setup::run(if skipped.is_none() { Purpose::Test } else { Purpose::Build })?;
    // The one that goes into the image.
    let agent = build::static_agent(Architecture::host()?)?;

    let mut tests = cargo();
    tests.args(["test", "--workspace", "--exclude", LIVE, "--no-fail-fast", "--"]).args(filter);
    let unit = Tally::of(tests)?;

    let live = if skipped.is_none() {
        let mut tests = cargo();
        tests.args(["test", "--package", LIVE, "--no-fail-fast", "--"]).args(filter);
        // They share one kernel, and each looks at what the others would disturb.
        tests.arg("--test-threads=1").env("PODWITNESS_BIN", &agent);
        tests.env("PODWITNESS_IMAGE", image::make(&agent, Architecture::host()?, &image::home())?.archive);
        hand_over(&ready, &mut tests)?;
        Some(Tally::of(tests)?)
    } else {
        None
    };

    let seconds = begun.elapsed().as_secs();
    let on_the_kernel = live.as_ref().map_or("skipped".into(), Tally::to_string);
    eprintln!("\nunit tests: {unit}; tests on the live kernel: {on_the_kernel} ({seconds} s)");
    if !unit.success || live.is_some_and(|tally| !tally.success) {
        bail!("tests failed");
    }
    Ok(())
}

/// Why the live tests cannot run, if they cannot; on a build server that is an error.
fn reason_to_skip(unprivileged: bool) -> Result<Option<String>> {
    if unprivileged {
        return Ok(Some("--unprivileged asks for it".into()));
    }
    match machine::can_load("run `cargo xtask test` as root") {
        Ok(()) => Ok(None),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}

fn hand_over(ready: &Ready, tests: &mut Command) -> Result<()> {
    if let Some(prometheus) = &ready.prometheus {
        tests.env("PODWITNESS_PROMETHEUS", &prometheus.server);
        tests.env("PODWITNESS_PROMTOOL", &prometheus.promtool);
    }
    if let Some(containerd) = &ready.containerd {
        tests.env("PODWITNESS_CONTAINERD", std::env::join_paths(&containerd.directories)?);
    }
    if let Some(tools) = &ready.manifest_tools {
        tests.env("PODWITNESS_HELM", &tools.helm);
        tests.env("PODWITNESS_KUBECTL", &tools.kubectl);
        tests.env("PODWITNESS_VALIDATOR", &tools.validator);
    }
    if let Some(libraries) = &ready.otlp {
        tests.env("PODWITNESS_OTLP_PYTHON", libraries);
    }
    if let Some(libraries) = &ready.openapi {
        tests.env("PODWITNESS_OPENAPI_PYTHON", libraries);
    }
    Ok(())
}

/// How a run of `cargo test` ended, added up over its binaries.
#[derive(Default)]
struct Tally {
    success: bool,
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Tally {
    fn of(tests: Command) -> Result<Self> {
        let mut tally = Self::default();
        tally.success = show_and_watch(tests, |line| tally.add(line))?;
        Ok(tally)
    }

    /// Reads lines like "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; …".
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            if let Some((number, what)) = count.split_once(' ') {
                let number: u32 = number.parse().unwrap_or(0);
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        // A test binary that does not compile, or dies, has no counts.
        if !self.success && self.failed == 0 {
            write!(f, ", stopped by an error")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut tally = Tally { success: true, ..Tally::default() };
        for line in [
            "running 6 tests",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally.to_string(), "7 passed, 1 failed, 1 ignored");
    }
}
