//! What is wrong with a configuration, said so that it can be put right at once.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::text::{escaped, quoted};

/// More of them help nobody.
pub(super) const SHOWN: usize = 50;

/// Everything that is wrong, never empty. Its text has several lines and ends in what to do next.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(f, "the configuration has {count} error{}:", if count == 1 { "" } else { "s" })?;
        for error in self.0.iter().take(SHOWN) {
            writeln!(f, "\n{error}")?;
        }
        if count > SHOWN {
            writeln!(f, "\n  and {} more", count - SHOWN)?;
        }
        write!(f, "\n`podwitness config --help` lists every option with its allowed values.")
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The option, or the unknown key as it was given; empty if the whole file is meant.
    pub key: String,
    /// Where it was said.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, problem } = self;
        if key.is_empty() {
            return write!(f, "  {origin}: {problem}");
        }
        write!(f, "  {}: {problem}\n    from {origin}", escaped(key))?;
        match problem {
            Problem::Refused { allowed, .. } | Problem::NotOneValue { allowed, .. } => {
                write!(f, "\n    allowed: {allowed}")
            }
            _ => Ok(()),
        }
    }
}

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is built in.
    Default,
    /// The file, and the line if one line can be named.
    File {
        /// As it was given.
        path: Arc<Path>,
        /// Counted from 1.
        line: Option<usize>,
    },
    /// The environment variable of that name.
    Environment(String),
    /// The flag of that name, without its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", escaped(&path.to_string_lossy())),
            Self::File { path, line: None } => f.write_str(&escaped(&path.to_string_lossy())),
            Self::Environment(name) => write!(f, "the environment variable {}", escaped(name)),
            Self::Flag(name) => write!(f, "the flag --{name}"),
        }
    }
}

/// What may be wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value that the option doesn't allow.
    #[error("{} {why}", quoted(value))]
    Refused {
        /// As it was given.
        value: String,
        /// Goes on after the value.
        why: String,
        /// What would be accepted.
        allowed: String,
    },
    /// A list, a mapping, nothing, a reference to another value.
    #[error("{found} stands where one value is expected{hint}")]
    NotOneValue {
        /// What stands there.
        found: &'static str,
        /// How that may have come about.
        hint: &'static str,
        /// What would be accepted.
        allowed: String,
    },
    /// A value where a section is expected.
    #[error("{found} stands where a section is expected; it holds {names}")]
    NotASection {
        /// What stands there.
        found: &'static str,
        /// The keys of the section.
        names: String,
    },
    /// A key of the file, or a variable of the environment, that means nothing.
    #[error("unknown {what}{}", suggest(nearest.as_deref()))]
    Unknown {
        /// Key or variable.
        what: &'static str,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A key that isn't text.
    #[error("{found} stands where a key is expected")]
    NotAKey {
        /// What stands there.
        found: &'static str,
    },
    /// A key given twice in the file.
    #[error("given twice, before in line {first}")]
    Duplicate {
        /// Where it was given first.
        first: usize,
    },
    /// A value that doesn't go together with another.
    #[error("{value} {why} {other} = {other_value} (from {other_origin})")]
    Conflict {
        /// The value.
        value: String,
        /// Stands between the two values.
        why: &'static str,
        /// The other option.
        other: &'static str,
        /// Its value.
        other_value: String,
        /// Where that was said.
        other_origin: Origin,
    },
    /// A file that can't be read, or isn't YAML.
    #[error("{0}")]
    File(String),
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(", did you mean {nearest}?")).unwrap_or_default()
}
