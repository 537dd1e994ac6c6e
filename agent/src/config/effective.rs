//! `podwitness config`: what is in force and who said so, as YAML that can be given back.

use std::fmt;

use super::error::Origin;
use super::options::sections;
use super::spec::OptionSpec;
use super::text::wrap;
use super::yaml::reads_as_nothing;

/// Where comments end.
const WIDTH: usize = 96;

/// The value of every option, and where it comes from. Its text is a YAML file that says the same.
#[derive(Debug, Clone)]
pub struct Effective {
    /// In the order of the table.
    pub(super) values: Vec<EffectiveValue>,
}

/// The value of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveValue {
    /// Whose value.
    pub option: &'static OptionSpec,
    /// In its usual notation.
    pub text: String,
    /// Who said so.
    pub origin: Origin,
}

impl Effective {
    /// The values that somebody chose: good for one line in the log.
    pub fn chosen(&self) -> impl Iterator<Item = &EffectiveValue> {
        self.values.iter().filter(|value| value.origin != Origin::Default)
    }
}

impl EffectiveValue {
    pub(super) fn default_of(option: &'static OptionSpec) -> Self {
        Self { option, text: option.default.to_owned(), origin: Origin::Default }
    }

    /// The value as YAML. Anything that isn't letters and digits gets quotes, which is always right for text; so
    /// does what reads as nothing at all, such as a namespace of the name `null`.
    fn yaml(&self) -> String {
        let is_word = self.text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_plain = is_word || self.option.is_bare();
        if is_plain && !reads_as_nothing(&self.text) {
            self.text.clone()
        } else {
            format!("\"{}\"", self.text.chars().map(escaped).collect::<String>())
        }
    }
}

/// As YAML wants it in double quotes, which is not quite as Rust has it.
fn escaped(character: char) -> String {
    match character {
        '"' | '\\' => format!("\\{character}"),
        ' '..='~' => character.into(),
        _ => format!("\\U{:08x}", u32::from(character)),
    }
}

impl fmt::Display for EffectiveValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (from {})", self.option.key, self.text, self.origin)
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The configuration of podwitness {} in force.", env!("CARGO_PKG_VERSION"))?;
        let mut values = self.values.iter();
        for options in sections() {
            writeln!(f, "\n{}:", options[0].section())?;
            for value in values.by_ref().take(options.len()) {
                write_value(f, value)?;
            }
        }
        Ok(())
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &EffectiveValue) -> fmt::Result {
    let option = value.option;
    comment(f, option.doc)?;
    comment(f, &format!("Allowed: {}. Default: {}.", option.allowed(), option.default))?;
    if value.origin != Origin::Default {
        comment(f, &format!("From {}.", value.origin))?;
    }
    writeln!(f, "  {}: {}", option.name(), value.yaml())
}

fn comment(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    wrap(text, WIDTH).iter().try_for_each(|line| writeln!(f, "  # {line}"))
}
