//! `cargo xtask build` and `cargo xtask run`.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::architecture::Architecture;
use crate::debian::MIRROR_VARIABLE;
use crate::kernel_half::{CACHE_VARIABLE, TOOLCHAIN_VARIABLE};
use crate::machine;
use crate::process::{cargo, show, target_directory, workspace};
use crate::setup::{self, Purpose, Ready};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

impl Profile {
    fn flag(self) -> Option<&'static str> {
        (self == Self::Release).then_some("--release")
    }

    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

pub(crate) fn build(profile: Profile) -> Result<()> {
    setup::run(Purpose::Build)?;
    let agent = agent(profile)?;
    eprintln!("built {}", agent.display());
    Ok(())
}

/// Compiles the agent, kernel half included. `agent/build.rs` finds the toolchain that the setup left.
pub(crate) fn agent(profile: Profile) -> Result<PathBuf> {
    package("podwitness", profile)?;
    Ok(target_directory().join(profile.directory()).join("podwitness"))
}

/// The release without any library that the system would have to have: for images, and for other distributions.
///
/// The target is named, so that programs that run during the build, and the kernel half, are spared the flag.
pub(crate) fn static_agent(architecture: Architecture) -> Result<PathBuf> {
    let ready = setup::run(Purpose::Build)?;
    let mut build = static_cargo(architecture, &ready)?;
    show(build.args(["build", "--package", "podwitness", "--release"]))?;
    Ok(target_directory().join(architecture.target()).join("release/podwitness"))
}

/// A cargo whose programs need no library of the system, and are the same wherever they are built. For another
/// architecture than this machine's it is the one of the kernel half, which has the source of `std` at hand.
pub(crate) fn static_cargo(architecture: Architecture, ready: &Ready) -> Result<Command> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".into()];
    flags.extend(places(ready).iter().map(|(place, name)| format!("--remap-path-prefix={place}={name}")));
    // Unlike other variables for flags, this one allows for spaces in paths.
    let flags = flags.join("\x1f");
    let target = architecture.target();
    if architecture == Architecture::host()? {
        let mut cargo = cargo();
        cargo.env("CARGO_BUILD_TARGET", target).env("CARGO_ENCODED_RUSTFLAGS", flags);
        return Ok(cargo);
    }
    let mut cargo = ready.toolchain.cargo();
    // Else rustup's variables of the cargo that runs us would decide for it.
    cargo.current_dir(workspace()).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    cargo.env("CARGO_BUILD_TARGET", target).env("CARGO_ENCODED_RUSTFLAGS", flags);
    // What is unstable is to compile `std` oneself.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort");
    setup::cross(architecture)?.apply(&mut cargo);
    Ok(cargo)
}

/// Where source lies on this machine, and what a program calls it that tells of a place in it.
fn places(ready: &Ready) -> Vec<(String, &'static str)> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let registries = cargo_home.and_then(|home| home.join("registry/src").read_dir().ok());
    let registries = registries.into_iter().flatten().flatten().map(|registry| (registry.path(), "crates"));
    let own = [
        (workspace(), "podwitness"),
        (target_directory(), "target"),
        (ready.toolchain.sysroot.join("lib/rustlib/src/rust"), "rust"),
    ];
    own.into_iter().chain(registries).map(|(place, name)| (place.display().to_string(), name)).collect()
}

pub(crate) fn package(name: &str, profile: Profile) -> Result<()> {
    show(cargo().args(["build", "--package", name]).args(profile.flag()))
}

/// The variables that xtask itself is told by. The agent's begin with the same prefix.
pub(crate) const VARIABLES: [&str; 3] = [CACHE_VARIABLE, TOOLCHAIN_VARIABLE, MIRROR_VARIABLE];

/// Builds the agent and becomes it.
pub(crate) fn run(profile: Profile, arguments: &[OsString]) -> Result<Infallible> {
    setup::run(Purpose::Run)?;
    let agent = agent(profile)?;
    let as_root = format!("start what was just built as root: sudo {}", agent.display());
    machine::can_load(&as_root)?;
    Err(start(&agent, arguments).exec()).with_context(|| format!("cannot start {}", agent.display()))
}

fn start(agent: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(agent);
    // Cargo's own libraries must not follow the agent.
    command.args(arguments).env_remove("LD_LIBRARY_PATH");
    // It refuses variables with its prefix that it doesn't know.
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{VARIABLES, start};
    use crate::USAGE;

    #[test]
    fn our_own_variables_are_explained_and_kept_from_the_agent() {
        let command = start(Path::new("/agent"), &[]);
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        for variable in VARIABLES {
            assert!(USAGE.contains(&format!("\n  {variable} ")), "{variable}");
            assert!(removed.contains(&(variable.as_ref(), None)), "{variable}");
        }
    }
}
