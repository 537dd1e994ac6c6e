//! An OCI archive with busybox in it, and nothing else. As a sandbox image its entry point waits.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::IMAGE;

/// Makes the archive in `directory`.
pub(super) fn build(directory: &Path, busybox: &Path) -> PathBuf {
    let (tree, layout) = (directory.join("image"), directory.join("layout"));
    let blobs = layout.join("blobs/sha256");
    for made in [tree.join("bin"), tree.join("etc"), tree.join("tmp"), blobs.clone()] {
        fs::create_dir_all(made).expect("a directory for the image");
    }
    fs::copy(busybox, tree.join("bin/busybox")).expect("busybox");
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/busybox\n").expect("passwd");
    fs::write(tree.join("etc/group"), "root:x:0:\n").expect("group");
    let layer = directory.join("layer.tar");
    tar(&tree, &layer);

    let blob = |bytes: &[u8], kind: &str| -> Value {
        let file = directory.join("blob");
        fs::write(&file, bytes).expect("a blob");
        let digest = sha256(&file);
        fs::rename(&file, blobs.join(&digest)).expect("a blob");
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layer = blob(&fs::read(layer).expect("the layer"), "application/vnd.oci.image.layer.v1.tar");
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox", "sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let mut manifest = blob(manifest.to_string().as_bytes(), kind);
    manifest["annotations"] =
        json!({"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).expect("index.json");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("oci-layout");
    let archive = directory.join("image.tar");
    tar(&layout, &archive);
    archive
}

fn tar(tree: &Path, archive: &Path) {
    let status = Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(tree).arg(".").status();
    assert!(status.expect("tar").success(), "tar of {}", tree.display());
}

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}
