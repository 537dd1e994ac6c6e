//! Compiles the kernel half and leaves it at `OUT_DIR/podwitness-ebpf`, where the agent embeds it.
//!
//! Without a toolchain for it the file is left empty, so that everything that needs no kernel still
//! compiles; the agent then says at its start what is missing.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use aya_build::Package;
use kernel_half::Toolchain;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

#[path = "../xtask/src/kernel_half.rs"]
#[allow(dead_code, reason = "shared with xtask, which uses the rest")]
mod kernel_half;

/// Set for the second run of this script, see [`build_in_own_environment`].
const TOOLCHAIN: &str = "PODWITNESS_BUILD_WITH";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if let Ok(toolchain) = env::var(TOOLCHAIN) {
        return build(&toolchain);
    }
    for variable in kernel_half::VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    for file in ["build.rs", "../xtask/src/kernel_half.rs", "../agent-ebpf", "../Cargo.lock"] {
        rerun_if_changed(Path::new(file));
    }
    let Some(toolchain) = Toolchain::find() else {
        return leave_empty("no Rust toolchain with the source of `core` was found", None);
    };
    let Some(linker) = toolchain.linker() else {
        let missing = toolchain.linker_home().map(|home| home.join("bin/bpf-linker"));
        return leave_empty("its linker, bpf-linker, was not found", missing);
    };
    rerun_if_changed(&toolchain.rustc());
    rerun_if_changed(&linker);
    build_in_own_environment(&toolchain, &linker)
}

/// Runs this script once more with what only the kernel half may see in its environment. (A process
/// cannot change its own environment safely.)
fn build_in_own_environment(toolchain: &Toolchain, linker: &Path) -> Result<()> {
    let linker_directory = linker.parent().context("bpf-linker has no directory")?.to_owned();
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([linker_directory].into_iter().chain(env::split_paths(&inherited)))?;
    let mut this_script = Command::new(env::current_exe().context("cannot find this build script")?);
    if let Some(shared) = shared_build_directory()? {
        this_script.env("CARGO_BUILD_BUILD_DIR", shared);
    }
    let mut child = this_script
        .env("PATH", path)
        // -Zbuild-std on a stable compiler; aya-build asks for it when it sees this.
        .env("RUSTC_BOOTSTRAP", "1")
        // Lines of source go by their place in the package: the object is the same wherever it is built.
        .env("CARGO_UNSTABLE_TRIM_PATHS", "true")
        .env("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all")
        // Comparisons with more than "greater", and 32 bits at once: all kernels know them since 5.1.
        .env("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true")
        .env("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v3")
        .env("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "")
        .env(TOOLCHAIN, &toolchain.name)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start this build script again")?;

    let output = child.stdout.take().context("the output of the kernel half's build is gone")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the output of the kernel half's build")?;
        if !line.strip_prefix("cargo:warning=").is_some_and(is_cargo_status) {
            println!("{line}");
        }
    }
    if !child.wait()?.success() {
        bail!(
            "the kernel half did not compile with toolchain `{}` (rustc {}, LLVM {}) and {}",
            toolchain.name,
            toolchain.release,
            toolchain.llvm,
            linker.display()
        );
    }
    Ok(())
}

/// Each profile of the agent has an `OUT_DIR` of its own, but all embed the same kernel half: kept in
/// one place under the target directory, it is compiled once.
fn shared_build_directory() -> Result<Option<PathBuf>> {
    let mut above = out_dir()?;
    while above.pop() {
        // Cargo marks the target directory with it.
        if above.join("CACHEDIR.TAG").exists() {
            return Ok(Some(above.join("kernel-half")));
        }
    }
    Ok(None)
}

/// "   Compiling core v0.0.0" and the like: aya-build hands these on as warnings, which they are not.
/// Cargo right-aligns the verb in twelve columns.
fn is_cargo_status(line: &str) -> bool {
    line.split_at_checked(12).is_some_and(|(verb, rest)| {
        let verb = verb.trim_start();
        rest.starts_with(' ')
            && verb.starts_with(|c: char| c.is_ascii_uppercase())
            && verb.chars().all(|c| c.is_ascii_alphabetic())
    })
}

fn build(toolchain: &str) -> Result<()> {
    let features: &[&str] = if env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() { &["log"] } else { &[] };
    let package =
        Package { name: "agent-ebpf", root_dir: "../agent-ebpf", no_default_features: false, features };
    let toolchain = match toolchain {
        "nightly" => aya_build::Toolchain::Nightly,
        other => aya_build::Toolchain::Custom(other),
    };
    aya_build::build_ebpf([package], toolchain)?;
    strip(&out_dir()?.join("podwitness-ebpf"))
}

/// Takes out what only debuggers read, which is most of the object. The verifier's log still has the lines of source: they
/// come with the types, which the kernel gets.
fn strip(object: &Path) -> Result<()> {
    let bytes = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let mut builder = Builder::read(&*bytes).context("the kernel half is no ELF object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections with those of symbols.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot strip the kernel half")?;
    fs::write(object, stripped).with_context(|| format!("cannot write {}", object.display()))
}

fn leave_empty(why: &str, missing: Option<PathBuf>) -> Result<()> {
    println!(
        "cargo:warning=podwitness is built without its kernel half, which does all the observing: {why}. \
         `cargo xtask build` installs what is missing."
    );
    // Cargo runs this script again for as long as the file does not exist.
    rerun_if_changed(&missing.unwrap_or_else(|| "no-toolchain-for-the-kernel-half".into()));
    let object = out_dir()?.join("podwitness-ebpf");
    fs::write(&object, []).with_context(|| format!("cannot write {}", object.display()))
}

fn out_dir() -> Result<PathBuf> {
    env::var_os("OUT_DIR").map(PathBuf::from).context("OUT_DIR is not set")
}

fn rerun_if_changed(file: &Path) {
    println!("cargo:rerun-if-changed={}", file.display());
}
