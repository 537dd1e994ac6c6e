//! What the agent is started by where there is no Kubernetes.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use integration_tests::{agent, kernel, require_kernel, wait::unique};
use serde_json::Value;

/// Leaves the test where there are no sources.
macro_rules! require_sources {
    () => {
        if kernel::is_vm() {
            return eprintln!("not run: the emulated machines have no sources");
        }
    };
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn unit() -> String {
    fs::read_to_string(deploy().join("systemd/podwitness.service")).expect("the unit")
}

/// A copy of the agent that everybody may run.
struct Copy(PathBuf);

impl Copy {
    fn make() -> Self {
        let path = env::temp_dir().join(format!("podwitness-{}", unique()));
        fs::copy(agent::binary(), &path).expect("a copy of the agent");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        Self(path)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Users, capabilities and no_new_privs as the unit has systemd set them, set by setpriv(1).
#[test]
fn a_user_of_its_own_with_two_ambient_capabilities_will_do() {
    require_kernel!();
    require_sources!();
    let unit = unit();
    for line in ["DynamicUser=yes", "AmbientCapabilities=CAP_BPF CAP_PERFMON", "NoNewPrivileges=yes"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let copy = Copy::make();
    let two = "-all,+bpf,+perfmon";
    let output = Command::new("setpriv")
        .args(["--reuid", "61184", "--regid", "61184", "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps", two, "--ambient-caps", two, "--bounding-set", two])
        .arg(&copy.0)
        // As root looks them up; a user may not, and from Linux 7.0 on that would matter.
        .args(["doctor", "--sensors-syscalls-hook", "btf"])
        .env_clear()
        .output()
        .expect("setpriv");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches(" active ").count(), agent::SENSORS.len(), "{said}");
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    require_sources!();
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|directory| directory.join("systemd-analyze").exists()) {
        // Nobody installs a systemd for the tests.
        return eprintln!("not run: there is no systemd-analyze here");
    }
    let copy = Copy::make();
    let directory = env::temp_dir().join(format!("podwitness-unit-{}", unique()));
    fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("podwitness.service");
    let text = unit().replace("/usr/local/bin/podwitness", &copy.0.display().to_string());
    fs::write(&file, text).expect("a unit");
    let output = Command::new("systemd-analyze").arg("verify").arg(&file).output().expect("systemd-analyze");
    fs::remove_dir_all(&directory).expect("the directory goes");
    let said = String::from_utf8_lossy(&output.stderr);
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("podwitness.service")).collect();
    assert!(output.status.success() && about_it.is_empty(), "{said}");
}

/// The unit and the profile of containers allow the same system calls.
#[test]
fn the_unit_allows_the_calls_of_the_profile() {
    require_sources!();
    let profile = fs::read_to_string(deploy().join("seccomp.json")).expect("the profile");
    let profile: Value = serde_json::from_str(&profile).expect("JSON");
    // The last group is what runc itself calls.
    let (_, of_the_agent) = profile["syscalls"].as_array().expect("groups").split_last().expect("groups");
    let names: BTreeSet<_> = of_the_agent
        .iter()
        .flat_map(|group| group["names"].as_array().expect("names"))
        .map(|name| name.as_str().expect("text").to_owned())
        .collect();
    let unit = unit();
    let lines = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let allowed: BTreeSet<_> = lines.flat_map(str::split_whitespace).map(str::to_owned).collect();
    assert_eq!(allowed, names);
}

/// Files that the composition shows to its containers are there.
#[test]
fn the_composition_names_files_that_exist() {
    require_sources!();
    let directory = deploy().join("compose");
    let text = fs::read_to_string(directory.join("compose.yaml")).expect("the composition");
    let shown: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- .")?.split(':').next())
        .map(|path| directory.join(format!(".{path}")))
        .collect();
    assert!(shown.len() >= 5, "{shown:?}");
    for path in shown {
        assert!(path.exists(), "{}", path.display());
    }
    assert!(directory.join("../seccomp.json").exists());
}

/// Its Prometheus keeps all that the agent tells, and what the rules and dashboards ask for.
#[test]
fn the_composition_keeps_histograms_of_both_kinds_and_exemplars() {
    require_sources!();
    let read = |file: &str| fs::read_to_string(deploy().join("compose").join(file)).expect("a file of it");
    let composition = read("compose.yaml");
    let features = composition.lines().find_map(|line| line.trim().strip_prefix("- --enable-feature="));
    assert_eq!(features, Some("native-histograms,exemplar-storage"));
    // A command of one's own replaces that of the image.
    for flag in ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"] {
        assert!(composition.lines().any(|line| line.trim() == format!("- {flag}")), "{flag}");
    }
    let scrapes = read("prometheus.yml");
    assert!(scrapes.lines().any(|line| line.trim() == "always_scrape_classic_histograms: true"));
}
