//! bpf-linker, linked with the LLVM major of the toolchain it serves.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use crate::kernel_half::{LINKER_VERSION, Toolchain, on_path};
use crate::process::{cargo, output, quietly};
use crate::steps::{Failure, Live, Outcome};

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
    install(toolchain, &llvm, Path::new(&prefix), live)?;
    if !works(toolchain) {
        bail!("bpf-linker was installed but does not start");
    }
    Ok(Outcome::Done)
}

/// Started, not only looked at: its LLVM may have gone since it was built.
fn works(toolchain: &Toolchain) -> bool {
    toolchain.linker().is_some_and(|linker| output(Command::new(linker).arg("--version")).is_some())
}

fn install(toolchain: &Toolchain, llvm: &str, prefix: &Path, live: &Live) -> Result<()> {
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
    if prefix.exists() {
        command.env("LLVM_PREFIX", prefix);
    }
    quietly(&mut command, live).map_err(|error| {
        let advice = format!(
            "install the development files of LLVM {} and run this again, \
             or take a released build, which brings its LLVM: cargo binstall bpf-linker@{LINKER_VERSION} --root {}",
            toolchain.llvm,
            home.display()
        );
        Failure::error(format!("{error:#}"), advice)
    })
}
