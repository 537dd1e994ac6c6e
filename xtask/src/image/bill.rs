//! The list of the crates within the agent (SBOM), in CycloneDX' JSON.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use super::escaped;
use crate::process::{cargo, output, workspace};

/// What is compiled into the agent, with versions, licences and the checksums of `Cargo.lock`.
pub(super) fn of_the_agent(date: &str) -> Result<String> {
    let said = output(
        cargo()
            .args(["tree", "--locked", "--package", "podwitness", "--edges", "normal,no-proc-macro"])
            .args(["--prefix", "none", "--format", "{p}|{l}"]),
    );
    let said = said.context("cannot run cargo tree")?;
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let sums = checksums(&lock);
    let mut crates: Vec<_> = said.lines().filter_map(parse).collect();
    crates.sort_unstable();
    crates.dedup();
    let components: Vec<_> = crates.iter().map(|found| component(found, &sums)).collect();
    Ok(format!(
        "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,\"metadata\":{{\"timestamp\":\"{}\",\
         \"component\":{{\"type\":\"application\",\"bom-ref\":\"podwitness\",\"name\":\"podwitness\",\"version\":\"{}\",\
         \"licenses\":[{{\"expression\":\"Apache-2.0\"}}]}}}},\"components\":[\n{}\n]}}\n",
        date,
        env!("CARGO_PKG_VERSION"),
        components.join(",\n")
    ))
}

/// Name, version and licence of a line such as `aya v0.14.0|MIT OR Apache-2.0`, or `x v1.0.0 (/path)|MIT (*)`.
fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((name, version, licence.trim_end_matches(" (*)").trim()))
}

fn component(
    (name, version, licence): &(&str, &str, &str),
    sums: &BTreeMap<(String, String), String>,
) -> String {
    let licence = match licence.replace('/', " OR ") {
        none if none.is_empty() => String::new(),
        one => format!(",\"licenses\":[{{\"expression\":\"{}\"}}]", escaped(&one)),
    };
    let sum = sums.get(&((*name).to_owned(), (*version).to_owned()));
    let sum = sum
        .map_or(String::new(), |sum| format!(",\"hashes\":[{{\"alg\":\"SHA-256\",\"content\":\"{sum}\"}}]"));
    let link = format!("pkg:cargo/{name}@{version}");
    format!(
        "{{\"type\":\"library\",\"bom-ref\":\"{link}\",\"name\":\"{name}\",\"version\":\"{version}\",\"purl\":\"{link}\"\
         {licence}{sum}}}"
    )
}

/// By name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let package = |text: &str| {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(|line| line.trim_matches(['=', ' ', '"']).to_owned())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::{checksums, of_the_agent, parse};

    #[test]
    fn lines_and_locks_are_read() {
        assert_eq!(parse("aya v0.14.0|MIT OR Apache-2.0"), Some(("aya", "0.14.0", "MIT OR Apache-2.0")));
        assert_eq!(parse("a v1.0.0 (/x/y)|MIT (*)"), Some(("a", "1.0.0", "MIT")));
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"12\"\n";
        assert_eq!(checksums(lock)[&("a".to_owned(), "1.0.0".to_owned())], "12");
    }

    #[test]
    fn the_agents_crates_are_listed() {
        let bill = of_the_agent("1970-01-01T00:00:00Z").unwrap();
        for expected in ["pkg:cargo/aya@", "pkg:cargo/tokio@", "\"alg\":\"SHA-256\""] {
            assert!(bill.contains(expected), "no {expected}");
        }
        for unwanted in ["proc-macro", "pkg:cargo/syn@"] {
            assert!(!bill.contains(unwanted), "{unwanted}");
        }
    }
}
