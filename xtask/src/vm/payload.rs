//! What goes into the test machine: the agent, the tests, the tools they call, and the libraries of all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::kernel::{Kernel, home};
use super::packages::{Mirrors, Packages};
use crate::kernel_half::on_path;
use crate::process::{cargo, output};
use crate::setup::Containerd;
use crate::steps::{Failure, Live, Outcome};

/// The live tests, and the helper they drive.
const LIVE: &str = "integration-tests";
const WORKLOAD: &str = "workload";

/// Programs that the tests call and busybox lacks, or has in a simpler form.
const TOOLS: [&str; 1] = ["ip"];

/// Any release's will do; it has no needs.
const BUSYBOX_SUITE: &str = "trixie";
const BUSYBOX: &str = "busybox-static";

/// How many times slower than a usual machine an emulated one is: tests do so much less and wait so much longer.
const SCALE: u32 = 4;

const INIT: &[u8] = include_bytes!("init.sh");

/// Busybox on this machine, unpacked at its first use.
pub(super) fn ensure_busybox(live: &Live) -> Result<(PathBuf, Outcome)> {
    let root = home()?.join("busybox");
    let program =
        || ["usr/bin/busybox", "bin/busybox"].map(|path| root.join(path)).into_iter().find(|p| p.exists());
    if let Some(found) = program() {
        return Ok((found, Outcome::AlreadyThere));
    }
    let mirrors = Mirrors::of_this_machine()?;
    let packages = Packages::open(home()?.join("apt-busybox"), &mirrors, &[BUSYBOX_SUITE], live)?;
    packages.unpack(BUSYBOX, &root, live)?;
    Ok((program().context("busybox-static has no busybox")?, Outcome::Done))
}

/// Everything but what belongs to one kernel.
pub(super) struct Payload {
    archive: Archive,
    pub(super) tests: Vec<String>,
}

impl Payload {
    pub(super) fn collect(
        agent: &Path,
        busybox: &Path,
        containerd: Option<&Containerd>,
        filter: &[String],
    ) -> Result<Self> {
        let built = Built::build()?;
        let mut archive = Archive::default();
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/var"] {
            archive.directory(Path::new(directory));
        }
        archive.link(Path::new("/etc/mtab"), "/proc/mounts");
        // What containerd gives its containers.
        archive.file(Path::new("/etc/hosts"), b"127.0.0.1 localhost\n");
        archive.file(Path::new("/etc/resolv.conf"), b"");
        archive.program(Path::new("/init"), INIT);
        for tool in TOOLS {
            let program = on_path(tool).ok_or_else(|| {
                Failure::error(format!("the tests need `{tool}`"), "install the package iproute2")
            })?;
            add_program(&mut archive, &program, &program)?;
        }
        // Behind the real tools in the search path.
        let applets = output(Command::new(busybox).arg("--list")).context("busybox does not start")?;
        add_program(&mut archive, busybox, Path::new("/busybox/busybox"))?;
        for applet in applets.lines() {
            archive.link(&Path::new("/busybox").join(applet), "busybox");
        }
        archive.link(Path::new("/bin/sh"), "/busybox/busybox");

        for (name, program) in containerd.map_or_else(|| Ok(Vec::new()), Containerd::programs)? {
            add_program(&mut archive, &program, &Path::new("/containerd").join(name))?;
        }

        add_program(&mut archive, agent, Path::new("/tests/podwitness"))?;
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

/// What cargo has made of the live tests.
struct Built {
    workload: PathBuf,
    /// By name.
    tests: Vec<(String, PathBuf)>,
}

impl Built {
    fn build() -> Result<Self> {
        let mut command = cargo();
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

/// A program at `place`, and its libraries where they are here.
fn add_program(archive: &mut Archive, program: &Path, place: &Path) -> Result<()> {
    let content = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    archive.program(place, &content);
    // A program that is linked statically has none, and ldd says so by failing.
    let libraries =
        output(Command::new("ldd").arg(program).env_remove("LD_LIBRARY_PATH")).unwrap_or_default();
    for library in libraries.lines().filter_map(library) {
        let path = Path::new(library);
        if !archive.has(path) {
            archive.program(path, &fs::read(path).with_context(|| format!("cannot read {library}"))?);
        }
    }
    Ok(())
}

/// The file in "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)" or "/lib64/ld-linux-x86-64.so.2 (0x00007f)".
fn library(line: &str) -> Option<&str> {
    let path = line.rsplit_once("=> ").map_or(line, |(_, path)| path).trim();
    path.starts_with('/').then(|| path.split(' ').next()).flatten()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{executables, library, plan, test_name};

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        assert_eq!(library("\tlibm.so.6 => /lib/libm.so.6 (0x7f)"), Some("/lib/libm.so.6"));
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x7f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x7f)"), None);
    }

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
