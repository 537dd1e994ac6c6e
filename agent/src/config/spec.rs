//! What an option is: the columns of the table, and the names that follow from its key.

use std::fmt;

use super::kind::{Invalid, Kind};
use super::model::Config;

/// One option; two are equal if their keys are.
pub struct OptionSpec {
    /// Section and name, as in the file: `metrics.listen`.
    pub key: &'static str,
    /// What holds when nothing is said, as text.
    pub default: &'static str,
    /// What it means and in which unit, in one paragraph.
    pub doc: &'static str,
    /// What it may be, and the field that it fills.
    pub(super) kind: &'static dyn Kind,
}

impl OptionSpec {
    /// `metrics` of `metrics.listen`.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// `listen` of `metrics.listen`.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The environment variable: `PODWITNESS_METRICS_LISTEN`.
    pub fn env(&self) -> String {
        format!("PODWITNESS_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The flag without its dashes: `metrics-listen`.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The allowed values, for people.
    pub fn allowed(&self) -> String {
        self.kind.allowed()
    }

    /// What stands for the value in help.
    pub fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    /// Whether a YAML file gives the value without quotes.
    pub(super) fn is_bare(&self) -> bool {
        self.kind.is_bare()
    }

    /// Reads `text` into `config` and returns the value in its usual notation.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        self.kind.set(config, text)
    }
}

impl PartialEq for OptionSpec {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for OptionSpec {}

impl fmt::Debug for OptionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)
    }
}
