//! A container runtime for the live tests: Debian's containerd and runc, and a busybox to run in it. They are
//! unpacked, not installed: an installation would start a service.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use crate::kernel_half::{cache, on_path};
use crate::machine;
use crate::process::output;
use crate::steps::{Live, Outcome};

const PACKAGES: [&str; 3] = ["containerd", "runc", "busybox-static"];
/// What the tests call of these packages.
pub(crate) const PROGRAMS: [&str; 5] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "busybox"];

/// Where its programs are.
pub(crate) struct Containerd {
    /// As in PATH; empty if it is in PATH already.
    pub(crate) directories: Vec<PathBuf>,
}

pub(super) fn ensure(apt: &mut Apt, live: &Live) -> Result<(Option<Containerd>, Outcome)> {
    if let Some(found) = Containerd::find() {
        return Ok((Some(found), Outcome::AlreadyThere));
    }
    match Containerd::unpack(apt, live) {
        Ok(unpacked) => Ok((Some(unpacked), Outcome::Done)),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok((None, Outcome::Skipped(format!("no containerd to be had: {error:#}")))),
    }
}

impl Containerd {
    /// On the PATH, or unpacked by an earlier setup.
    fn find() -> Option<Self> {
        if PROGRAMS.iter().all(|program| on_path(program).is_some()) {
            return Some(Self { directories: Vec::new() });
        }
        let mut unpacked: Vec<_> = cache()?.read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
        unpacked.sort();
        unpacked.iter().rev().find_map(|home| Self::inside(home))
    }

    fn inside(home: &Path) -> Option<Self> {
        // Names that begin with a dot are unfinished.
        home.file_name()?.to_str()?.strip_prefix("containerd-")?;
        let directories: Vec<_> = ["usr/bin", "usr/sbin", "bin"].map(|name| home.join(name)).into();
        let is_there = |program: &&str| directories.iter().any(|directory| directory.join(program).exists());
        PROGRAMS.iter().all(is_there).then_some(Self { directories })
    }

    fn unpack(apt: &mut Apt, live: &Live) -> Result<Self> {
        if !Apt::exists() {
            bail!("this system has no apt-get; install {} by hand", PACKAGES.join(", "));
        }
        let version = apt.candidate(PACKAGES[0], live);
        let version = version.with_context(|| apt.with_complaint("no package source has containerd"))?;
        let cache = cache().context("HOME is not set")?;
        let (partial, home) = (
            cache.join(format!(".containerd-{}", std::process::id())),
            cache.join(format!("containerd-{version}")),
        );
        let unpacked = apt.unpack(&PACKAGES, &partial, live).and_then(|()| {
            let _ = fs::remove_dir_all(&home);
            fs::rename(&partial, &home).with_context(|| format!("cannot move it to {}", home.display()))
        });
        let _ = fs::remove_dir_all(&partial);
        unpacked?;
        let containerd = Self::inside(&home).context("the packages lack one of their programs")?;
        for program in ["containerd", "runc"] {
            let mut command = Command::new("env");
            command.arg(format!("PATH={}", containerd.path()?)).args([program, "--version"]);
            if output(&mut command).is_none() {
                fs::remove_dir_all(&home)?;
                bail!("Debian's {program} does not start on this system");
            }
        }
        Ok(containerd)
    }

    /// Its programs, by name.
    pub(crate) fn programs(&self) -> Result<Vec<(&'static str, PathBuf)>> {
        let find = |name: &'static str| {
            let own =
                self.directories.iter().map(|directory| directory.join(name)).find(|path| path.exists());
            let path = own.or_else(|| on_path(name)).with_context(|| format!("{name} is gone"))?;
            Ok((name, path))
        };
        PROGRAMS.into_iter().map(find).collect()
    }

    fn path(&self) -> Result<String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let all = self.directories.iter().cloned().chain(env::split_paths(&path));
        env::join_paths(all)?.into_string().ok().context("PATH is not UTF-8")
    }
}
