//! The types of option values: what is allowed, how it is read, which field it fills.
//!
//! A kind holds the way to its field, so a value can't reach a field of another type.

mod address;
mod calls;
mod cidrs;
mod details;
mod duration;
mod given;
mod modes;
mod names;
mod ratio;
mod size;
mod socket;

pub(super) use address::Address;
pub(super) use calls::{Errnos, SlowCalls};
pub(super) use cidrs::Cidrs;
pub(super) use details::Details;
pub(super) use duration::{Span, parse as parse_duration};
pub(super) use given::{Form, Given};
pub(super) use modes::ModesByNamespace;
pub(super) use names::Namespaces;
pub(super) use ratio::Ratio;
pub(super) use size::Size;
pub(super) use socket::Socket;

use std::fmt::Display;

use super::model::Config;

/// The way to the field that an option fills.
pub(super) type Field<T> = fn(&mut Config) -> &mut T;

/// What the value of an option may be.
pub(super) trait Kind: Sync {
    /// Reads `text` into the field and returns the value in its usual notation; changes nothing when
    /// the value is refused.
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid>;

    /// The allowed values, for people.
    fn allowed(&self) -> String;

    /// What stands for the value in help: `--flag <PLACEHOLDER>`.
    fn placeholder(&self) -> &'static str;

    /// Whether a YAML file gives the value without quotes, because it is a number or a boolean.
    fn is_bare(&self) -> bool {
        false
    }
}

/// Why a value is refused: goes on after the value, as in `"7" is below 16`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid(pub String);

impl Invalid {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// On or off.
pub(super) struct Switch {
    pub field: Field<bool>,
}

impl Kind for Switch {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        *(self.field)(config) = match text {
            "true" => true,
            "false" => false,
            _ => return Err(Invalid::new("is neither true nor false")),
        };
        Ok(text.to_owned())
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn placeholder(&self) -> &'static str {
        "true|false"
    }

    fn is_bare(&self) -> bool {
        true
    }
}

/// A whole number, stored in the integer type `T`.
pub(super) struct Number<T: 'static> {
    pub min: u64,
    pub max: u64,
    pub field: Field<T>,
}

impl<T: TryFrom<u64>> Kind for Number<T> {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let number = digits(text).ok_or_else(|| Invalid::new("is not a whole number"))?;
        let number = within(number, self.min, self.max, u64::to_string)?;
        *(self.field)(config) = narrow(number)?;
        Ok(number.to_string())
    }

    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn placeholder(&self) -> &'static str {
        "NUMBER"
    }

    fn is_bare(&self) -> bool {
        true
    }
}

/// One of a few names.
pub(super) struct Choice<T: 'static> {
    pub names: &'static [(&'static str, T)],
    pub field: Field<T>,
}

impl<T: Copy + Sync> Kind for Choice<T> {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let named = self.names.iter().find(|(name, _)| *name == text);
        let (name, value) = named.ok_or_else(|| Invalid::new("is none of the known names"))?;
        *(self.field)(config) = *value;
        Ok((*name).to_owned())
    }

    fn allowed(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    fn placeholder(&self) -> &'static str {
        "NAME"
    }
}

/// Decimal digits only: no sign, no exponent, no separators. What doesn't fit becomes the largest
/// number, which no range allows: "above the maximum" is the better message then.
pub(super) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

/// `value`, if it lies in the range; `show` writes a bound the way the user would.
fn within<T: PartialOrd, D: Display>(value: T, min: T, max: T, show: fn(&T) -> D) -> Result<T, Invalid> {
    if value < min {
        return Err(Invalid(format!("is below {}", show(&min))));
    }
    if value > max {
        return Err(Invalid(format!("is above {}", show(&max))));
    }
    Ok(value)
}

/// The number in the type of its field. A range that the type can't hold would be a mistake in the
/// table, which a test excludes; it is refused like any other value.
fn narrow<T: TryFrom<u64>>(number: u64) -> Result<T, Invalid> {
    T::try_from(number).map_err(|_| Invalid::new("is too large on this machine"))
}
