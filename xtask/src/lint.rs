//! `cargo xtask lint`: form, clippy on both halves, dependencies, house rules.

use anyhow::Result;

use crate::kernel_half::{Toolchain, on_path};
use crate::process::{cargo, show, target_directory};
use crate::setup::{self, Purpose};
use crate::tidy;

pub(crate) fn run() -> Result<()> {
    show(cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    let ready = setup::run(Purpose::Lint)?;
    show(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    kernel_half(&ready.toolchain)?;
    if on_path("cargo-deny").is_none() {
        eprintln!("cargo deny: skipped, it is not installed (cargo install cargo-deny)");
        return Ok(());
    }
    // Not `advisories`: a vulnerability published today must not fail a change that has no part in it.
    show(cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

/// With the compiler that compiles it, for the target it runs on.
fn kernel_half(toolchain: &Toolchain) -> Result<()> {
    let mut clippy = toolchain.cargo();
    clippy.args(["clippy", "--package", "agent-ebpf", "--bin", "podwitness-ebpf"]);
    clippy.args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--release"]);
    // Apart from the host's artifacts, so that two compilers don't wait for each other.
    clippy.arg("--target-dir").arg(target_directory().join("kernel-half"));
    clippy.args(["--", "-D", "warnings"]).env("RUSTC_BOOTSTRAP", "1");
    show(&mut clippy)
}
