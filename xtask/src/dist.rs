//! `cargo xtask dist`: what a release consists of, in `target/dist`, with checksums.

use std::{fmt::Write as _, fs, os::unix::fs::symlink, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    build,
    image::{self, done, sha256},
    process::{cargo, show, target_directory, workspace},
    setup,
};

/// What lies beside the agent in its archive.
const BESIDE: [&str; 5] =
    ["LICENSE", "CHANGELOG.md", "docs/deploy.md", "deploy/seccomp.json", "deploy/systemd/podwitness.service"];

/// By these names in PATH, kubectl finds the agent's binary as a plugin, and what completes the plugin's command lines.
const PLUGIN: [&str; 2] = ["kubectl-podwitness", "kubectl_complete-podwitness"];

/// Makes all of it, of an agent that is there already or is built now.
pub(crate) fn run(architecture: Architecture, agent: Option<String>) -> Result<()> {
    let built = || build::static_agent(architecture);
    let agent = agent.map_or_else(built, |agent| Ok(agent.into()))?;
    let dist = target_directory().join("dist");
    let _ = fs::remove_dir_all(&dist);
    fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    let image = image::make(&agent, architecture, &image::home(), image::time()?)?;
    for file in [&image.archive, &image.bill] {
        fs::copy(file, dist.join(file.file_name().context("a file without a name")?))?;
    }

    let name = format!("podwitness-{}-linux-{}", env!("CARGO_PKG_VERSION"), architecture.name());
    let tree = target_directory().join("image").join(&name);
    fs::create_dir_all(&tree)?;
    fs::copy(&agent, tree.join("podwitness")).context("cannot copy the agent")?;
    for link in PLUGIN {
        let link = tree.join(link);
        let _ = fs::remove_file(&link);
        symlink("podwitness", &link).with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    for file in BESIDE {
        let from = workspace().join(file);
        fs::copy(&from, tree.join(from.file_name().context("a file without a name")?))?;
    }
    // By a program of this machine: the agent may be one for another.
    let mut manual = cargo();
    manual.args(["run", "--quiet", "--package", "podwitness", "--example", "manual", "--"]);
    show(manual.arg(&tree))?;
    image::tar_gz(&tree, &dist.join(format!("{name}.tar.gz")))?;
    let manifests = format!("podwitness-{}-deploy.tar.gz", env!("CARGO_PKG_VERSION"));
    image::tar_gz(&workspace().join("deploy"), &dist.join(manifests))?;
    match setup::helm() {
        Some(helm) => {
            let chart = workspace().join("deploy/helm/podwitness");
            done(Command::new(helm).arg("package").arg(chart).arg("--destination").arg(&dist))?;
        }
        None => eprintln!("no chart package: there is no helm here; `cargo xtask test` fetches one"),
    }

    let mut files: Vec<_> = dist.read_dir()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut sums = String::new();
    for file in &files {
        writeln!(sums, "{}  {}", sha256(file)?, file.file_name().unwrap_or_default().display())?;
    }
    fs::write(dist.join("SHA256SUMS"), &sums)?;
    eprintln!("{}:\n{sums}", dist.display());
    Ok(())
}
