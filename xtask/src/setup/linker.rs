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
    if Apt::exists() && !Path::new(&prefix).join("include").exists() {
        apt.install(&[&format!("{llvm}-dev")], live)?;
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
    toolchain
        .linker()
        .is_some_and(|linker| output(Command::new(linker).arg("--version")).is_some())
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
    command
        .args(["--no-default-features", "--features", llvm, "--root"])
        .arg(&home);
    if prefix.exists() {
        command.env("LLVM_PREFIX", prefix);
    }
    quietly(&mut command, live).map_err(|error| {
        let binary = home.join("bin/bpf-linker");
        Failure::new(
            format!("{error:#}"),
            format!(
                "install the development files of LLVM {} and run this again, or put a released bpf-linker \
                 built for that LLVM at {}",
                toolchain.llvm,
                binary.display()
            ),
        )
    })
}
