//! What a reader of `/v1/events` asks for.

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::{
    EventId, Start,
    parameters::{MAX_VALUES, PLAIN, fields, parameters},
};
use crate::filter::{Field, Filter, ParseError, SYSCALL, kind_names};

/// Stands for every system call.
const ALL: &str = "all";

/// The parameters of a query, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub filter: Filter,
    /// Whether the paths in the arguments of system calls are wanted, too.
    pub paths: bool,
    pub start: Start,
    /// The stream ends after so many events.
    pub limit: Option<u64>,
    /// Whatever the reader's program accepts, if it doesn't say.
    pub format: Option<Format>,
}

/// What a stream looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object on each line.
    Ndjson,
    /// Server-sent events, for browsers.
    Sse,
}

/// Why a query makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    #[error("there is no filter `{key}`")]
    UnknownKey { key: String },
    #[error("there is no kind of event `{value}`")]
    UnknownKind { value: String },
    #[error("there is no system call `{value}`")]
    UnknownSyscall { value: String },
    #[error("`{key}` is true or false, not `{value}`")]
    NotASwitch { key: &'static str, value: String },
    #[error("`{value}` is no process id")]
    NotAPid { value: String },
    #[error("a value in the list of `{key}` is empty")]
    EmptyValue { key: &'static str },
    #[error("`{key}` has more than {MAX_VALUES} values")]
    TooManyValues { key: &'static str },
    #[error("`{value}` is no time, such as 2026-01-31T12:00:00Z, and no duration before now, such as 30s")]
    NotATime { value: String },
    #[error("`{value}` is no id of an event")]
    NotAnId { value: String },
    #[error("`{value}` is no number of events from 1 on")]
    NotANumber { value: String },
    #[error("there is no format `{value}`")]
    UnknownFormat { value: String },
    #[error("`after` and `since` both say where to begin")]
    TwoStarts,
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
        now: Timestamp,
    ) -> Result<Self, QueryError> {
        let mut filter = None;
        let (mut start, mut limit, mut format, mut paths) = (None, None, None, None);
        let mut plain: Vec<(&'static str, Vec<String>)> = Vec::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            match key {
                "filter" if filter.is_some() => return Err(QueryError::Repeated { key: "filter" }),
                "filter" => {
                    let parsed = Filter::parse(value);
                    filter = Some(parsed.map_err(|error| QueryError::Filter { text: value.into(), error })?);
                }
                "paths" => once(&mut paths, "paths", switch("paths", value)?)?,
                "since" => once(&mut start, "since", Start::Since(time(value, now)?))?,
                "after" => once(&mut start, "after", Start::After(id(value)?))?,
                "limit" => {
                    let number = value.parse().ok().filter(|limit| *limit > 0);
                    let number = number.ok_or_else(|| QueryError::NotANumber { value: value.into() })?;
                    once(&mut limit, "limit", number)?;
                }
                "format" => once(&mut format, "format", Format::named(value)?)?,
                _ => {
                    let Some(name) = fields().map(|field| field.name).find(|name| *name == key) else {
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
        Ok(Self { filter, paths: paths.unwrap_or_default(), start: start.unwrap_or_default(), limit, format })
    }
}

impl QueryError {
    /// The key that is to blame.
    pub fn key(&self) -> &str {
        match self {
            Self::UnknownKey { key } => key,
            Self::UnknownKind { .. } => "kind",
            Self::UnknownSyscall { .. } => SYSCALL,
            Self::NotASwitch { key, .. } => key,
            Self::NotAPid { .. } => "pid",
            Self::NotATime { .. } | Self::TwoStarts => "since",
            Self::NotAnId { .. } => "after",
            Self::NotANumber { .. } => "limit",
            Self::UnknownFormat { .. } => "format",
            Self::EmptyValue { key } | Self::TooManyValues { key } | Self::Repeated { key } => key,
            Self::Filter { .. } => "filter",
        }
    }

    /// What could stand in its place, where that can be listed.
    pub fn allowed(&self) -> Vec<&'static str> {
        match self {
            Self::UnknownKey { .. } => parameters().map(|parameter| parameter.name).collect(),
            Self::NotASwitch { .. } => vec!["true", "false"],
            Self::UnknownFormat { .. } => vec!["ndjson", "sse"],
            Self::UnknownKind { .. } => {
                let mut names: Vec<_> = kind_names().collect();
                names.sort_unstable();
                names
            }
            Self::UnknownSyscall { .. }
            | Self::NotAPid { .. }
            | Self::NotATime { .. }
            | Self::NotAnId { .. }
            | Self::NotANumber { .. }
            | Self::TwoStarts
            | Self::EmptyValue { .. }
            | Self::TooManyValues { .. }
            | Self::Repeated { .. }
            | Self::Filter { .. } => Vec::new(),
        }
    }
}

impl Format {
    fn named(name: &str) -> Result<Self, QueryError> {
        match name {
            "ndjson" => Ok(Self::Ndjson),
            "sse" => Ok(Self::Sse),
            _ => Err(QueryError::UnknownFormat { value: name.into() }),
        }
    }
}

fn once<T>(place: &mut Option<T>, key: &'static str, value: T) -> Result<(), QueryError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) if matches!(key, "since" | "after") => Err(QueryError::TwoStarts),
        Some(_) => Err(QueryError::Repeated { key }),
    }
}

fn switch(key: &'static str, value: &str) -> Result<bool, QueryError> {
    value.parse().map_err(|_| QueryError::NotASwitch { key, value: value.into() })
}

fn time(value: &str, now: Timestamp) -> Result<Timestamp, QueryError> {
    let before = || now.checked_sub(value.parse::<SignedDuration>().ok()?.unsigned_abs()).ok();
    let time = value.parse().ok().or_else(before);
    time.ok_or_else(|| QueryError::NotATime { value: value.into() })
}

fn id(value: &str) -> Result<EventId, QueryError> {
    value.parse().map_err(|_| QueryError::NotAnId { value: value.into() })
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
    let is_all = key == SYSCALL && values.iter().any(|value| value == ALL);
    let values = values.iter().map(String::as_str).filter(|value| key != SYSCALL || *value != ALL);
    let filter = Filter::any_of(field, values.clone()).map_err(|_| {
        // Labels are text, and process ids have been tried: only a kind or a call can be refused.
        let is_unknown = |value: &&str| Filter::any_of(field, [*value]).is_err();
        let value = values.clone().find(is_unknown).unwrap_or_default().to_owned();
        if key == SYSCALL { QueryError::UnknownSyscall { value } } else { QueryError::UnknownKind { value } }
    })?;
    Ok(if is_all { Filter::any_call() } else { filter })
}

#[cfg(test)]
mod tests;
