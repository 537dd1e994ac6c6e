//! Layer upon layer: defaults, file, environment, flags. Whatever is wrong is collected, not thrown.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::effective::{Effective, EffectiveValue};
use super::error::{ConfigError, ConfigErrors, Origin, Problem};
use super::model::Config;
use super::options::OPTIONS;
use super::spec::OptionSpec;
use super::standard::Reading;
use super::text::nearest;
use super::{check, environment, file, yaml};

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The file, from `--config`.
    pub file: Option<PathBuf>,
    /// Options, and what their flags say.
    pub values: Vec<(&'static OptionSpec, OsString)>,
}

impl Config {
    /// Puts the configuration together from what is built in, a YAML file, the environment (usually
    /// `std::env::vars_os()`) and the command line, each overriding those before it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in any of them, even if another overrides it.
    pub fn load(
        flags: &Flags,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Effective), ConfigErrors> {
        let environment = environment::read(variables);
        let mut loader = Loader::default_values();
        match (&flags.file, &environment.file) {
            (Some(path), _) => loader.file(path, "--config"),
            (None, Some(path)) => loader.file(path, environment::FILE),
            (None, None) => {}
        }
        for (option, reading, name, value) in environment.standard {
            loader.apply_os(option, reading, &value, Origin::Environment(name));
        }
        loader.config.otlp.variables = environment.kept;
        for (option, value) in environment.settings {
            loader.apply_os(option, Reading::AsIs, &value, Origin::Environment(option.env()));
        }
        for name in environment.unknown {
            loader.unknown_variable(name);
        }
        for (option, value) in &flags.values {
            loader.apply_os(option, Reading::AsIs, value, Origin::Flag(option.flag()));
        }
        loader.finish()
    }
}

/// The configuration of a file with this text.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn load_text(text: &str) -> Result<(Config, Effective), ConfigErrors> {
    let mut loader = Loader::default_values();
    loader.text(&Path::new("podwitness.yaml").into(), text);
    loader.finish()
}

struct Loader {
    config: Config,
    /// One per option, in the order of the table.
    values: Vec<EffectiveValue>,
    errors: Vec<ConfigError>,
    /// Options of which some value was refused: what is in force for them isn't what the user wants.
    refused: HashSet<&'static str>,
}

impl Loader {
    fn default_values() -> Self {
        let values = OPTIONS.iter().map(EffectiveValue::default_of).collect();
        let (errors, refused) = (Vec::new(), HashSet::new());
        Self { config: Config::default(), values, errors, refused }
    }

    /// Applies the file at `path`; `named_by` said that it is there.
    fn file(&mut self, path: &Path, named_by: &str) {
        let path: Arc<Path> = path.into();
        let origin = |line| Origin::File { path: path.clone(), line };
        let text = match file::read(&path) {
            Ok(text) => text,
            Err((line, why)) => {
                let problem = Problem::File(format!("{why} (the file is named by {named_by})"));
                return self.report(String::new(), origin(line), problem);
            }
        };
        self.text(&path, &text);
    }

    /// Applies what the file at `path` says.
    fn text(&mut self, path: &Arc<Path>, text: &str) {
        let origin = |line| Origin::File { path: Arc::clone(path), line };
        let document = yaml::read(text);
        for (key, line, problem) in document.errors {
            self.report(key, origin(Some(line)), problem);
        }
        for yaml::Setting { option, value, quoted, line } in document.settings {
            if quoted && option.is_bare() {
                let why = "is text; leave the quotes out";
                self.refuse(option, Reading::AsIs, value, why.to_owned(), origin(Some(line)));
            } else {
                self.apply(option, Reading::AsIs, &value, origin(Some(line)));
            }
        }
        // Found in two passes, but read from top to bottom.
        self.errors.sort_by_key(|error| match error.origin {
            Origin::File { line, .. } => line,
            _ => None,
        });
    }

    fn apply_os(&mut self, option: &'static OptionSpec, reading: Reading, value: &OsStr, origin: Origin) {
        match value.to_str() {
            Some(value) => self.apply(option, reading, value, origin),
            None => {
                let value = value.to_string_lossy().into_owned();
                self.refuse(option, reading, value, "isn't UTF-8 text".to_owned(), origin);
            }
        }
    }

    fn apply(&mut self, option: &'static OptionSpec, reading: Reading, value: &str, origin: Origin) {
        match reading.text(value).and_then(|text| option.set(&mut self.config, &text)) {
            Ok(text) => {
                let place = self.values.iter_mut().find(|value| value.option == option);
                if let Some(place) = place {
                    *place = EffectiveValue { option, text, origin };
                }
            }
            Err(invalid) => self.refuse(option, reading, value.to_owned(), invalid.0, origin),
        }
    }

    fn refuse(
        &mut self,
        option: &'static OptionSpec,
        reading: Reading,
        value: String,
        why: String,
        origin: Origin,
    ) {
        self.refused.insert(option.key);
        let problem = Problem::Refused { value, why, allowed: reading.allowed(option) };
        self.report(option.key.to_owned(), origin, problem);
    }

    fn unknown_variable(&mut self, name: String) {
        let nearest = nearest(&name, OPTIONS.iter().map(OptionSpec::env));
        let origin = Origin::Environment(name.clone());
        self.report(name, origin, Problem::Unknown { what: "variable", nearest });
    }

    fn report(&mut self, key: String, origin: Origin, problem: Problem) {
        self.errors.push(ConfigError { key, origin, problem });
    }

    fn finish(mut self) -> Result<(Config, Effective), ConfigErrors> {
        for check::Conflict { key, other, why } in check::conflicts(&self.config) {
            let find = |key| self.values.iter().find(|value| value.option.key == key).cloned();
            let (Some(value), Some(other)) = (find(key), find(other)) else {
                continue;
            };
            if self.refused.contains(key) || self.refused.contains(other.option.key) {
                continue;
            }
            let problem = Problem::Conflict {
                value: value.text,
                why,
                other: other.option.key,
                other_value: other.text,
                other_origin: other.origin,
            };
            self.report(key.to_owned(), value.origin, problem);
        }
        if self.errors.is_empty() {
            Ok((self.config, Effective { values: self.values }))
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}
