//! `cargo xtask test`: what needs no privilege first, then the proof on the live kernel.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::architecture::Architecture;
use crate::build;
use crate::image;
use crate::machine;
use crate::process::{cargo, show_and_watch, target_directory};
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
        let own = OwnDirectory(target_directory().join(format!("test-image-{}", std::process::id())));
        // There need not be a commit to tell the time.
        let image = image::make(&agent, Architecture::host()?, &own.0, 0)?;
        hand_over(&ready, tests.env("PODWITNESS_IMAGE", image.archive))?;
        Some(Tally::of(tests)?)
    } else {
        None
    };

    let seconds = begun.elapsed().as_secs();
    let on_the_kernel = live.as_ref().map_or("skipped".into(), Tally::to_string);
    let tallies = [Some(&unit), live.as_ref()].into_iter().flatten();
    eprint!("\n{}", tallies.map(Tally::reasons).collect::<String>());
    eprintln!("unit tests: {unit}; tests on the live kernel: {on_the_kernel} ({seconds} s)");
    if !unit.success || live.is_some_and(|tally| !tally.success) {
        bail!("tests failed");
    }
    Ok(())
}

/// Of this run alone: another one in the same clone has its own. It goes with this.
struct OwnDirectory(PathBuf);

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
    passed: usize,
    failed: usize,
    ignored: usize,
    /// Tests that returned before they had proved anything, which cargo counts as passed, and why they did.
    not_run: Vec<(String, String)>,
    /// Tests that have proved all but a part, and why not that: they have passed.
    left_out: Vec<(String, String)>,
    /// What tests have printed that passed is being listed, behind the results.
    in_successes: bool,
    /// Whose output that is, until it has said what did not run.
    test: Option<String>,
}

impl Tally {
    fn of(mut tests: Command) -> Result<Self> {
        let mut tally = Self::default();
        tests.arg("--show-output");
        tally.success = show_and_watch(tests, |line| tally.add(line))?;
        Ok(tally)
    }

    /// Takes a line; whether it is worth showing. The output of tests that passed is so long that it would hide those
    /// that failed.
    fn add(&mut self, line: &str) -> bool {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.in_successes = false;
            self.result(result);
            return true;
        }
        match line {
            "successes:" => self.in_successes = true,
            "failures:" => self.in_successes = false,
            _ if self.in_successes => self.output(line),
            _ => {}
        }
        !self.in_successes
    }

    /// Reads "ok. 5 passed; 0 failed; 1 ignored; 0 measured; …".
    fn result(&mut self, result: &str) {
        let Some((_, counts)) = result.split_once(". ") else { return };
        for count in counts.split("; ") {
            if let Some((number, what)) = count.split_once(' ') {
                let number: usize = number.parse().unwrap_or(0);
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }

    fn output(&mut self, line: &str) {
        let head = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = head {
            self.test = Some(test.to_owned());
        } else if let Some(why) = line.strip_prefix("not run: ") {
            self.not_run.extend(self.test.take().map(|test| (test, why.to_owned())));
        } else if let Some(why) = line.strip_prefix("left out: ") {
            self.left_out.extend(self.test.take().map(|test| (test, why.to_owned())));
        }
    }

    /// What the tests that did not run, or not as a whole, gave as their reasons.
    fn reasons(&self) -> String {
        let kinds = [("not run", &self.not_run), ("left out", &self.left_out)];
        let lines = kinds.into_iter().flat_map(|(kind, tests)| tests.iter().map(move |test| (kind, test)));
        lines.map(|(kind, (test, why))| format!("{kind}: {test}: {why}\n")).collect()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let not_run = self.not_run.len();
        write!(f, "{} passed, {} failed", self.passed.saturating_sub(not_run), self.failed)?;
        for (number, what) in [(self.ignored, "ignored"), (not_run, "not run")] {
            if number > 0 {
                write!(f, ", {number} {what}")?;
            }
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
            assert!(tally.add(line), "{line}");
        }
        assert_eq!(tally.to_string(), "7 passed, 1 failed, 1 ignored");
    }

    #[test]
    fn a_test_that_did_not_run_has_not_passed() {
        let said = "running 4 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ok\ntest d ... ok\n\n\
                    successes:\n\n---- a stdout ----\nhm\n\n---- c stdout ----\nfirst\nnot run: no way\n\
                    not run: none at all\n\n---- d stdout ----\nleft out: a part\n\n\n\
                    successes:\n    a\n    c\n    d\n\n\
                    failures:\n\n---- b stdout ----\nit is so\n\n\nfailures:\n    b\n\n\
                    test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let mut tally = Tally::default();
        let shown: Vec<_> = said.lines().filter(|line| tally.add(line)).collect();
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 1 not run");
        assert_eq!(tally.reasons(), "not run: c: no way\nleft out: d: a part\n");
        let shown = shown.join("\n");
        assert!(shown.contains("test c ... ok\ntest d ... ok\n"), "{shown}");
        assert!(shown.contains("failures:\n\n---- b stdout ----\nit is so\n"), "{shown}");
        assert!(!shown.contains("hm") && !shown.contains("no way"), "{shown}");
    }
}
