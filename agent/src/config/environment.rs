//! The variables of the environment that are ours.

use std::ffi::OsString;
use std::path::PathBuf;

use super::options::OPTIONS;
use super::spec::OptionSpec;
use super::standard::{self, Meaning, Reading};

const PREFIX: &str = "PODWITNESS_";
/// Names the configuration file.
pub(super) const FILE: &str = "PODWITNESS_CONFIG";
/// Read by the logging, which is there before any configuration.
const LOG: &str = "PODWITNESS_LOG";

/// What the environment says.
#[derive(Default)]
pub(super) struct Environment {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The options in it, by name of the variable.
    pub settings: Vec<(&'static OptionSpec, OsString)>,
    /// Options that OpenTelemetry's variables stand for, by name of the variable.
    pub standard: Vec<(&'static OptionSpec, Reading, String, OsString)>,
    /// OpenTelemetry's other variables.
    pub kept: Vec<(String, String)>,
    /// Variables that mean nothing.
    pub unknown: Vec<String>,
}

/// Picks what is ours. A variable that is set to nothing counts as not set, as in OpenTelemetry:
/// templates write it that way.
pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    let mut environment = Environment::default();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            match standard::meaning(&name) {
                _ if value.is_empty() => {}
                Meaning::Option(option, reading) => {
                    let value = value.to_str().map_or_else(|| value.clone(), |text| text.trim().into());
                    environment.standard.push((option, reading, name.into_owned(), value));
                }
                Meaning::Kept => environment.kept.push((name.into_owned(), value.to_string_lossy().into())),
                Meaning::Nothing => {}
            }
            continue;
        };
        if let Some(option) = OPTIONS.iter().find(|option| option.env() == name) {
            if !value.is_empty() {
                environment.settings.push((option, value));
            }
        } else if name == FILE {
            environment.file = (!value.is_empty()).then(|| value.into());
        } else if name != LOG && !is_service_link(rest, &value.to_string_lossy()) {
            environment.unknown.push(name.into_owned());
        }
    }
    // The environment has no order of its own; errors should have one.
    environment.settings.sort_by_key(|(option, _)| option.key);
    environment.standard.sort_by_key(|(option, ..)| option.key);
    environment.kept.sort();
    environment.unknown.sort();
    environment
}

/// Kubernetes tells every pod about the services of its namespace, in variables that begin with the
/// name of the service. A service named `podwitness`, or `podwitness-` and something, yields these.
fn is_service_link(rest: &str, value: &str) -> bool {
    let tails = rest.match_indices('_').map(|(at, _)| &rest[at + 1..]);
    std::iter::once(rest).chain(tails).any(|tail| {
        matches!(tail, "SERVICE_HOST" | "SERVICE_PORT")
            || tail.starts_with("SERVICE_PORT_")
            || is_port_link(tail)
            // The value tells it from a misspelled option: PODWITNESS_METRICS_PORT=9481.
            || tail == "PORT" && value.contains("://")
    })
}

/// `PORT_9481_TCP`, `PORT_9481_TCP_ADDR` and the like.
fn is_port_link(tail: &str) -> bool {
    let mut parts = tail.split('_');
    parts.next() == Some("PORT")
        && parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
        && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(name: &str, value: &str) -> Environment {
        read([(name.into(), value.into())])
    }

    #[test]
    fn service_links_and_foreign_variables_are_left_alone() {
        for (name, value) in [
            ("PODWITNESS_SERVICE_HOST", "10.0.0.1"),
            ("PODWITNESS_SERVICE_PORT", "9481"),
            ("PODWITNESS_SERVICE_PORT_METRICS", "9481"),
            ("PODWITNESS_PORT", "tcp://10.0.0.1:9481"),
            ("PODWITNESS_PORT_9481_TCP", "tcp://10.0.0.1:9481"),
            ("PODWITNESS_PORT_9481_TCP_PROTO", "tcp"),
            ("PODWITNESS_PORT_9481_TCP_PORT", "9481"),
            ("PODWITNESS_PORT_9481_UDP_ADDR", "10.0.0.1"),
            ("PODWITNESS_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("PODWITNESS_METRICS_PORT", "tcp://10.0.0.1:9481"),
            ("PODWITNESS_METRICS_PORT_9481_TCP", "tcp://10.0.0.1:9481"),
            ("PODWITNESS_LOG", "debug"),
            ("PODWITNESS_METRICS_GRACE", ""),
            ("PODWITNESS_CONFIG", ""),
            ("PATH", "/bin"),
            ("podwitness_metrics_grace", "1s"),
        ] {
            let environment = read_one(name, value);
            assert!(environment.unknown.is_empty(), "{name}");
            assert!(environment.settings.is_empty(), "{name}");
            assert_eq!(environment.file, None, "{name}");
        }
    }

    #[test]
    fn what_only_resembles_a_service_link_is_unknown() {
        for (name, value) in [
            ("PODWITNESS_PORT", "9481"),
            ("PODWITNESS_METRICS_PORT", "9481"),
            ("PODWITNESS_PORT_METRICS_TCP", "x"),
            ("PODWITNESS_PORT_9481_TCP_ADDR_X", "x"),
            ("PODWITNESS_PORT_9481", "x"),
            ("PODWITNESS_REPORT", "tcp://x"),
            ("PODWITNESS_", "x"),
        ] {
            assert_eq!(read_one(name, value).unknown, [name]);
        }
    }

    #[test]
    fn no_option_looks_like_a_service_link() {
        for option in OPTIONS {
            assert!(!is_service_link(&option.env()[PREFIX.len()..], "tcp://10.0.0.1:9481"), "{}", option.key);
        }
    }
}
