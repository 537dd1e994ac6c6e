//! The certificates of the authorities that this machine trusts, for collectors that are reached by https.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Where Debian and its kin, Fedora and its kin, and SUSE keep them in one file.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// The first place where the agent looks.
const IN_THE_IMAGE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Puts them into the tree of the image.
pub(super) fn put(root: &Path) -> Result<()> {
    let named = env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let candidates: Vec<_> = named.map_or_else(|| BUNDLES.map(PathBuf::from).into(), |named| vec![named]);
    copy(&candidates, &root.join(IN_THE_IMAGE))
}

fn copy(candidates: &[PathBuf], to: &Path) -> Result<()> {
    let Some(bundle) = candidates.iter().find(|candidate| candidate.is_file()) else {
        bail!(
            "no certificates of authorities for the image at {}: install ca-certificates, or name a file by SSL_CERT_FILE",
            candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    };
    let text = fs::read(bundle).with_context(|| format!("cannot read {}", bundle.display()))?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    if !text.windows(begin.len()).any(|window| window == begin) {
        bail!("{} has no certificate in it: install ca-certificates anew", bundle.display());
    }
    let directory = to.parent().context("a file lies in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::copy;

    #[test]
    fn a_bundle_is_copied_and_its_lack_is_told() {
        let directory = env::temp_dir().join(format!("podwitness-authorities-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [missing, empty, bundle, to] =
            ["missing", "empty", "bundle", "a/b"].map(|name| directory.join(name));
        fs::write(&empty, "").unwrap();
        fs::write(&bundle, "# one\n-----BEGIN CERTIFICATE-----\n").unwrap();
        let told = copy(std::slice::from_ref(&missing), &to).unwrap_err().to_string();
        assert!(told.contains("missing: install ca-certificates"), "{told}");
        let told = copy(&[missing.clone(), empty], &to).unwrap_err().to_string();
        assert!(told.contains("has no certificate"), "{told}");
        copy(&[missing, bundle.clone()], &to).unwrap();
        assert_eq!(fs::read(bundle).unwrap(), fs::read(to).unwrap());
        fs::remove_dir_all(directory).unwrap();
    }
}
