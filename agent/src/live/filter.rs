//! Which events a reader wants.

use agent_ebpf::contract::{
    calls::{CallSet, insert},
    event::EventKind,
};
use thiserror::Error;

use super::Demand;
use crate::{
    identity::Labels,
    observation::{Detail, Observation},
    sensor::syscalls::number,
};

/// Values of one key: a filter is judged on the thread that reads the kernel's rings, for every event.
const MAX_VALUES: usize = 32;
/// Stands for every system call.
const ALL: &str = "all";

/// A conjunction over keys of a choice of values each; a key that isn't named admits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    kinds: Vec<EventKind>,
    /// In the order of [`Labels::NAMES`].
    labels: [Vec<String>; Labels::NAMES.len()],
    pids: Vec<u32>,
    /// System calls; none are wanted one by one that aren't named.
    calls: Option<CallSet>,
    /// Whether the paths in their arguments are wanted.
    paths: bool,
}

/// Why a query makes no filter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
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
}

impl Filter {
    /// Makes a filter of key-value pairs as in a query string. A key may come several times, and a value may be a
    /// list with commas: any of them will do. An empty label, as in `pod=`, wants those that have none.
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (key, list) in pairs {
            filter.add(key.as_ref(), list.as_ref())?;
        }
        Ok(filter)
    }

    /// Whether the reader wants this event.
    pub fn matches(&self, observation: &Observation) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&observation.kind);
        let pid = self.pids.is_empty()
            || observation.process.as_ref().is_some_and(|process| self.pids.contains(&process.pid));
        kind && pid
            && self.matches_call(observation)
            && std::iter::zip(&self.labels, observation.labels.values())
                .all(|(wanted, label)| wanted.is_empty() || wanted.iter().any(|value| value == label))
    }

    /// What the kernel has to watch for this reader's sake.
    pub fn demand(&self) -> Option<Demand> {
        let is_wanted = self.kinds.is_empty() || self.kinds.contains(&EventKind::SyscallCall);
        let calls = self.calls.filter(|_| is_wanted)?;
        Some(Demand { calls, paths: self.paths, labels: self.labels.clone() })
    }

    fn matches_call(&self, observation: &Observation) -> bool {
        match (&self.calls, &observation.detail) {
            (Some(calls), Detail::Call(call)) => {
                calls.get(call.number as usize / 64).is_some_and(|word| word >> (call.number % 64) & 1 != 0)
            }
            (Some(_), _) => false,
            // Others have asked for it.
            (None, _) => observation.kind != EventKind::SyscallCall,
        }
    }

    fn add(&mut self, key: &str, list: &str) -> Result<(), FilterError> {
        match key {
            "kind" => {
                for value in values("kind", list)? {
                    for kind in kinds(value)? {
                        if !self.kinds.contains(&kind) {
                            self.kinds.push(kind);
                        }
                    }
                }
                Ok(())
            }
            "syscall" => {
                let calls = self.calls.get_or_insert_default();
                for value in values("syscall", list)? {
                    if value == ALL {
                        *calls = [u64::MAX; _];
                        continue;
                    }
                    let number =
                        number(value).ok_or_else(|| FilterError::UnknownSyscall { value: value.into() })?;
                    insert(calls, number);
                }
                Ok(())
            }
            "paths" => {
                self.paths = match list {
                    "true" => true,
                    "false" => false,
                    _ => return Err(FilterError::NotASwitch { key: "paths", value: list.into() }),
                };
                Ok(())
            }
            "pid" => {
                for value in values("pid", list)? {
                    let pid = value.parse().map_err(|_| FilterError::NotAPid { value: value.into() })?;
                    bounded_push("pid", &mut self.pids, pid)?;
                }
                Ok(())
            }
            _ => {
                let Some((&name, wanted)) =
                    std::iter::zip(&Labels::NAMES, &mut self.labels).find(|(name, _)| **name == key)
                else {
                    return Err(FilterError::UnknownKey { key: key.into() });
                };
                if list.is_empty() {
                    return bounded_push(name, wanted, String::new());
                }
                values(name, list)?.into_iter().try_for_each(|value| bounded_push(name, wanted, value.into()))
            }
        }
    }
}

impl FilterError {
    /// The key that is to blame.
    pub fn key(&self) -> &str {
        match self {
            Self::UnknownKey { key } => key,
            Self::UnknownKind { .. } => "kind",
            Self::UnknownSyscall { .. } => "syscall",
            Self::NotASwitch { key, .. } => key,
            Self::NotAPid { .. } => "pid",
            Self::EmptyValue { key } | Self::TooManyValues { key } => key,
        }
    }

    /// What could stand in its place, where that can be listed.
    pub fn allowed(&self) -> Vec<&'static str> {
        match self {
            Self::UnknownKey { .. } => {
                ["kind", "syscall", "paths", "pid"].into_iter().chain(Labels::NAMES).collect()
            }
            Self::UnknownKind { .. } => {
                let mut names: Vec<_> =
                    EventKind::ALL.into_iter().flat_map(|kind| [sensor(kind), kind.name()]).collect();
                names.sort_unstable();
                names.dedup();
                names
            }
            Self::NotASwitch { .. } => vec!["true", "false"],
            Self::UnknownSyscall { .. }
            | Self::NotAPid { .. }
            | Self::EmptyValue { .. }
            | Self::TooManyValues { .. } => Vec::new(),
        }
    }
}

/// The kinds that `tcp.connect`, `tcp` or `tcp.*` means.
fn kinds(value: &str) -> Result<Vec<EventKind>, FilterError> {
    let wanted = value.strip_suffix(".*").unwrap_or(value);
    let is_wanted = |kind: &EventKind| kind.name() == value || sensor(*kind) == wanted;
    let kinds: Vec<_> = EventKind::ALL.into_iter().filter(is_wanted).collect();
    if kinds.is_empty() { Err(FilterError::UnknownKind { value: value.into() }) } else { Ok(kinds) }
}

fn sensor(kind: EventKind) -> &'static str {
    let name = kind.name();
    name.split_once('.').map_or(name, |(sensor, _)| sensor)
}

fn values<'l>(key: &'static str, list: &'l str) -> Result<Vec<&'l str>, FilterError> {
    let values: Vec<_> = list.split(',').map(str::trim).take(MAX_VALUES + 1).collect();
    match values {
        values if values.len() > MAX_VALUES => Err(FilterError::TooManyValues { key }),
        values if values.iter().any(|value| value.is_empty()) => Err(FilterError::EmptyValue { key }),
        values => Ok(values),
    }
}

fn bounded_push<T>(key: &'static str, list: &mut Vec<T>, value: T) -> Result<(), FilterError> {
    if list.len() >= MAX_VALUES {
        return Err(FilterError::TooManyValues { key });
    }
    list.push(value);
    Ok(())
}

#[cfg(test)]
mod tests;
