//! What a reader of `/v1/events` asks for.

use thiserror::Error;

use crate::{
    filter::{Field, Filter, ParseError, kind_names},
    identity::Labels,
};

/// Values of one key.
const MAX_VALUES: usize = 32;
/// Fields that are a parameter of their own, besides the labels.
const PLAIN: [&str; 2] = ["kind", "pid"];

/// The parameters of a query, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub filter: Filter,
}

/// Why a query makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    #[error("there is no filter `{key}`")]
    UnknownKey { key: String },
    #[error("there is no kind of event `{value}`")]
    UnknownKind { value: String },
    #[error("`{value}` is no process id")]
    NotAPid { value: String },
    #[error("a value in the list of `{key}` is empty")]
    EmptyValue { key: &'static str },
    #[error("`{key}` has more than {MAX_VALUES} values")]
    TooManyValues { key: &'static str },
    #[error("`{key}` is given more than once")]
    Repeated { key: &'static str },
    #[error("{error}")]
    Filter { text: String, error: ParseError },
}

impl Query {
    /// Reads the pairs of a query string. `filter` is in the filter language. A field of its own, such as `pod`, may
    /// come several times, and its value may be a list with commas: any of them will do. An empty label, as in
    /// `pod=`, wants those that have none.
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, QueryError> {
        let mut filter = None;
        let mut plain: Vec<(&'static str, Vec<String>)> = Vec::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            match key {
                "filter" if filter.is_some() => return Err(QueryError::Repeated { key: "filter" }),
                "filter" => {
                    let parsed = Filter::parse(value);
                    filter = Some(parsed.map_err(|error| QueryError::Filter { text: value.into(), error })?);
                }
                _ => {
                    let Some(name) = plain_keys().find(|name| *name == key) else {
                        return Err(QueryError::UnknownKey { key: key.into() });
                    };
                    let at = plain.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                        plain.push((name, Vec::new()));
                        plain.len() - 1
                    });
                    add(name, value, &mut plain[at].1)?;
                }
            }
        }
        let mut filter = filter.unwrap_or_default();
        for (name, values) in plain {
            filter = filter.and(one_of(name, &values)?);
        }
        Ok(Self { filter })
    }
}

impl QueryError {
    /// The key that is to blame.
    pub fn key(&self) -> &str {
        match self {
            Self::UnknownKey { key } => key,
            Self::UnknownKind { .. } => "kind",
            Self::NotAPid { .. } => "pid",
            Self::EmptyValue { key } | Self::TooManyValues { key } | Self::Repeated { key } => key,
            Self::Filter { .. } => "filter",
        }
    }

    /// What could stand in its place, where that can be listed.
    pub fn allowed(&self) -> Vec<&'static str> {
        match self {
            Self::UnknownKey { .. } => std::iter::once("filter").chain(plain_keys()).collect(),
            Self::UnknownKind { .. } => {
                let mut names: Vec<_> = kind_names().collect();
                names.sort_unstable();
                names
            }
            Self::NotAPid { .. }
            | Self::EmptyValue { .. }
            | Self::TooManyValues { .. }
            | Self::Repeated { .. }
            | Self::Filter { .. } => Vec::new(),
        }
    }
}

fn plain_keys() -> impl Iterator<Item = &'static str> {
    PLAIN.into_iter().chain(Labels::NAMES)
}

fn add(key: &'static str, list: &str, values: &mut Vec<String>) -> Result<(), QueryError> {
    if list.is_empty() && !PLAIN.contains(&key) {
        return bounded_push(key, values, "");
    }
    for value in list.split(',').map(str::trim) {
        match key {
            _ if value.is_empty() => return Err(QueryError::EmptyValue { key }),
            "pid" if value.parse::<u32>().is_err() => {
                return Err(QueryError::NotAPid { value: value.into() });
            }
            _ => bounded_push(key, values, value)?,
        }
    }
    Ok(())
}

fn bounded_push(key: &'static str, values: &mut Vec<String>, value: &str) -> Result<(), QueryError> {
    if values.iter().any(|known| known == value) {
        return Ok(());
    }
    if values.len() >= MAX_VALUES {
        return Err(QueryError::TooManyValues { key });
    }
    values.push(value.into());
    Ok(())
}

fn one_of(key: &'static str, values: &[String]) -> Result<Filter, QueryError> {
    let Some(field) = Field::by_name(key) else {
        return Err(QueryError::UnknownKey { key: key.into() });
    };
    Filter::any_of(field, values.iter().map(String::as_str)).map_err(|_| {
        // Labels are text, and process ids have been tried: only a kind can be refused.
        let is_unknown = |value: &&String| Filter::any_of(field, [value.as_str()]).is_err();
        QueryError::UnknownKind { value: values.iter().find(is_unknown).cloned().unwrap_or_default() }
    })
}

#[cfg(test)]
mod tests;
