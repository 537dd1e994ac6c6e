//! `cargo xtask image`: the agent as an OCI archive, made without a daemon, without root, and without pulling anything.
//!
//! The same binary and the same authorities give the same archive, byte for byte: names are sorted, owners are 0,
//! times are that of the last commit (or `SOURCE_DATE_EPOCH`).

mod authorities;
mod bill;
mod classic;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    architecture::Architecture,
    build,
    process::{output, target_directory, workspace},
};

/// Nobody in particular; a manifest that needs root says so.
const USER: &str = "65532:65532";
const TYPE: &str = "application/vnd.oci.image";

/// Builds the agent, unless there is one, and its image.
pub(crate) fn run(architecture: Architecture, agent: Option<String>) -> Result<()> {
    let agent = agent.map_or_else(|| build::static_agent(architecture), |agent| Ok(agent.into()))?;
    let image = make(&agent, architecture, &home(), time()?)?;
    let size = |path: &Path| fs::metadata(path).map_or(0.0, |file| file.len() as f64 / f64::from(1 << 20));
    eprintln!(
        "built {} ({:.1} MiB; the agent in it {:.1} MiB)\n      {}\n      digest of the manifest: {}",
        image.archive.display(),
        size(&image.archive),
        size(&agent),
        image.bill.display(),
        image.digest
    );
    Ok(())
}

/// Where images are made.
pub(crate) fn home() -> PathBuf {
    target_directory().join("image")
}

/// What was made.
pub(crate) struct Image {
    pub(crate) archive: PathBuf,
    /// The list of what is in it.
    pub(crate) bill: PathBuf,
    pub(crate) digest: String,
}

/// Makes the image of this agent, which has to be a static one, as of `time`, in a directory that is emptied before.
pub(crate) fn make(agent: &Path, architecture: Architecture, home: &Path, time: u64) -> Result<Image> {
    let _ = fs::remove_dir_all(home);
    let (root, layout) = (home.join("root"), home.join("layout"));
    let blobs = layout.join("blobs/sha256");
    for directory in [&root.join("etc"), &root.join("licenses"), &blobs] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    fs::copy(agent, root.join("podwitness")).context("cannot copy the agent")?;
    // A static glibc has these two ways to resolve names, and would load others from files that aren't there.
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/\npodwitness:x:65532:65532::/:/\n")?;
    fs::copy(workspace().join("LICENSE"), root.join("licenses/podwitness"))?;
    authorities::put(&root)?;
    let date = output(Command::new("date").args(["-u", "-d", &format!("@{time}"), "+%FT%TZ"]));
    let date = date.context("cannot run date")?.trim().to_owned();
    let bill = bill::of_the_agent(&date)?;
    fs::write(root.join("sbom.cdx.json"), &bill)?;
    let bill_path = home.join("podwitness.cdx.json");
    fs::write(&bill_path, &bill)?;

    let layer = home.join("layer.tar");
    tar(&root, &layer, time)?;
    let uncompressed = sha256(&layer)?;
    // -n: neither name nor time.
    done(Command::new("gzip").args(["-9", "-n", "-f"]).arg(&layer))?;
    let layer = blob(&home.join("layer.tar.gz"), &blobs, &format!("{TYPE}.layer.v1.tar+gzip"))?;

    let architecture = architecture.debian();
    let version = env!("CARGO_PKG_VERSION");
    let labels = [
        ("org.opencontainers.image.title", "podwitness"),
        ("org.opencontainers.image.description", "An eBPF observability agent for Kubernetes nodes"),
        ("org.opencontainers.image.version", version),
        ("org.opencontainers.image.revision", &revision()),
        ("org.opencontainers.image.licenses", "Apache-2.0"),
    ];
    let labels = labels.map(|(key, value)| format!("\"{key}\":\"{}\"", escaped(value))).join(",");
    let config = home.join("config.json");
    fs::write(
        &config,
        format!(
            "{{\"created\":\"{date}\",\"architecture\":\"{architecture}\",\"os\":\"linux\",\"config\":{{\"User\":\"{USER}\",\
             \"Entrypoint\":[\"/podwitness\"],\"ExposedPorts\":{{\"9481/tcp\":{{}}}},\"Labels\":{{{labels}}}}},\
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{uncompressed}\"]}}}}"
        ),
    )?;
    let config = blob(&config, &blobs, &format!("{TYPE}.config.v1+json"))?;
    let manifest = home.join("manifest.json");
    fs::write(
        &manifest,
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{TYPE}.manifest.v1+json\",\"config\":{config},\"layers\":[{layer}],\
             \"annotations\":{{{labels}}}}}"
        ),
    )?;
    let digest = format!("sha256:{}", sha256(&manifest)?);
    let manifest = blob(&manifest, &blobs, &format!("{TYPE}.manifest.v1+json"))?;
    let name = format!("localhost/podwitness:{version}");
    fs::write(layout.join("manifest.json"), classic::manifest(&config, &layer, &name)?)?;
    let manifest = manifest.trim_end_matches('}').to_owned()
        + &format!(
            ",\"annotations\":{{\"io.containerd.image.name\":\"{name}\",\
             \"org.opencontainers.image.ref.name\":\"{version}\"}}}}"
        );
    fs::write(layout.join("index.json"), format!("{{\"schemaVersion\":2,\"manifests\":[{manifest}]}}"))?;
    fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    let archive = home.join(format!("podwitness-{version}-{architecture}.oci.tar"));
    tar(&layout, &archive, time)?;
    Ok(Image { archive, bill: bill_path, digest })
}

/// Puts a file among the blobs, and describes it.
fn blob(file: &Path, blobs: &Path, kind: &str) -> Result<String> {
    let (digest, size) = (sha256(file)?, fs::metadata(file)?.len());
    fs::rename(file, blobs.join(&digest))?;
    Ok(format!("{{\"mediaType\":\"{kind}\",\"digest\":\"sha256:{digest}\",\"size\":{size}}}"))
}

/// A compressed archive of a directory, as reproducible as the image.
pub(crate) fn tar_gz(directory: &Path, archive: &Path) -> Result<()> {
    let plain = archive.with_extension("");
    tar(directory, &plain, time()?)?;
    done(Command::new("gzip").args(["-9", "-n", "-f"]).arg(&plain))
}

fn tar(directory: &Path, archive: &Path, time: u64) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"]);
    command
        .args(["--mode=u=rwX,go=rX", &format!("--mtime=@{time}"), "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(directory);
    let mut names: Vec<_> = directory.read_dir()?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    done(command.args(names))
}

pub(crate) fn sha256(file: &Path) -> Result<String> {
    let said = output(Command::new("sha256sum").arg(file)).context("cannot run sha256sum")?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

/// Of the last commit, as seconds since 1970, unless SOURCE_DATE_EPOCH says another.
pub(crate) fn time() -> Result<u64> {
    if let Ok(said) = env::var("SOURCE_DATE_EPOCH") {
        return said.trim().parse().context("SOURCE_DATE_EPOCH is a number of seconds");
    }
    let said =
        git(&["log", "-1", "--format=%ct"]).context("no commit tells the time: set SOURCE_DATE_EPOCH")?;
    said.parse().context("git tells no time")
}

fn revision() -> String {
    git(&["rev-parse", "HEAD"]).unwrap_or_else(|_| "unknown".into())
}

/// What git says, or its own reason not to. Whose clone this is doesn't matter: this program came from it, too.
fn git(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*"]).args(arguments).current_dir(workspace());
    let output = command.output().context("cannot run git")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn done(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}

/// As text within quotes of JSON.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::Command};

    use super::make;
    use crate::{architecture::Architecture::X86_64, process::output};

    /// Nothing of when, where and in which order it was made is in it.
    #[test]
    fn the_same_agent_gives_the_same_image() {
        let directory = env::temp_dir().join(format!("podwitness-image-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let agent = directory.join("agent");
        fs::write(&agent, "not an agent, but a file").unwrap();
        let first = make(&agent, X86_64, &directory.join("first"), 1).unwrap();
        let second = make(&agent, X86_64, &directory.join("second"), 1).unwrap();
        assert_eq!(first.digest, second.digest);
        let same = fs::read(&first.archive).unwrap() == fs::read(&second.archive).unwrap();
        assert!(same, "the archives differ");
        fs::remove_dir_all(directory).unwrap();
    }

    /// Docker's own image store reads `manifest.json` and no index: what that names has to be there, under the same name.
    #[test]
    fn both_kinds_of_stores_find_the_same_image() {
        let directory = env::temp_dir().join(format!("podwitness-stores-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let agent = directory.join("agent");
        fs::write(&agent, "not an agent, but a file").unwrap();
        let image = make(&agent, X86_64, &directory.join("image"), 1).unwrap();
        let of_the_archive = |name: &str| {
            let mut command = Command::new("tar");
            output(command.arg("-xOf").arg(&image.archive).arg(name)).unwrap_or_else(|| panic!("no {name}"))
        };
        let index = of_the_archive("index.json");
        let digest = image.digest.trim_start_matches("sha256:");
        let manifest = of_the_archive(&format!("blobs/sha256/{digest}"));
        let digests: Vec<_> =
            manifest.split("\"digest\":\"sha256:").skip(1).map(|rest| &rest[..64]).collect();
        let [config, layer] = digests[..] else { panic!("{manifest}") };
        let name = concat!("localhost/podwitness:", env!("CARGO_PKG_VERSION"));
        assert!(index.contains(&format!("\"io.containerd.image.name\":\"{name}\"")), "{index}");
        let expected = format!(
            "[{{\"Config\":\"blobs/sha256/{config}\",\"RepoTags\":[\"{name}\"],\"Layers\":[\"blobs/sha256/{layer}\"]}}]"
        );
        assert_eq!(of_the_archive("manifest.json"), expected);
        assert!(of_the_archive(&format!("blobs/sha256/{config}")).contains("\"diff_ids\":[\"sha256:"));
        fs::remove_dir_all(directory).unwrap();
    }
}
