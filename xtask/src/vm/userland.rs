//! The programs in a test machine that aren't ours: those of this machine, or Debian's for another architecture.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use super::kernel::home;
use crate::architecture::Architecture;
use crate::debian::{Mirrors, Packages};
use crate::kernel_half::on_path;
use crate::process::output;
use crate::setup::{CONTAINERD, Containerd, settle};
use crate::steps::{Failure, Live, Outcome};

/// Any release's will do.
const SUITE: &str = "trixie";

/// It needs nothing else.
const BUSYBOX: &str = "busybox-static";

/// What the rest of the programs come from, where it can't be this machine's.
const PACKAGES: [&str; 4] = [BUSYBOX, "iproute2", "containerd", "runc"];

/// Programs that the tests call and busybox lacks, or has in a simpler form.
const TOOLS: [&str; 1] = ["ip"];

const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const LIBRARIES: [&str; 2] = ["usr/lib", "lib"];

pub(super) struct Userland {
    /// What was unpacked: busybox, or everything.
    root: PathBuf,
    pub(super) architecture: Architecture,
    is_ours: bool,
}

impl Userland {
    pub(super) fn ensure(architecture: Architecture, live: &Live) -> Result<(Self, Outcome)> {
        let is_ours = architecture == Architecture::host()?;
        let name = if is_ours { "busybox".into() } else { format!("userland-{}", architecture.debian()) };
        let home = home()?;
        let userland = Self { root: home.join(&name), architecture, is_ours };
        if userland.unpacked("busybox").is_ok() {
            return Ok((userland, Outcome::AlreadyThere));
        }
        let apt = home.join(format!("apt-{name}"));
        let packages = Packages::open(apt, &Mirrors::of_this_machine()?, &[SUITE], architecture, live)?;
        let partial = home.join(format!(".{name}-{}", std::process::id()));
        let unpacked = match is_ours {
            true => packages.unpack(BUSYBOX, &partial, live),
            false => packages.unpack_with_needs(&PACKAGES, SUITE, &partial, live),
        };
        let _ = fs::remove_dir_all(&userland.root);
        let settled = unpacked.and_then(|()| settle(&partial, &userland.root));
        let _ = fs::remove_dir_all(&partial);
        settled?;
        userland.unpacked("busybox")?;
        Ok((userland, Outcome::Done))
    }

    /// Puts them into the machine: busybox behind the others in the search path, the runtime in a directory of its own.
    pub(super) fn install(&self, archive: &mut Archive, containerd: Option<&Containerd>) -> Result<()> {
        for tool in TOOLS {
            let program = if self.is_ours { on_path(tool) } else { self.unpacked(tool).ok() };
            let program = program.ok_or_else(|| {
                Failure::error(format!("the tests need `{tool}`"), "install the package iproute2")
            })?;
            add_program(archive, &program, &Path::new("/usr/bin").join(tool))?;
        }
        add_program(archive, &self.unpacked("busybox")?, Path::new("/busybox/busybox"))?;
        archive.link(Path::new("/bin/sh"), "/busybox/busybox");
        let runtime = match containerd {
            Some(containerd) if self.is_ours => containerd.programs()?,
            None if self.is_ours => Vec::new(),
            _ => CONTAINERD.iter().map(|name| Ok((*name, self.unpacked(name)?))).collect::<Result<_>>()?,
        };
        for (name, program) in runtime {
            add_program(archive, &program, &Path::new("/containerd").join(name))?;
        }
        if !self.is_ours {
            self.install_libraries(archive)?;
        }
        Ok(())
    }

    /// All that was unpacked: what a program needs, only a loader of its own architecture could tell.
    fn install_libraries(&self, archive: &mut Archive) -> Result<()> {
        let place = Path::new("/lib").join(self.architecture.gnu());
        for directory in LIBRARIES {
            let Ok(entries) = self.root.join(directory).join(self.architecture.gnu()).read_dir() else {
                continue;
            };
            for entry in entries.flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                if !name.to_string_lossy().contains(".so") || !path.exists() {
                    continue;
                }
                let place = place.join(&name);
                match path.read_link() {
                    Ok(target) => archive.link(&place, &target.to_string_lossy()),
                    Err(_) => archive.program(&place, &fs::read(&path)?),
                }
            }
        }
        let loader = format!("ld-linux-{}.so.1", self.architecture.name());
        let target = place.join(&loader);
        archive.link(&Path::new("/lib").join(loader), &target.to_string_lossy());
        Ok(())
    }

    fn unpacked(&self, program: &str) -> Result<PathBuf> {
        let places = PROGRAMS.map(|directory| self.root.join(directory).join(program));
        let found = places.into_iter().find(|path| path.is_file());
        found.with_context(|| format!("Debian's packages lack {program}"))
    }
}

/// A program at `place`, and its libraries where they are here.
pub(super) fn add_program(archive: &mut Archive, program: &Path, place: &Path) -> Result<()> {
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
    use super::library;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        assert_eq!(library("\tlibm.so.6 => /lib/libm.so.6 (0x7f)"), Some("/lib/libm.so.6"));
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x7f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x7f)"), None);
    }
}
