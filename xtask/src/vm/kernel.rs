//! The kernels of the matrix: what Debian builds for clouds, each as new as its release has it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::architecture::Architecture;
use crate::debian::{Mirrors, Packages, noted};
use crate::kernel_half::cache;
use crate::steps::{Live, Outcome};

/// The name of the newest kernel, whichever that is.
pub(super) const NEWEST: &str = "newest";

/// Each supported series, and the suites of Debian that it comes from.
const SERIES: [(&str, &[&str]); 4] = [
    ("5.10", &["bullseye-security"]),
    ("6.1", &["bookworm", "bookworm-security"]),
    ("6.12", &["trixie", "trixie-security"]),
    (NEWEST, &["trixie-backports"]),
];

/// What is tested if nothing else is asked for: the oldest, the most common, the newest.
pub(super) const DEFAULT: [&str; 3] = ["5.10", "6.1", NEWEST];

/// Modules that the tests need and these kernels don't have built in: the network namespaces' cables.
const MODULES: [&str; 1] = ["kernel/drivers/net/veth.ko"];

/// A kernel to boot.
#[derive(Clone)]
pub(super) struct Kernel {
    /// As in "6.1.192-2", or "6.1.192-2-arm64" on another architecture than this machine's.
    pub(super) version: String,
    pub(super) architecture: Architecture,
    pub(super) image: PathBuf,
    pub(super) modules: PathBuf,
}

/// A kernel as it was asked for: a name of [`SERIES`], or the series that the newest happens to be of; and behind it
/// the architecture, as in "6.12-arm64", if that isn't this machine's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    name: &'static str,
    suites: &'static [&'static str],
    /// The version has to begin with it.
    series: Option<String>,
    pub(super) architecture: Architecture,
}

impl Wanted {
    pub(super) fn parse(word: &str) -> Result<Self> {
        let (word, architecture) = match word.split_once('-') {
            Some((word, architecture)) => (word, Architecture::parse(architecture)?),
            None => (word, Architecture::host()?),
        };
        if let Some((name, suites)) = SERIES.into_iter().find(|(name, _)| *name == word) {
            return Ok(Self { name, suites, series: None, architecture });
        }
        let (name, suites) = SERIES[SERIES.len() - 1];
        let looks_like_a_series = word.split('.').count() == 2 && word.split('.').all(is_number);
        if !looks_like_a_series {
            let names: Vec<_> = SERIES.iter().map(|(name, _)| *name).collect();
            bail!("`{word}` is no kernel to test on; there are {}", names.join(", "));
        }
        Ok(Self { name, suites, series: Some(word.to_owned()), architecture })
    }

    pub(super) fn name(&self) -> String {
        format!("{}{}", self.series.as_deref().unwrap_or(self.name), self.suffix())
    }

    /// Behind the names of what isn't for this machine's architecture.
    fn suffix(&self) -> String {
        let is_foreign = Architecture::host().ok() != Some(self.architecture);
        if is_foreign { format!("-{}", self.architecture.debian()) } else { String::new() }
    }

    /// Downloads the kernel, unless it is there and was the current one a day ago.
    pub(super) fn ensure(&self, live: &Live) -> Result<(Kernel, Outcome)> {
        let home = home()?;
        let (name, architecture) = (format!("{}{}", self.name, self.suffix()), self.architecture);
        let note = home.join(format!("linux-{name}.current"));
        if let Some(version) = noted(&note)
            && let Some(kernel) = Kernel::unpacked(&home, version.trim(), architecture)
        {
            return Ok((self.checked(kernel)?, Outcome::AlreadyThere));
        }
        let apt = home.join(format!("apt-{name}"));
        let packages = Packages::open(apt, &Mirrors::of_this_machine()?, self.suites, architecture, live)?;
        let version = packages.field(&package(architecture), "Version")? + &self.suffix();
        let kernel = match Kernel::unpacked(&home, &version, architecture) {
            Some(kernel) => kernel,
            None => Kernel::unpack(&packages, &home, &version, architecture, live)?,
        };
        fs::write(&note, &version).with_context(|| format!("cannot write {}", note.display()))?;
        Ok((self.checked(kernel)?, Outcome::Done))
    }

    fn checked(&self, kernel: Kernel) -> Result<Kernel> {
        match &self.series {
            Some(series) if !kernel.version.starts_with(&format!("{series}.")) => {
                bail!("the newest kernel is {} by now, not {series}: call it `{NEWEST}`", kernel.version)
            }
            _ => Ok(kernel),
        }
    }
}

/// Where everything for the test machines is kept.
pub(super) fn home() -> Result<PathBuf> {
    Ok(cache().context("HOME is not set")?.join("vm"))
}

impl Kernel {
    fn unpacked(home: &Path, version: &str, architecture: Architecture) -> Option<Self> {
        let directory = home.join(format!("linux-{version}"));
        let (image, modules) = (directory.join("vmlinuz"), directory.join("modules"));
        image.exists().then(|| Self { version: version.to_owned(), architecture, image, modules })
    }

    /// Keeps of the packages what is needed, a tenth of it.
    fn unpack(
        packages: &Packages,
        home: &Path,
        version: &str,
        architecture: Architecture,
        live: &Live,
    ) -> Result<Self> {
        let whole = home.join(format!(".linux-{}", std::process::id()));
        let lean = home.join(format!(".lean-{}", std::process::id()));
        let unpacked = (|| {
            fs::create_dir_all(lean.join("modules"))?;
            for package in parts(packages, &package(architecture))? {
                packages.unpack(&package, &whole, live)?;
            }
            let image =
                find(&whole, &|name| name.starts_with("vmlinuz")).context("no kernel in its package")?;
            fs::copy(image, lean.join("vmlinuz"))?;
            for module in MODULES {
                let name = module.rsplit('/').next().unwrap_or(module);
                let file = find(&whole, &|found| found.starts_with(name))
                    .with_context(|| format!("the kernel {version} comes without {name}"))?;
                // Compressed or not, as its extension says.
                fs::copy(&file, lean.join("modules").join(file.file_name().unwrap_or_default()))?;
            }
            let directory = home.join(format!("linux-{version}"));
            let _ = fs::remove_dir_all(&directory);
            fs::rename(&lean, &directory).context("cannot move the kernel into the cache")
        })();
        for leftover in [whole, lean] {
            let _ = fs::remove_dir_all(leftover);
        }
        unpacked?;
        Self::unpacked(home, version, architecture).context("the kernel that was just unpacked is gone")
    }
}

/// Depends on the current kernel.
fn package(architecture: Architecture) -> String {
    format!("linux-image-cloud-{}", architecture.debian())
}

/// The packages with the image and the modules: since 6.19 two of them, and the package of old only names them.
fn parts(packages: &Packages, current: &str) -> Result<Vec<String>> {
    let image = dependency(&packages.field(current, "Depends")?, "linux-image-")
        .with_context(|| format!("{current} names no kernel"))?;
    let depends = packages.field(&image, "Depends")?;
    let split: Vec<_> = ["linux-binary-", "linux-modules-"]
        .iter()
        .filter_map(|prefix| dependency(&depends, prefix))
        .collect();
    Ok(if split.is_empty() { vec![image] } else { split })
}

/// The package beginning with `prefix` and a number, out of a list like "a, linux-image-6.1.0-56-cloud-amd64 (= 1)".
fn dependency(depends: &str, prefix: &str) -> Option<String> {
    depends
        .split([',', '|'])
        .filter_map(|one| one.split_whitespace().next())
        .find(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(str::to_owned)
}

fn find(below: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    below.read_dir().ok()?.flatten().find_map(|entry| {
        // Not following links, of which some lead out of the tree.
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            find(&entry.path(), wanted)
        } else {
            (kind.is_file() && wanted(entry.file_name().to_str()?)).then(|| entry.path())
        }
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{NEWEST, Wanted, dependency};
    use crate::architecture::Architecture;

    #[test]
    fn a_kernel_is_named_by_its_series() {
        assert_eq!(Wanted::parse("6.1").unwrap().name(), "6.1");
        assert_eq!(Wanted::parse(NEWEST).unwrap().suites, ["trixie-backports"]);
        let newest = Wanted::parse("7.3").unwrap();
        assert_eq!((newest.name().as_str(), newest.suites), ("7.3", &["trixie-backports"][..]));
        assert_eq!(Wanted::parse("6.12-arm64").unwrap().architecture, Architecture::Aarch64);
        for word in ["6", "six", "6.1.2", "6.", "-v", "6.1-sparc"] {
            assert!(Wanted::parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_dependency_is_told_by_its_number() {
        let depends = "dracut | initramfs-tools (>= 0.1), linux-base-7.3-cloud-amd64, linux-binary-7.3-cloud-amd64 (= 7)";
        assert_eq!(dependency(depends, "linux-binary-").unwrap(), "linux-binary-7.3-cloud-amd64");
        assert_eq!(dependency(depends, "linux-image-"), None);
    }
}
