//! The emulator: found on this machine, or unpacked into the cache; and one run of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kernel::{Kernel, home};
use crate::architecture::Architecture;
use crate::debian::{Mirrors, Packages, release_of_this_system};
use crate::kernel_half::on_path;
use crate::process::output;
use crate::steps::{Failure, Live, Outcome};

/// QEMU 7 crashes its guests now and then.
const OLDEST: u32 = 8;

const LIBRARIES: [&str; 2] = ["usr/lib", "lib"];
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// Emulation only: what is tested is the kernel, and it has to work on machines that are virtual themselves.
const MACHINE: [&str; 13] = [
    "-nodefaults",
    "-no-reboot",
    "-accel",
    "tcg,thread=multi",
    "-smp",
    "2",
    "-m",
    "2G",
    "-display",
    "none",
    // Takes what is written to it for keys of a terminal, of which some are QEMU's own.
    "-serial",
    "mon:stdio",
    "-append",
];

/// A panic ends the machine, and so does a processor that lets nobody else run for two minutes; everything below an
/// emergency stays off the console, which is ours. The kernel answers whatever [`QUESTIONS`] ask.
const COMMAND_LINE: &str =
    "quiet loglevel=1 panic=-1 watchdog_thresh=60 softlockup_panic=1 sysrq_always_enabled";

/// What a machine that hangs is asked over its serial line: to show everything, the blocked tasks, and what each processor
/// is at (Documentation/admin-guide/sysrq.rst).
const QUESTIONS: [u8; 3] = *b"9wl";
/// QEMU's key for a break on the line, which makes the next character a question to the kernel.
const BREAK: &[u8] = b"\x01b";
/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// The board and the processor in it. To sign pointers as the hardware would is dear to emulate; any other way will do.
fn board(architecture: Architecture) -> [&'static str; 4] {
    match architecture {
        Architecture::X86_64 => ["-machine", "q35", "-cpu", "qemu64"],
        Architecture::Aarch64 => ["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
    }
}

fn serial(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "ttyS0",
        Architecture::Aarch64 => "ttyAMA0",
    }
}

fn package(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "qemu-system-x86",
        Architecture::Aarch64 => "qemu-system-arm",
    }
}

/// A machine that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// What all tests together may take.
const TOTAL: Duration = Duration::from_secs(60 * 60);

pub(super) struct Qemu {
    program: PathBuf,
    /// Where it was unpacked to, if it isn't the system's.
    root: Option<PathBuf>,
    /// Of what it emulates.
    architecture: Architecture,
}

/// How a machine's life ended.
pub(super) enum End {
    Exited(ExitStatus),
    /// Killed after it had said nothing for [`SILENCE`].
    Silent,
    /// Killed for taking more than [`TOTAL`].
    Late,
}

impl Qemu {
    pub(super) fn ensure(architecture: Architecture, live: &Live) -> Result<(Self, Outcome)> {
        let name = format!("qemu-system-{}", architecture.name());
        let of_system = on_path(&name).map(|program| Self { program, root: None, architecture });
        if let Some(qemu) = of_system.filter(Self::works) {
            return Ok((qemu, Outcome::AlreadyThere));
        }
        let home = home()?;
        let package = package(architecture);
        let root = home.join(package);
        let own = Self { program: root.join("usr/bin").join(&name), root: Some(root.clone()), architecture };
        if own.works() {
            return Ok((own, Outcome::AlreadyThere));
        }
        let release = release_of_this_system().ok_or_else(|| {
            Failure::error(
                format!("there is no QEMU of version {OLDEST} or newer on this machine"),
                format!("install {name} by your system's package manager"),
            )
        })?;
        let suite = format!("{release}-backports");
        let suites = [release.as_str(), &suite];
        let (apt, host) = (home.join("apt-qemu"), Architecture::host()?);
        let packages = Packages::open(apt, &Mirrors::of_this_machine()?, &suites, host, live)?;
        let partial = home.join(format!(".qemu-{}", std::process::id()));
        let unpacked = packages.on_top_of_this_system().unpack_with_needs(&[package], &suite, &partial, live);
        let _ = fs::remove_dir_all(&root);
        let moved =
            unpacked.and_then(|()| fs::rename(&partial, &root).context("cannot move QEMU into the cache"));
        let _ = fs::remove_dir_all(&partial);
        moved?;
        if !own.works() {
            return Err(Failure::error(
                format!("Debian's {package} was unpacked but does not start, or is older than {OLDEST}"),
                format!("install a newer {name}, then run this again"),
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
            let libraries = LIBRARIES.map(|directory| {
                let name = Architecture::host().map(Architecture::gnu).unwrap_or_default();
                root.join(directory).join(name).display().to_string()
            });
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
            .args(board(self.architecture))
            .args(MACHINE)
            .arg(format!("console={} {COMMAND_LINE}", serial(self.architecture)))
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("cannot start QEMU")?;
        let mut keyboard = child.stdin.take().context("QEMU has no standard input")?;
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
                break Some(End::Silent);
            }
            if begun.elapsed() > TOTAL {
                break Some(End::Late);
            }
        };
        if late.is_some() {
            for question in QUESTIONS {
                // It may be too far gone to listen: then it has nothing to say.
                let _ = keyboard.write_all(&[BREAK, &[question]].concat());
                let asked = Instant::now();
                while let Ok(chunk) = chunks.recv_timeout(ANSWER.saturating_sub(asked.elapsed())) {
                    console(&chunk);
                }
            }
            child.kill().context("cannot stop QEMU")?;
        }
        let status = child.wait().context("cannot wait for QEMU")?;
        Ok(late.unwrap_or(End::Exited(status)))
    }
}

/// 10 of "QEMU emulator version 10.0.2 (Debian …)".
fn version(said: &str) -> Option<u32> {
    let (_, rest) = said.split_once("version ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
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
