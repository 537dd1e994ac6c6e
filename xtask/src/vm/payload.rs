//! What goes into the test machine: the agent, the tests, the programs they call, and the libraries of all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::userland::{Userland, add_program};
use crate::architecture::Architecture;
use crate::build;
use crate::process::cargo;
use crate::setup::Ready;

/// The live tests, and the helper they drive.
const LIVE: &str = "integration-tests";
const WORKLOAD: &str = "workload";

/// How many times slower than a usual machine an emulated one is: tests do so much less and wait so much longer.
const SCALE: u32 = 4;

const INIT: &[u8] = include_bytes!("init.sh");

/// Everything but what belongs to one kernel.
pub(super) struct Payload {
    archive: Archive,
    pub(super) tests: Vec<String>,
}

impl Payload {
    pub(super) fn collect(userland: &Userland, ready: &Ready, filter: &[String]) -> Result<Self> {
        let agent = build::static_agent(userland.architecture)?;
        let built = Built::build(userland.architecture, ready)?;
        let mut archive = Archive::default();
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/var"] {
            archive.directory(Path::new(directory));
        }
        archive.link(Path::new("/etc/mtab"), "/proc/mounts");
        // What containerd gives its containers.
        archive.file(Path::new("/etc/hosts"), b"127.0.0.1 localhost\n");
        archive.file(Path::new("/etc/resolv.conf"), b"");
        archive.program(Path::new("/init"), INIT);
        userland.install(&mut archive, ready.containerd.as_ref())?;

        add_program(&mut archive, &agent, Path::new("/tests/podwitness"))?;
        add_program(&mut archive, &built.workload, &Path::new("/tests").join(WORKLOAD))?;
        for (name, program) in &built.tests {
            add_program(&mut archive, program, &Path::new("/tests").join(name))?;
        }
        let tests: Vec<_> = built.tests.into_iter().map(|(name, _)| name).collect();
        archive.file(Path::new("/tests/plan"), plan(&tests, filter)?.as_bytes());
        Ok(Self { archive, tests })
    }

    /// The first file system of a machine with this kernel.
    pub(super) fn with_modules_of(&self, kernel: &Kernel) -> Result<Vec<u8>> {
        let mut archive = self.archive.clone();
        for module in kernel.modules.read_dir().context("the kernel's modules are gone")?.flatten() {
            archive.file(&Path::new("/modules").join(module.file_name()), &fs::read(module.path())?);
        }
        Ok(archive.finish())
    }
}

/// The shell's instructions: a line for each test program.
fn plan(tests: &[String], filter: &[String]) -> Result<String> {
    let is_plain = |word: &&String| word.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
    if let Some(strange) = filter.iter().find(|word| !is_plain(word)) {
        bail!("`{strange}` is no part of a test's name");
    }
    let filter = filter.join(" ");
    let runs = tests.iter().map(|name| format!("run {name} {filter}\n"));
    Ok([format!("SCALE={SCALE}\n")].into_iter().chain(runs).collect())
}

/// A cargo whose programs run in the machine.
fn programs_for(architecture: Architecture, ready: &Ready) -> Result<Command> {
    match architecture == Architecture::host()? {
        true => Ok(cargo()),
        false => {
            let mut cargo = build::static_cargo(architecture, ready)?;
            // As the tests' harness does in any case; else there would be two of `core`.
            cargo.env("CARGO_PROFILE_VM_PANIC", "unwind");
            Ok(cargo)
        }
    }
}

/// What cargo has made of the live tests.
struct Built {
    workload: PathBuf,
    /// By name.
    tests: Vec<(String, PathBuf)>,
}

impl Built {
    fn build(architecture: Architecture, ready: &Ready) -> Result<Self> {
        let mut command = programs_for(architecture, ready)?;
        // The profile is the one in Cargo.toml for slow machines.
        command.args(["test", "--package", LIVE, "--profile", "vm", "--test", "*", "--no-run"]);
        eprintln!("$ cargo test --package {LIVE} --profile vm --test '*' --no-run");
        command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
        let output = command.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("the live tests don't compile");
        }
        let executables = executables(&String::from_utf8_lossy(&output.stdout));
        let mut tests: Vec<_> =
            executables.iter().filter_map(|path| Some((test_name(path)?, path.clone()))).collect();
        tests.sort();
        let workload = executables.into_iter().find(|path| path.ends_with(WORKLOAD));
        Ok(Self { workload: workload.context("cargo has not built the tests' helper")?, tests })
    }
}

/// The programs in cargo's report, a JSON object per line.
fn executables(report: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    };
    report.lines().filter_map(of_line).collect()
}

/// `tcp` of `…/deps/tcp-0123456789abcdef`, which is how cargo names tests and nothing else.
fn test_name(program: &Path) -> Option<String> {
    let in_deps = program.parent()?.ends_with("deps");
    let (name, _) = program.file_name()?.to_str()?.rsplit_once('-')?;
    in_deps.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{executables, plan, test_name};

    #[test]
    fn programs_are_found_in_what_cargo_says() {
        let report = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                      {\"target\":{\"name\":\"tcp\"},\"executable\":\"/t/deps/tcp-0af\",\"fresh\":true}\n";
        assert_eq!(executables(report), [PathBuf::from("/t/deps/tcp-0af")]);
        assert_eq!(test_name(Path::new("/t/deps/tcp-0af")).as_deref(), Some("tcp"));
        assert_eq!(test_name(Path::new("/t/vm/workload")), None);
    }

    #[test]
    fn a_filter_reaches_every_test_program_and_no_shell() {
        let tests = ["oom", "tcp"].map(String::from);
        assert_eq!(plan(&tests, &["kill".into()]).unwrap(), "SCALE=4\nrun oom kill\nrun tcp kill\n");
        assert!(plan(&tests, &["$(reboot)".into()]).is_err());
    }
}
