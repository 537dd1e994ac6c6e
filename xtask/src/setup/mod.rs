//! Installs what is missing, and nothing twice.

mod apt;
mod browser;
mod containerd;
mod cross;
mod linker;
mod manifest_tools;
mod mounts;
mod peers;
mod python;
mod test_tools;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::architecture::Architecture;
use crate::kernel_half::{LINKER_VERSION, Toolchain, on_path};
use crate::steps::{Outcome, Steps};
use apt::Apt;
pub(crate) use containerd::{Containerd, PROGRAMS as CONTAINERD};
pub(crate) use cross::Cross;
use manifest_tools::ManifestTools;
pub(crate) use test_tools::Prometheus;

/// What the setup is for; each use includes `Build`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Build,
    Lint,
    Run,
    Test,
    /// Tests in an emulated machine, which mounts for itself.
    Vm,
}

/// What the setup found or made.
pub(crate) struct Ready {
    pub(crate) toolchain: Toolchain,
    pub(crate) prometheus: Option<Prometheus>,
    pub(crate) containerd: Option<Containerd>,
    pub(crate) manifest_tools: Option<ManifestTools>,
    /// Libraries of the OTLP receiver.
    pub(crate) otlp: Option<PathBuf>,
    /// Libraries of the validator of OpenAPI documents.
    pub(crate) openapi: Option<PathBuf>,
}

/// What libFuzzer is compiled with.
pub(crate) fn cplusplus() -> Result<()> {
    Steps::new(1).run("a C++ compiler for libFuzzer", |live| {
        if on_path("c++").is_some() {
            return Ok(Outcome::AlreadyThere);
        }
        Apt::default().install(&["g++"], live)?;
        Ok(Outcome::Done)
    })
}

/// What C is compiled and everything is linked with, for another architecture.
pub(crate) fn cross(architecture: Architecture) -> Result<Cross> {
    let mut cross = None;
    Steps::new(1).run(&format!("a C compiler for {}", architecture.name()), |live| {
        let (found, outcome) = Cross::ensure(architecture, live)?;
        cross = Some(found);
        Ok(outcome)
    })?;
    cross.context("no C compiler")
}

pub(crate) fn run(purpose: Purpose) -> Result<Ready> {
    let mut apt = Apt::default();
    let (mut prometheus, mut containerd, mut manifest_tools) = (None, None, None);
    let (mut otlp, mut openapi) = (None, None);
    let mut toolchain = None;

    let mut steps = Steps::new(match purpose {
        Purpose::Build => 2,
        Purpose::Lint | Purpose::Run | Purpose::Vm => 3,
        Purpose::Test => 9,
    });
    steps.run("toolchain for the kernel half", |live| {
        let (found, outcome) = toolchain::ensure(&mut apt, live)?;
        toolchain = Some(found);
        Ok(outcome)
    })?;
    let toolchain = toolchain.context("no toolchain")?;
    steps.run(&format!("bpf-linker {LINKER_VERSION} for LLVM {}", toolchain.llvm), |live| {
        linker::ensure(&toolchain, &mut apt, live)
    })?;
    if purpose == Purpose::Lint {
        steps
            .run("clippy for the kernel half", |live| toolchain::ensure_clippy(&toolchain, &mut apt, live))?;
    }
    if matches!(purpose, Purpose::Run | Purpose::Test) {
        steps.run("mounts", |_| mounts::ensure())?;
    }
    if purpose == Purpose::Test {
        steps.run("tools of the tests", |live| {
            let (found, outcome) = test_tools::ensure(&mut apt, live)?;
            prometheus = found;
            Ok(outcome)
        })?;
        steps.run("an OTLP receiver", |live| {
            let (found, outcome) = python::ensure(&python::OTLP, &mut apt, live)?;
            otlp = found;
            Ok(outcome)
        })?;
        steps.run("a validator of OpenAPI documents", |live| {
            let (found, outcome) = python::ensure(&python::OPENAPI, &mut apt, live)?;
            openapi = found;
            Ok(outcome)
        })?;
    }
    if purpose == Purpose::Test {
        steps.run("a browser for the tests", |live| browser::ensure(&mut apt, live))?;
    }
    if matches!(purpose, Purpose::Test | Purpose::Vm) {
        steps.run("a container runtime for the tests", |live| {
            let (found, outcome) = containerd::ensure(&mut apt, live)?;
            containerd = found;
            Ok(outcome)
        })?;
    }
    if purpose == Purpose::Test {
        steps.run("renderers of the manifests", |live| {
            let (found, outcome) = manifest_tools::ensure(&mut apt, live)?;
            manifest_tools = found;
            Ok(outcome)
        })?;
    }
    Ok(Ready { toolchain, prometheus, containerd, manifest_tools, otlp, openapi })
}

/// Helm, if an earlier setup has fetched it or it is on the PATH.
pub(crate) fn helm() -> Option<PathBuf> {
    on_path("helm").or_else(|| manifest_tools::programs().map(|(helm, _)| helm))
}

/// Moves what is complete to where it is looked for. If another setup was quicker, its work is as good.
pub(crate) fn settle(partial: &Path, home: &Path) -> Result<()> {
    match fs::rename(partial, home) {
        Err(_) if home.exists() => Ok(()),
        moved => moved.with_context(|| format!("cannot move it to {}", home.display())),
    }
}

/// Installs the tools that `cargo xtask bench` compares with.
pub(crate) fn peers() -> Result<()> {
    Steps::new(1).run("peers", |live| peers::ensure(&mut Apt::default(), live))
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::settle;

    #[test]
    fn of_two_setups_at_once_the_first_is_taken() {
        let directory = env::temp_dir().join(format!("podwitness-settle-{}", std::process::id()));
        let home = directory.join("home");
        for one in ["first", "second"] {
            let partial = directory.join(one);
            fs::create_dir_all(&partial).unwrap();
            fs::write(partial.join("file"), one).unwrap();
            settle(&partial, &home).unwrap();
            assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "first");
        }
        assert!(settle(&directory.join("third"), &directory.join("nowhere")).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
