//! `cargo xtask vm`: the proof on the kernels that people run, each booted in an emulated machine.

mod console;
mod cpio;
mod kernel;
mod payload;
mod qemu;
mod userland;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::architecture::Architecture;
use crate::process::target_directory;
use crate::setup::{self, Purpose};
use crate::steps::{Live, Outcome, Steps};
use console::Findings;
use kernel::{Kernel, Wanted};
use payload::Payload;
use qemu::{End, Qemu};
use userland::Userland;

/// Lines of failed tests, or of a console that broke off, that are shown per kernel; the whole console is kept in a file.
const SHOWN: usize = 120;

pub(crate) fn run(kernels: &[String], filter: &[String]) -> Result<()> {
    let mut wanted: Vec<Wanted> = kernels.iter().map(|word| Wanted::parse(word)).collect::<Result<_>>()?;
    if wanted.is_empty() {
        wanted = kernel::DEFAULT.iter().map(|name| Wanted::parse(name)).collect::<Result<_>>()?;
    }
    let ready = setup::run(Purpose::Vm)?;
    let architectures = Architecture::ALL.into_iter();
    let architectures: Vec<_> =
        architectures.filter(|one| wanted.iter().any(|wanted| wanted.architecture == *one)).collect();

    let mut steps = Steps::new(wanted.len() + 2 * architectures.len());
    let mut machines = Vec::new();
    for architecture in architectures {
        let (mut qemu, mut userland) = (None, None);
        let name = architecture.debian();
        steps.run(&format!("QEMU for {name}"), |live| {
            Ok(keep(&mut qemu, Qemu::ensure(architecture, live)?))
        })?;
        steps.run(&format!("programs for {name}"), |live| {
            Ok(keep(&mut userland, Userland::ensure(architecture, live)?))
        })?;
        machines.push((qemu.context("no QEMU")?, userland.context("no programs")?));
    }
    let mut found = Vec::new();
    for wanted in &wanted {
        let mut kernel = None;
        steps
            .run(&format!("kernel {}", wanted.name()), |live| Ok(keep(&mut kernel, wanted.ensure(live)?)))?;
        found.push(kernel.context("no kernel")?);
    }
    let with_payload = |(qemu, userland): (Qemu, Userland)| {
        Ok((qemu, userland.architecture, Payload::collect(&userland, &ready, filter)?))
    };
    let machines: Vec<_> = machines.into_iter().map(with_payload).collect::<Result<_>>()?;
    if let Some((.., payload)) = machines.first() {
        eprintln!("\ntest programs: {}", payload.tests.join(", "));
    }

    let mut steps = Steps::new(found.len());
    let mut reports = Vec::new();
    for kernel in found {
        let machine = machines.iter().find(|(_, architecture, _)| *architecture == kernel.architecture);
        let (qemu, _, payload) = machine.context("no machine for the kernel")?;
        steps.run(&format!("tests on {}", kernel.version), |live| {
            let report = Report::make(qemu, kernel, payload, live)?;
            let outcome = Outcome::Ended(report.summary());
            reports.push(report);
            Ok(outcome)
        })?;
    }
    reports.iter().for_each(|report| print!("{}", report.details()));
    print!("{}", table(&reports));
    if reports.iter().any(|report| !report.is_good()) {
        bail!("not every kernel passed");
    }
    // Of exact numbers some can't be had on some kernels; what was asked for by name has to be proved on one of them.
    let proved = |word: &str| reports.iter().any(|report| report.findings.has_passed(word));
    let unproved: Vec<_> = filter.iter().map(String::as_str).filter(|word| !proved(word)).collect();
    if !unproved.is_empty() {
        bail!("on none of these kernels a test passed for the filter: {}", unproved.join(", "));
    }
    Ok(())
}

fn keep<T>(slot: &mut Option<T>, (found, outcome): (T, Outcome)) -> Outcome {
    *slot = Some(found);
    outcome
}

/// How the tests went on one kernel.
struct Report {
    kernel: Kernel,
    findings: Findings,
    took: Duration,
    /// Why the machine did not get to the end of the plan.
    trouble: Option<String>,
    /// The console of a first machine that died or hung, so that a second one had to be started.
    first: Option<String>,
    log: PathBuf,
}

impl Report {
    fn make(qemu: &Qemu, kernel: Kernel, payload: &Payload, live: &Live) -> Result<Self> {
        let directory = target_directory().join("vm-console");
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let initramfs = directory.join(format!("{}-{}.cpio", kernel.version, std::process::id()));
        fs::write(&initramfs, payload.with_modules_of(&kernel)?).context("cannot write the initramfs")?;
        let log = directory.join(format!("{}.log", kernel.version));
        let begun = Instant::now();
        let mut first = None;
        let attempt = loop {
            let mut findings = Findings::default();
            let end = qemu.boot(&kernel, &initramfs, live, |bytes| {
                findings.hear(bytes);
                live.line(&findings.progress());
            });
            let _ = fs::write(&log, &findings.log);
            let is_lost = matches!(end, Ok(End::Exited(_) | End::Silent)) && !findings.done;
            if !is_lost || first.is_some() {
                break end.map(|end| (findings, end));
            }
            // Emulators crash, too; a kernel that does so will do it again.
            first = Some(findings.log);
        };
        let _ = fs::remove_file(&initramfs);
        let (findings, end) = attempt?;
        let trouble = match end {
            End::Silent if !findings.done => {
                Some("the machine was stopped: it said nothing for ten minutes".into())
            }
            End::Late => Some("the machine was stopped: it was not done after an hour".into()),
            End::Exited(status) if !findings.done => Some(format!("the machine ended too early ({status})")),
            End::Exited(_) | End::Silent if findings.passed.is_empty() && findings.failed.is_empty() => {
                Some("no test ran".into())
            }
            // If it was silent, it has been heard of again.
            End::Exited(_) | End::Silent => None,
        };
        Ok(Self { kernel, findings, took: begun.elapsed(), trouble, first, log })
    }

    fn is_good(&self) -> bool {
        self.trouble.is_none() && self.findings.failed.is_empty()
    }

    fn summary(&self) -> String {
        let Findings { passed, failed, skipped, .. } = &self.findings;
        let mut text = format!("{} passed, {} failed, {} skipped", passed.len(), failed.len(), skipped.len());
        if let Some(trouble) = &self.trouble {
            let _ = write!(text, "; {trouble}");
        }
        if self.first.is_some() {
            text.push_str("; at the second attempt");
        }
        text
    }

    /// The sensors' states, what was skipped and why, what failed and how.
    fn details(&self) -> String {
        let Findings { sensors, skipped, failed, failures, log, .. } = &self.findings;
        let mut text = format!("\n=== {}\n", self.kernel.version);
        sensors.iter().for_each(|line| line_of(&mut text, line));
        if !skipped.is_empty() {
            text.push_str("\nnot run:\n");
        }
        for (test, why) in skipped {
            line_of(&mut text, &format!("  {test}: {why}"));
        }
        if !failed.is_empty() {
            text.push_str("\nfailed:\n");
        }
        failed.iter().for_each(|test| line_of(&mut text, &format!("  {test}")));
        failures.iter().take(SHOWN).for_each(|line| line_of(&mut text, &format!("  | {line}")));
        let lost = self.first.as_ref().map(|log| ("a first machine was lost", log));
        let trouble = self.trouble.as_deref().map(|trouble| (trouble, log));
        for (trouble, log) in lost.into_iter().chain(trouble) {
            line_of(&mut text, &format!("\n{trouble}; the console's last lines:"));
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN)..];
            last.iter().for_each(|line| line_of(&mut text, &format!("  | {line}")));
        }
        if !self.is_good() {
            line_of(&mut text, &format!("the whole console: {}", self.log.display()));
        }
        text
    }
}

fn line_of(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn table(reports: &[Report]) -> String {
    let mut text =
        format!("\n{:<20} {:>6} {:>6} {:>7} {:>7}\n", "KERNEL", "PASSED", "FAILED", "SKIPPED", "SECONDS");
    for Report { kernel, findings, took, trouble, .. } in reports {
        let Findings { passed, failed, skipped, .. } = findings;
        let (passed, failed, skipped, seconds) = (passed.len(), failed.len(), skipped.len(), took.as_secs());
        let _ = write!(text, "{:<20} {passed:>6} {failed:>6} {skipped:>7} {seconds:>7}", kernel.version);
        text.push_str(&trouble.as_ref().map(|trouble| format!("  {trouble}")).unwrap_or_default());
        text.push('\n');
    }
    text
}
