//! Which system calls become events.

use std::time::Duration;

use super::{Field, Invalid, Kind, duration, within};
use crate::{
    config::model::Config,
    sensor::{
        calls::SlowCall,
        syscalls::{CLASS_NAMES, errno_name, number},
    },
};

/// `NAME=DURATION` with commas between, or `none`.
pub(in crate::config) struct SlowCalls {
    pub field: Field<Vec<SlowCall>>,
}

/// Symbols of errors with commas between, or `none`.
pub(in crate::config) struct Errnos {
    pub field: Field<Vec<u32>>,
}

const NOTHING: &str = "none";
const NEVER: &str = "off";
const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(3600);
/// Errnos end before this one, those that the kernel uses inside of itself included.
const ERRNOS: u32 = 600;

impl Kind for SlowCalls {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let mut calls: Vec<SlowCall> = Vec::new();
        if text != NOTHING {
            for pair in text.split(',').map(str::trim) {
                let (name, value) =
                    pair.split_once('=').ok_or_else(|| Invalid::new("has a name without =DURATION in it"))?;
                if !CLASS_NAMES.contains(&name) && number(name).is_none() {
                    return Err(Invalid::new("has something in it that is no class and no system call"));
                }
                if calls.iter().any(|(other, _)| other == name) {
                    return Err(Invalid(format!("names {name} twice")));
                }
                let duration = match value {
                    NEVER => None,
                    _ => Some(within(duration::parse(value)?, LEAST, MOST, duration::format)?),
                };
                calls.push((name.to_owned(), duration));
            }
        }
        calls.sort();
        let show = |duration: &Duration| duration::format(duration);
        let pairs: Vec<_> = calls
            .iter()
            .map(|(name, duration)| {
                format!("{name}={}", duration.as_ref().map_or_else(|| NEVER.to_owned(), show))
            })
            .collect();
        *(self.field)(config) = calls;
        Ok(if pairs.is_empty() { NOTHING.to_owned() } else { pairs.join(",") })
    }

    fn allowed(&self) -> String {
        format!(
            "{NOTHING}, or NAME=DURATION with commas between, such as write=1s,fsync=200ms,ioctl={NEVER}; names are \
             those of system calls, or of classes: {}; durations are from {} to {}",
            CLASS_NAMES.join(", "),
            duration::format(&LEAST),
            duration::format(&MOST)
        )
    }

    fn placeholder(&self) -> &'static str {
        "NAME=DURATION,..."
    }
}

impl Kind for Errnos {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let mut errnos: Vec<(&'static str, u32)> = Vec::new();
        if text != NOTHING {
            for symbol in text.split(',').map(str::trim) {
                let known = (1..ERRNOS).find_map(|errno| {
                    errno_name(errno).filter(|name| *name == symbol).map(|name| (name, errno))
                });
                errnos.push(
                    known.ok_or_else(|| Invalid::new("has something in it that is no symbol of an error"))?,
                );
            }
        }
        errnos.sort_unstable();
        errnos.dedup();
        *(self.field)(config) = errnos.iter().map(|(_, errno)| *errno).collect();
        let names: Vec<_> = errnos.iter().map(|(name, _)| *name).collect();
        Ok(if names.is_empty() { NOTHING.to_owned() } else { names.join(",") })
    }

    fn allowed(&self) -> String {
        format!("{NOTHING}, or symbols of errors with commas between, such as EMFILE,ENOSPC")
    }

    fn placeholder(&self) -> &'static str {
        "ERRNO,..."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(text: &str) -> Result<String, String> {
        let kind = SlowCalls { field: |config| &mut config.sensors.calls_slow };
        kind.set(&mut Config::default(), text).map_err(|Invalid(why)| why)
    }

    fn errnos(text: &str) -> Result<(String, Vec<u32>), String> {
        let kind = Errnos { field: |config| &mut config.sensors.calls_failed };
        let mut config = Config::default();
        let shown = kind.set(&mut config, text).map_err(|Invalid(why)| why)?;
        Ok((shown, config.sensors.calls_failed))
    }

    #[test]
    fn slow_calls_come_in_order() {
        assert_eq!(slow("none").unwrap(), "none");
        assert_eq!(slow("write=1000ms, fsync=200ms,ioctl=off").unwrap(), "fsync=200ms,ioctl=off,write=1s");
        for (text, part) in [
            ("", "without =DURATION"),
            ("write", "without =DURATION"),
            ("writes=1s", "no class and no system call"),
            ("write=1", "no unit"),
            ("write=0s", "below 1ms"),
            ("write=2h", "above 1h"),
            ("write=1s,write=2s", "names write twice"),
        ] {
            let why = slow(text).unwrap_err();
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }

    #[test]
    fn errors_go_by_their_symbols() {
        assert_eq!(errnos("none").unwrap(), ("none".to_owned(), vec![]));
        assert_eq!(errnos("ENOSPC, EMFILE,ENOSPC").unwrap(), ("EMFILE,ENOSPC".to_owned(), vec![24, 28]));
        for text in ["", "28", "enospc", "ENOSPC,", "EVERYTHING"] {
            assert!(errnos(text).unwrap_err().contains("no symbol"), "{text:?}");
        }
    }
}
