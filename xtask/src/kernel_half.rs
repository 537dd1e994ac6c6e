//! What compiles the kernel half: a Rust toolchain that has the source of `core`, and a bpf-linker
//! that links with the same LLVM.
//!
//! `cargo xtask` and `agent/build.rs` both compile this very file, so that they choose the same.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the choice depends on: the build script runs again when one of them changes.
pub(crate) const VARIABLES: [&str; 5] =
    [TOOLCHAIN_VARIABLE, CACHE_VARIABLE, "XDG_CACHE_HOME", "RUSTUP_HOME", "HOME"];

/// Names a rustup toolchain to use instead of the ones looked for.
pub(crate) const TOOLCHAIN_VARIABLE: &str = "PODWITNESS_KERNEL_TOOLCHAIN";

/// Names the directory for what is kept outside of the clone.
pub(crate) const CACHE_VARIABLE: &str = "PODWITNESS_CACHE";

/// The name under which the distribution's compiler is made visible to rustup.
pub(crate) const DISTRO_TOOLCHAIN: &str = "podwitness-kernel";

/// Where that compiler is.
pub(crate) const DISTRO_SYSROOT: &str = "/usr";

/// Stands in for a name where there is no rustup to give one.
const SYSTEM: &str = "system";

pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// A toolchain that can compile for the BPF target.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// What `rustup run` calls it.
    pub(crate) name: String,
    pub(crate) sysroot: PathBuf,
    /// As in "1.96.0".
    pub(crate) release: String,
    /// The major version of the LLVM inside.
    pub(crate) llvm: u32,
}

impl Toolchain {
    /// The toolchain this machine has for the kernel half: nightly first, which is aya's usual way.
    pub(crate) fn find() -> Option<Self> {
        if let Some(name) = env::var_os(TOOLCHAIN_VARIABLE) {
            return Self::named(name.to_str()?);
        }
        if on_path("rustup").is_none() {
            // Then the compiler in use is the distribution's, and the only one.
            return Self::of_distribution();
        }
        Self::named("nightly").or_else(|| Self::named(DISTRO_TOOLCHAIN))
    }

    /// What [`DISTRO_TOOLCHAIN`] is a link to, or will be.
    pub(crate) fn of_distribution() -> Option<Self> {
        Self::at(SYSTEM, Path::new(DISTRO_SYSROOT))
    }

    /// Reads rustup's directory instead of asking rustup, which takes ten times as long.
    fn named(name: &str) -> Option<Self> {
        let toolchains = rustup_home()?.join("toolchains");
        let exact = toolchains.join(name);
        if exact.exists() {
            return Self::at(name, &exact);
        }
        let with_host = format!("{name}-{}-", env::consts::ARCH);
        toolchains
            .read_dir()
            .ok()?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&with_host))
            .find_map(|entry| Self::at(name, &entry.path()))
    }

    /// The toolchain in `sysroot` if it is recent enough and has the source of `core`.
    fn at(name: &str, sysroot: &Path) -> Option<Self> {
        if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists() {
            return None;
        }
        let output = Command::new(sysroot.join("bin/rustc")).arg("-vV").output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        let field = |key: &str| version.lines().find_map(|line| line.strip_prefix(key));
        let release = field("release: ")?.to_owned();
        let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
        let new_enough = minor(&release)? >= minor(env!("CARGO_PKG_RUST_VERSION"))?;
        new_enough.then(|| Self { name: name.to_owned(), sysroot: sysroot.to_owned(), release, llvm })
    }

    pub(crate) fn is_of_distribution(&self) -> bool {
        self.name == DISTRO_TOOLCHAIN || self.name == SYSTEM
    }

    /// The cargo of this toolchain.
    pub(crate) fn cargo(&self) -> Command {
        if self.name == SYSTEM {
            return Command::new(self.sysroot.join("bin/cargo"));
        }
        let mut cargo = Command::new("rustup");
        cargo.args(["run", &self.name, "cargo"]);
        cargo
    }

    pub(crate) fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    /// Where the bpf-linker for this toolchain is kept: outside of the clone, so that it is built once.
    pub(crate) fn linker_home(&self) -> Option<PathBuf> {
        Some(cache()?.join(format!("bpf-linker-{LINKER_VERSION}-llvm{}", self.llvm)))
    }

    /// The bpf-linker for this toolchain, if there is one.
    pub(crate) fn linker(&self) -> Option<PathBuf> {
        let own = self.linker_home()?.join("bin/bpf-linker");
        if own.exists() {
            return Some(own);
        }
        // Released bpf-linkers carry the LLVM of the newest nightly: they fit nightly, and only that.
        if self.name == "nightly" { on_path("bpf-linker") } else { None }
    }
}

/// Everything podwitness keeps outside of the clone.
pub(crate) fn cache() -> Option<PathBuf> {
    directory(CACHE_VARIABLE)
        .or_else(|| Some(directory("XDG_CACHE_HOME")?.join("podwitness")))
        .or_else(|| Some(directory("HOME")?.join(".cache/podwitness")))
}

/// The full path of a program, as a shell would find it.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

fn rustup_home() -> Option<PathBuf> {
    directory("RUSTUP_HOME").or_else(|| Some(directory("HOME")?.join(".rustup")))
}

fn directory(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// 96 of "1.96.0-nightly".
fn minor(release: &str) -> Option<u32> {
    release.split('.').nth(1)?.parse().ok()
}
