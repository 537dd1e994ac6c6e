//! The compiler of the kernel half: rustup's nightly if it has the source of `core`, else Debian's.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::Apt;
use crate::kernel_half::{DISTRO_SYSROOT, DISTRO_TOOLCHAIN, TOOLCHAIN_VARIABLE, Toolchain, on_path};
use crate::process::quietly;
use crate::steps::{Failure, Live, Outcome};

/// Debian's compiler follows the browsers it has to build, so it is recent even in a stable release.
const COMPILER: &str = "rustc-web";
const PACKAGES: [&str; 3] = [COMPILER, "cargo-web", "rust-web-src"];

/// The way that needs no package of a distribution.
pub(super) const NIGHTLY: &str = "rustup toolchain install nightly --component rust-src";

pub(super) fn ensure(apt: &mut Apt, live: &Live) -> Result<(Toolchain, Outcome)> {
    if let Some(toolchain) = Toolchain::find() {
        return Ok((toolchain, Outcome::AlreadyThere));
    }
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    // The distribution's may be asked for before it is there: somebody's nightly may be too new for every LLVM.
    let wanted = std::env::var_os(TOOLCHAIN_VARIABLE).filter(|name| name != DISTRO_TOOLCHAIN);
    if let Some(name) = wanted {
        return Err(Failure::error(
            format!(
                "{TOOLCHAIN_VARIABLE}={} is no rustup toolchain of at least {oldest} with the source of `core`",
                name.display()
            ),
            "rustup component add rust-src --toolchain NAME, or unset the variable",
        ));
    }
    // It may be there and only the link be missing, which needs no root.
    let is_there = |found: Toolchain| found.sysroot.join("bin/cargo").exists();
    if !Toolchain::of_distribution().is_some_and(is_there) {
        install(apt, live)?;
    }
    if on_path("rustup").is_some() {
        let link = ["toolchain", "link", DISTRO_TOOLCHAIN, DISTRO_SYSROOT];
        quietly(Command::new("rustup").args(link), live)
            .context("cannot make the distribution's compiler visible to rustup")?;
    }
    let toolchain = Toolchain::find()
        .with_context(|| format!("{COMPILER} is installed, but it is not usable or older than {oldest}"))?;
    Ok((toolchain, Outcome::Done))
}

fn install(apt: &mut Apt, live: &Live) -> Result<()> {
    if !Apt::exists() {
        return Err(Failure::error("no Rust nightly with the source of `core` was found", NIGHTLY));
    }
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let candidate = apt.candidate(COMPILER, live).unwrap_or_else(|| "none".into());
    if !is_at_least(&candidate, oldest) {
        return Err(Failure::error(
            apt.with_complaint(&format!(
                "the package sources offer no {COMPILER} of at least {oldest} (they have {candidate})"
            )),
            NIGHTLY,
        ));
    }
    apt.install(&PACKAGES, live).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => Failure::error(failure.why, format!("{NIGHTLY}\n       or: {}", failure.advice)),
        Err(error) => error,
    })
}

/// Clippy of the same compiler; rustup has its own way to ask for it.
pub(super) fn ensure_clippy(toolchain: &Toolchain, apt: &mut Apt, live: &Live) -> Result<Outcome> {
    if toolchain.sysroot.join("bin/clippy-driver").exists() {
        return Ok(Outcome::AlreadyThere);
    }
    if !toolchain.is_of_distribution() {
        return Err(Failure::error(
            format!("toolchain `{}` has no clippy", toolchain.name),
            format!("rustup component add clippy --toolchain {}", toolchain.name),
        ));
    }
    apt.install(&["rust-web-clippy"], live)?;
    Ok(Outcome::Done)
}

/// Compares the first two numbers of versions like "1.96.0+dfsg1-1~deb12u2".
fn is_at_least(version: &str, oldest: &str) -> bool {
    let numbers = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    numbers(version).is_some() && numbers(version) >= numbers(oldest)
}

#[cfg(test)]
mod tests {
    use super::is_at_least;

    #[test]
    fn debian_versions_compare_by_number() {
        assert!(is_at_least("1.96.0+dfsg1-1~deb12u2", "1.95"));
        assert!(is_at_least("1.100.0", "1.95"));
        assert!(!is_at_least("1.85.0+dfsg3-1~deb12u3", "1.95"));
        assert!(!is_at_least("none", "1.95"));
    }
}
