//! Lists of names.

use super::{Field, Invalid, Kind};
use crate::config::model::Config;

/// Names of Kubernetes namespaces with commas between, or a word that stands for no name at all.
pub(in crate::config) struct Namespaces {
    /// What an empty list means: `all`, `none`.
    pub empty: &'static str,
    pub field: Field<Vec<String>>,
}

/// Longest name of a namespace (RFC 1123 label).
const LENGTH_MAX: usize = 63;

impl Kind for Namespaces {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let mut names = Vec::new();
        if text != self.empty {
            for name in text.split(',').map(str::trim) {
                if !is_label(name) {
                    return Err(Invalid::new("has something in it that is no name of a namespace"));
                }
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        names.dedup();
        let shown = if names.is_empty() { self.empty.to_owned() } else { names.join(",") };
        *(self.field)(config) = names;
        Ok(shown)
    }

    fn allowed(&self) -> String {
        format!("{}, or names of namespaces with commas between, such as kube-system,monitoring", self.empty)
    }

    fn placeholder(&self) -> &'static str {
        "NAMES"
    }
}

pub(super) fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LENGTH_MAX).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<(String, Vec<String>), Invalid> {
        let kind = Namespaces { empty: "none", field: |config| &mut config.observe.exclude_namespaces };
        let mut config = Config::default();
        let shown = kind.set(&mut config, text)?;
        Ok((shown, config.observe.exclude_namespaces))
    }

    #[test]
    fn names_come_sorted_and_once() {
        let (shown, names) = set("monitoring, kube-system,monitoring").unwrap();
        assert_eq!(shown, "kube-system,monitoring");
        assert_eq!(names, ["kube-system", "monitoring"]);
        assert_eq!(set("none").unwrap(), ("none".to_owned(), vec![]));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", ",", "Upper", "a b", "-a", "a-", "a,,b", &"x".repeat(64), "a\u{1b}"] {
            assert!(set(text).is_err(), "{text:?}");
        }
    }
}
