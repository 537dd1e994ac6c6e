//! A C compiler and linker for another architecture: Debian's, unpacked into the cache and not installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::architecture::Architecture;
use crate::debian::{Mirrors, Packages, release_of_this_system};
use crate::kernel_half::{cache, on_path};
use crate::process::output;
use crate::steps::{Failure, Live, Outcome};

/// GCC's programs that a build calls.
const PROGRAMS: [&str; 2] = ["gcc", "ar"];

/// What they need in turn lies here.
const LIBRARIES: &str = "usr/lib";

/// The programs of a toolchain for C, which Rust's programs are linked by.
pub(crate) struct Cross {
    gcc: PathBuf,
    ar: PathBuf,
    architecture: Architecture,
}

impl Cross {
    pub(super) fn ensure(architecture: Architecture, live: &Live) -> Result<(Self, Outcome)> {
        let of_system = |program: &str| on_path(&format!("{}-{program}", architecture.gnu()));
        if let [Some(gcc), Some(ar)] = PROGRAMS.map(of_system) {
            return Ok((Self { gcc, ar, architecture }, Outcome::AlreadyThere));
        }
        let cache = cache().context("HOME is not set")?;
        let home = cache.join(format!("cross-{}", architecture.name()));
        let own = Self { gcc: home.join("gcc"), ar: home.join("ar"), architecture };
        if own.works() {
            return Ok((own, Outcome::AlreadyThere));
        }
        let package = format!("gcc-{}", architecture.gnu().replace('_', "-"));
        let headers = format!("libc6-dev-{}-cross", architecture.debian());
        let by_hand =
            || format!("install {package}, or a GCC whose programs begin with {}-", architecture.gnu());
        let release = release_of_this_system().ok_or_else(|| {
            Failure::error(format!("there is no C compiler for {} here", architecture.name()), by_hand())
        })?;
        let apt = cache.join(format!("apt-cross-{}", architecture.name()));
        let packages =
            Packages::open(apt, &Mirrors::of_this_machine()?, &[&release], Architecture::host()?, live)?;
        let _ = fs::remove_dir_all(&home);
        packages.on_top_of_this_system().unpack_with_needs(&[&package, &headers], &release, &home, live)?;
        own.write_wrappers(&home)?;
        if !own.works() {
            return Err(Failure::error(
                format!("Debian's {package} was unpacked but does not start"),
                by_hand(),
            ));
        }
        Ok((own, Outcome::Done))
    }

    /// They find their own parts by themselves, but not the libraries that they are linked with, and not the headers of C:
    /// those would be this machine's.
    fn write_wrappers(&self, home: &Path) -> Result<()> {
        let libraries = home.join(LIBRARIES).join(Architecture::host()?.gnu());
        let headers = home.join("usr").join(self.architecture.gnu()).join("include");
        let headers = format!(" -isystem '{}'", headers.display());
        for (name, wrapper) in PROGRAMS.into_iter().zip([&self.gcc, &self.ar]) {
            let program = home.join("usr/bin").join(format!("{}-{name}", self.architecture.gnu()));
            let more = if name == "gcc" { &headers } else { "" };
            let script = format!(
                "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}'{more} \"$@\"\n",
                libraries.display(),
                program.display()
            );
            fs::write(wrapper, script).with_context(|| format!("cannot write {}", wrapper.display()))?;
            fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    fn works(&self) -> bool {
        [&self.gcc, &self.ar].iter().all(|program| output(Command::new(program).arg("--version")).is_some())
    }

    /// Tells cargo, and the build scripts that compile C, of this toolchain.
    pub(crate) fn apply(&self, build: &mut Command) {
        let target = self.architecture.target().replace('-', "_");
        build.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), &self.gcc);
        build.env(format!("CC_{target}"), &self.gcc).env(format!("AR_{target}"), &self.ar);
    }
}
