//! `cargo xtask tidy`: the house rules a compiler does not know.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process::workspace;

const LONGEST_FILE: usize = 600;

/// A sensor is one name in each of these: the hooks, what the agent makes of them, the contract
/// between both, and the proof on a live kernel.
const HOOKS: &str = "agent-ebpf/src/sensor";
const SENSORS: &str = "agent/src/sensor";
const CONTRACTS: &str = "agent-ebpf/src/contract";
const PROOFS: &str = "tests/tests";

/// Where the keyword `unsafe` may stand.
const MAY_BE_UNSAFE: [&str; 5] = ["agent-ebpf", "agent/src/kernel", "bench", "tests", "xtask"];

/// Makes the fuzzer's versions those of the agent.
const UPDATE: &str = "cp Cargo.lock fuzz/ && cargo update --workspace --manifest-path fuzz/Cargo.toml";

const NO_SOURCE: [&str; 2] = ["target", ".git"];

pub(crate) fn run() -> Result<()> {
    let house = House { root: workspace() };
    let broken = house.broken_rules()?;
    if broken.is_empty() {
        eprintln!("tidy: all house rules are kept");
        return Ok(());
    }
    bail!("house rules are broken:\n  {}", broken.join("\n  "));
}

struct House {
    root: PathBuf,
}

impl House {
    fn broken_rules(&self) -> Result<Vec<String>> {
        let mut broken = self.sensors_without_a_part()?;
        broken.extend(self.other_versions_for_the_fuzzer()?);
        for file in self.sources()? {
            let path = self.root.join(&file);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            broken.extend(too_long(&file, &text));
            broken.extend(unsafe_outside_its_places(&file, &text));
        }
        Ok(broken)
    }

    /// Contracts and proofs have other files too: a file there alone is no sensor.
    fn sensors_without_a_part(&self) -> Result<Vec<String>> {
        let (hooks, sensors) = (self.names(HOOKS)?, self.names(SENSORS)?);
        let (contracts, proofs) = (self.names(CONTRACTS)?, self.names(PROOFS)?);
        let parts = [(HOOKS, &hooks), (SENSORS, &sensors), (CONTRACTS, &contracts), (PROOFS, &proofs)];
        let mut missing = Vec::new();
        for sensor in hooks.union(&sensors) {
            for (directory, _) in parts.iter().filter(|(_, names)| !names.contains(sensor)) {
                missing.push(format!("sensor `{sensor}` has no {directory}/{sensor}.rs"));
            }
        }
        Ok(missing)
    }

    /// The fuzzer has to run what the agent runs.
    fn other_versions_for_the_fuzzer(&self) -> Result<Vec<String>> {
        let [ours, its] = ["Cargo.lock", "fuzz/Cargo.lock"].map(|file| self.root.join(file));
        if !its.exists() {
            return Ok(Vec::new());
        }
        let read = |path: &Path| -> Result<BTreeSet<(String, String)>> {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(locked(&text))
        };
        let (ours, its) = (read(&ours)?, read(&its)?);
        // libFuzzer's own dependencies may bring another version beside the agent's.
        let has_any_of = |name: &str| {
            let mut versions = its.iter().filter(|(one, _)| one == name);
            versions.any(|package| ours.contains(package))
        };
        let is_other =
            |(name, _): &&(String, String)| ours.iter().any(|(one, _)| one == name) && !has_any_of(name);
        let complain = |(name, version): &(String, String)| {
            format!("fuzz/Cargo.lock has {name} {version}, Cargo.lock has not: {UPDATE}")
        };
        Ok(its.iter().filter(is_other).map(complain).collect())
    }

    /// The modules of a directory, as `tcp` for both `tcp.rs` and `tcp/`.
    fn names(&self, directory: &str) -> Result<BTreeSet<String>> {
        let directory = self.root.join(directory);
        if !directory.exists() {
            return Ok(BTreeSet::new());
        }
        let mut names = BTreeSet::new();
        for path in entries(&directory)? {
            let is_module = path.extension().is_some_and(|extension| extension == "rs")
                || path.join("mod.rs").exists()
                || path.join("main.rs").exists();
            if let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
                && is_module
                && name != "mod"
            {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// All Rust files, relative to the root.
    fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut sources = Vec::new();
        let mut directories = vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for path in entries(&directory)? {
                let name = path.file_name().unwrap_or_default();
                if path.is_dir() && !NO_SOURCE.iter().any(|skipped| name == *skipped) {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    sources.push(path.strip_prefix(&self.root)?.to_owned());
                }
            }
        }
        sources.sort();
        Ok(sources)
    }
}

/// Names and versions of the packages in a lock file.
fn locked(text: &str) -> BTreeSet<(String, String)> {
    let value = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(value.trim_end_matches('"').to_owned())
    };
    let names = text.lines().filter_map(|line| value(line, "name"));
    // The number of the file's own format isn't quoted.
    names.zip(text.lines().filter_map(|line| value(line, "version"))).collect()
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", directory.display());
    let entries = directory.read_dir().with_context(cannot)?;
    entries.map(|entry| Ok(entry.with_context(cannot)?.path())).collect()
}

fn too_long(file: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LONGEST_FILE).then(|| format!("{} has {lines} lines, more than {LONGEST_FILE}", file.display()))
}

fn unsafe_outside_its_places(file: &Path, text: &str) -> Vec<String> {
    if MAY_BE_UNSAFE.iter().any(|place| file.starts_with(place)) {
        return Vec::new();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| has_keyword_unsafe(line));
    lines.map(|(at, _)| format!("{}:{} uses `unsafe`", file.display(), at + 1)).collect()
}

/// As a word of code: `forbid(unsafe_code)`, comments and strings on the same line don't count.
fn has_keyword_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let outside_of_strings: String = code.split('"').step_by(2).collect();
    outside_of_strings.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files that lives as long as its test.
    struct Tree(House);

    impl Tree {
        fn new(test: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("tidy-{test}-{}", std::process::id()));
            for (file, text) in files {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Self(House { root })
        }

        fn broken(&self) -> Vec<String> {
            self.0.broken_rules().unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.root);
        }
    }

    #[test]
    fn a_sensor_with_all_its_parts_is_in_order() {
        let files = [
            ("agent-ebpf/src/sensor/mod.rs", ""),
            ("agent-ebpf/src/sensor/tcp.rs", ""),
            ("agent-ebpf/src/contract/tcp.rs", ""),
            ("agent-ebpf/src/contract/head.rs", ""),
            ("agent/src/sensor/tcp/mod.rs", ""),
            ("tests/tests/tcp.rs", ""),
            ("tests/tests/cli.rs", ""),
        ];
        assert_eq!(Tree::new("complete", &files).broken(), [""; 0]);
    }

    #[test]
    fn a_missing_part_is_named() {
        let files = [
            ("agent-ebpf/src/sensor/tcp.rs", ""),
            ("agent-ebpf/src/contract/tcp.rs", ""),
            ("agent/src/sensor/dns.rs", ""),
            ("tests/tests/dns.rs", ""),
        ];
        let expected = [
            "sensor `dns` has no agent-ebpf/src/sensor/dns.rs",
            "sensor `dns` has no agent-ebpf/src/contract/dns.rs",
            "sensor `tcp` has no agent/src/sensor/tcp.rs",
            "sensor `tcp` has no tests/tests/tcp.rs",
        ];
        assert_eq!(Tree::new("missing", &files).broken(), expected);
    }

    #[test]
    fn the_fuzzer_runs_the_agents_versions() {
        let lock = |packages: &[(&str, &str)]| {
            let package = |(name, version): &(&str, &str)| {
                format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n")
            };
            format!("version = 4\n{}", packages.iter().map(package).collect::<String>())
        };
        let ours = lock(&[("a", "1.0.0"), ("b", "1.0.0"), ("b", "2.0.0")]);
        let its = lock(&[("a", "1.0.1"), ("b", "2.0.0"), ("libfuzzer-sys", "0.4.0")]);
        let files = [("Cargo.lock", ours.as_str()), ("fuzz/Cargo.lock", &its)];
        let expected = format!("fuzz/Cargo.lock has a 1.0.1, Cargo.lock has not: {UPDATE}");
        assert_eq!(Tree::new("lock", &files).broken(), [expected]);
    }

    #[test]
    fn long_files_are_found_but_not_in_target() {
        let long = "\n".repeat(LONGEST_FILE + 1);
        let files =
            [("agent/src/a.rs", long.as_str()), ("target/debug/b.rs", &long), ("agent/src/c.md", &long)];
        assert_eq!(Tree::new("long", &files).broken(), ["agent/src/a.rs has 601 lines, more than 600"]);
    }

    #[test]
    fn unsafe_code_stays_in_its_places() {
        let code = "fn f() {\n    unsafe { g() }\n}\n";
        let files = [("agent/src/kernel/map.rs", code), ("agent/src/app.rs", code)];
        assert_eq!(Tree::new("unsafe", &files).broken(), ["agent/src/app.rs:2 uses `unsafe`"]);
    }

    #[test]
    fn only_the_keyword_counts() {
        assert!(has_keyword_unsafe("let x = \"a\"; unsafe { f() }"));
        for line in ["#![forbid(unsafe_code)]", "// unsafe", "print(\"unsafe\")", "fn unsafely() {}"] {
            assert!(!has_keyword_unsafe(line), "{line}");
        }
    }
}
