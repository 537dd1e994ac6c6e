//! The emulator: found on this machine, or unpacked into the cache; and one run of it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kernel::{Kernel, home};
use super::packages::{Mirrors, Packages};
use crate::kernel_half::on_path;
use crate::process::output;
use crate::steps::{Failure, Live, Outcome};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// QEMU 7 crashes its guests now and then.
const OLDEST: u32 = 8;

const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// Emulation only: what is tested is the kernel, and it has to work on machines that are virtual themselves.
const MACHINE: [&str; 17] = [
    "-nodefaults",
    "-no-reboot",
    "-machine",
    "q35",
    "-cpu",
    "qemu64",
    "-accel",
    "tcg,thread=multi",
    "-smp",
    "2",
    "-m",
    "2G",
    "-display",
    "none",
    "-serial",
    "stdio",
    "-append",
];

/// A panic ends the machine; everything below an emergency stays off the console, which is ours.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=1 panic=-1";

/// A machine that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// What all tests together may take.
const TOTAL: Duration = Duration::from_secs(60 * 60);

pub(super) struct Qemu {
    program: PathBuf,
    /// Where it was unpacked to, if it isn't the system's.
    root: Option<PathBuf>,
}

/// How a machine's life ended.
pub(super) enum End {
    Exited(ExitStatus),
    /// Killed for taking too long.
    Late(&'static str),
}

impl Qemu {
    pub(super) fn ensure(live: &Live) -> Result<(Self, Outcome)> {
        let of_system = on_path(PROGRAM).map(|program| Self { program, root: None });
        if let Some(qemu) = of_system.filter(Self::works) {
            return Ok((qemu, Outcome::AlreadyThere));
        }
        let home = home()?;
        let root = home.join("qemu");
        let own = Self { program: root.join("usr/bin").join(PROGRAM), root: Some(root.clone()) };
        if own.works() {
            return Ok((own, Outcome::AlreadyThere));
        }
        let release = release_of_this_system().ok_or_else(|| {
            Failure::error(
                format!("there is no QEMU of version {OLDEST} or newer on this machine"),
                format!("install {PROGRAM} by your system's package manager"),
            )
        })?;
        let suite = format!("{release}-backports");
        let suites = [release.as_str(), &suite];
        let packages = Packages::open(home.join("apt-qemu"), &Mirrors::of_this_machine()?, &suites, live)?;
        let partial = home.join(format!(".qemu-{}", std::process::id()));
        let unpacked = packages.on_top_of_this_system().unpack_with_needs(PACKAGE, &suite, &partial, live);
        let _ = fs::remove_dir_all(&root);
        let moved =
            unpacked.and_then(|()| fs::rename(&partial, &root).context("cannot move QEMU into the cache"));
        let _ = fs::remove_dir_all(&partial);
        moved?;
        if !own.works() {
            return Err(Failure::error(
                format!("Debian's {PACKAGE} was unpacked but does not start, or is older than {OLDEST}"),
                format!("install a newer {PROGRAM}, then run this again"),
            ));
        }
        Ok((own, Outcome::Done))
    }

    fn works(&self) -> bool {
        let said = output(self.command().arg("--version"));
        said.as_deref().and_then(version).is_some_and(|version| version >= OLDEST)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove("LD_LIBRARY_PATH");
        if let Some(root) = &self.root {
            let libraries = LIBRARIES.map(|directory| root.join(directory).display().to_string());
            command.env("LD_LIBRARY_PATH", libraries.join(":"));
            for directory in FIRMWARE {
                command.arg("-L").arg(root.join(directory));
            }
        }
        command
    }

    /// Boots a machine and hands on what it writes to its console, as it comes, until its end.
    pub(super) fn boot(
        &self,
        kernel: &Kernel,
        initramfs: &Path,
        live: &Live,
        mut console: impl FnMut(&[u8]),
    ) -> Result<End> {
        let mut command = self.command();
        command
            .args(MACHINE)
            .arg(COMMAND_LINE)
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("cannot start QEMU")?;
        let mut serial = child.stdout.take().context("QEMU has no standard output")?;
        let (sender, chunks) = mpsc::sync_channel(256);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = serial.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });

        let begun = Instant::now();
        let mut heard = begun;
        let late = loop {
            match chunks.recv_timeout(Duration::from_millis(250)) {
                Ok(chunk) => {
                    heard = Instant::now();
                    console(&chunk);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            live.tick();
            if heard.elapsed() > SILENCE {
                break Some("it said nothing for ten minutes");
            }
            if begun.elapsed() > TOTAL {
                break Some("it was not done after an hour");
            }
        };
        if late.is_some() {
            child.kill().context("cannot stop QEMU")?;
        }
        let status = child.wait().context("cannot wait for QEMU")?;
        Ok(late.map_or(End::Exited(status), End::Late))
    }
}

/// 10 of "QEMU emulator version 10.0.2 (Debian …)".
fn version(said: &str) -> Option<u32> {
    let (_, rest) = said.split_once("version ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// As in "bookworm"; only Debian has one that its mirrors know.
fn release_of_this_system() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let field =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    (field("ID=") == Some("debian")).then(|| field("VERSION_CODENAME=").map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_version_is_the_first_number() {
        assert_eq!(version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(10));
        assert_eq!(version("no such program"), None);
    }
}
