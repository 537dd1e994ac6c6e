//! bpf-linker, linked with the LLVM major of the toolchain it serves.

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::toolchain::NIGHTLY;
use crate::kernel_half::{DISTRO_TOOLCHAIN, LINKER_VERSION, TOOLCHAIN_VARIABLE, Toolchain, on_path};
use crate::process::{cargo, output, quietly};
use crate::steps::{Failure, Live, Outcome};

/// The versions of LLVM that this bpf-linker can be built with.
const LLVMS: RangeInclusive<u32> = 21..=23;

pub(super) fn ensure(toolchain: &Toolchain, apt: &mut Apt, live: &Live) -> Result<Outcome> {
    if works(toolchain) {
        return Ok(Outcome::AlreadyThere);
    }
    let llvm = format!("llvm-{}", toolchain.llvm);
    let prefix = format!("/usr/lib/{llvm}");
    let package = format!("{llvm}-dev");
    // A nightly may be ahead of every package source; then the way is a released bpf-linker, see below.
    if !Path::new(&prefix).join("include").exists() && apt.candidate(&package, live).is_some() {
        apt.install(&[&package], live)?;
    }
    // With LLVM back in place, a linker of an earlier setup may work again.
    if works(toolchain) {
        return Ok(Outcome::Done);
    }
    if on_path("cc").is_none() {
        apt.install(&["gcc", "g++", "libc6-dev"], live)?;
    }
    install(toolchain, &llvm, Path::new(&prefix), apt, live)?;
    if !works(toolchain) {
        bail!("bpf-linker was installed but does not start");
    }
    Ok(Outcome::Done)
}

/// Started, not only looked at: its LLVM may have gone since it was built.
fn works(toolchain: &Toolchain) -> bool {
    toolchain.linker().is_some_and(|linker| output(Command::new(linker).arg("--version")).is_some())
}

fn install(toolchain: &Toolchain, llvm: &str, prefix: &Path, apt: &Apt, live: &Live) -> Result<()> {
    let home = toolchain.linker_home().context("HOME is not set")?;
    let mut command = cargo();
    // Outside of the workspace, whose settings are none of its business.
    command.current_dir("/").args([
        "install",
        "bpf-linker",
        "--locked",
        "--force",
        "--version",
        LINKER_VERSION,
    ]);
    command.args(["--no-default-features", "--features", llvm, "--root"]).arg(&home);
    // Where it isn't, the variable may be the user's.
    if prefix.join("include").exists() {
        command.env("LLVM_PREFIX", prefix);
    }
    quietly(&mut command, live)
        .map_err(|error| Failure::error(apt.with_complaint(&format!("{error:#}")), advice(toolchain, &home)))
}

/// Also for those whose distribution isn't Debian, or has no LLVM as new as a nightly's.
fn advice(toolchain: &Toolchain, home: &Path) -> String {
    let mut ways = Vec::new();
    if LLVMS.contains(&toolchain.llvm) {
        ways.push(format!(
            "install the development files of LLVM {}, have its llvm-config first on the PATH or what \
             `llvm-config --prefix` says in LLVM_PREFIX, and run this again",
            toolchain.llvm
        ));
    }
    if toolchain.is_of_distribution() {
        ways.push(format!("take a nightly: {NIGHTLY}"));
    } else {
        ways.push(format!(
            "take a released build, which brings the LLVM of a nightly: \
             cargo binstall bpf-linker@{LINKER_VERSION} --root {}",
            home.display()
        ));
        ways.push(format!(
            "take the distribution's compiler, on Debian 12 and 13: export {TOOLCHAIN_VARIABLE}={DISTRO_TOOLCHAIN}"
        ));
    }
    ways.join("\n       or: ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::advice;
    use crate::kernel_half::{DISTRO_TOOLCHAIN, Toolchain};

    #[test]
    fn advice_names_only_ways_that_are_open() {
        let ways = |name: &str, llvm| {
            let toolchain =
                Toolchain { name: name.into(), sysroot: "/".into(), release: "1.99.0".into(), llvm };
            let advice = advice(&toolchain, Path::new("/home"));
            let named =
                ["development files of LLVM 23", "binstall", "=podwitness-kernel", "component rust-src"];
            named.map(|way| advice.contains(way))
        };
        assert_eq!(ways("nightly", 23), [true, true, true, false]);
        // Too new to build with, or nothing that a nightly's linker fits.
        assert_eq!(ways("nightly", 24), [false, true, true, false]);
        assert_eq!(ways(DISTRO_TOOLCHAIN, 23), [true, false, false, true]);
    }
}
