//! OpenTelemetry's own variables: what of them says the same as an option, and what is left to the exporter.

use std::ffi::OsStr;

use super::kind::{Invalid, digits};
use super::options::OPTIONS;
use super::spec::OptionSpec;

/// How all of them begin.
const PREFIX: &str = "OTEL_";

/// How the text of a variable becomes that of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    AsIs,
    /// A whole number of them.
    Milliseconds,
    /// `otlp` sends, `none` doesn't.
    Exporter,
}

impl Reading {
    /// What the option's own text would be.
    pub(super) fn text(self, text: &str) -> Result<String, Invalid> {
        match (self, text) {
            (Self::AsIs, _) => Ok(text.to_owned()),
            (Self::Milliseconds, _) if digits(text).is_some() => Ok(format!("{text}ms")),
            (Self::Milliseconds, _) => Err(Invalid::new("is not a whole number of milliseconds")),
            (Self::Exporter, "otlp") => Ok("true".to_owned()),
            (Self::Exporter, "none") => Ok("false".to_owned()),
            (Self::Exporter, _) => Err(Invalid::new("is none of the known names")),
        }
    }

    /// What the variable may be, for people.
    pub(super) fn allowed(self, option: &OptionSpec) -> String {
        match self {
            Self::AsIs => option.allowed(),
            Self::Milliseconds => format!("a whole number of milliseconds, for {}", option.allowed()),
            Self::Exporter => "one of otlp, none".to_owned(),
        }
    }
}

/// Variables and the options they stand for. An option's own variable counts more.
const SAME: [(&str, &str, Reading); 15] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp.endpoint", Reading::AsIs),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "otlp.protocol", Reading::AsIs),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "otlp.compression", Reading::AsIs),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "otlp.timeout", Reading::Milliseconds),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "otlp.certificate", Reading::AsIs),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "otlp.client_certificate", Reading::AsIs),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "otlp.client_key", Reading::AsIs),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "otlp.queue", Reading::AsIs),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "otlp.batch", Reading::AsIs),
    ("OTEL_BSP_SCHEDULE_DELAY", "otlp.delay", Reading::Milliseconds),
    ("OTEL_METRIC_EXPORT_INTERVAL", "otlp.metrics_interval", Reading::Milliseconds),
    ("OTEL_TRACES_SAMPLER_ARG", "otlp.sample_ratio", Reading::AsIs),
    ("OTEL_TRACES_EXPORTER", "otlp.traces", Reading::Exporter),
    ("OTEL_LOGS_EXPORTER", "otlp.logs", Reading::Exporter),
    ("OTEL_METRICS_EXPORTER", "otlp.metrics", Reading::Exporter),
];

/// What has no option: secrets, and what is for one signal alone.
const LEFT: [&str; 5] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_SDK_DISABLED",
];
const SIGNALS: [&str; 3] =
    ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_LOGS_", "OTEL_EXPORTER_OTLP_METRICS_"];

/// What a variable means.
pub(super) enum Meaning {
    /// An option, said in this way.
    Option(&'static OptionSpec, Reading),
    /// Kept for the exporter.
    Kept,
    /// Another program's, or of no use here.
    Nothing,
}

/// Whether it is one of OpenTelemetry's variables.
pub fn is_standard(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// The meaning of a variable that is set to something.
pub(super) fn meaning(name: &str) -> Meaning {
    if let Some((_, key, reading)) = SAME.iter().find(|(same, ..)| *same == name) {
        let Some(option) = OPTIONS.iter().find(|option| option.key == *key) else { return Meaning::Nothing };
        return Meaning::Option(option, *reading);
    }
    let is_left = LEFT.contains(&name) || SIGNALS.iter().any(|signal| name.starts_with(signal));
    if is_left { Meaning::Kept } else { Meaning::Nothing }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Flags};

    fn load(variables: &[(&str, &str)]) -> Config {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Config::load(&Flags::default(), variables).unwrap().0
    }

    #[test]
    fn every_variable_stands_for_an_option_that_exists() {
        for (name, key, _) in SAME {
            assert!(OPTIONS.iter().any(|option| option.key == key), "{name}: {key}");
        }
    }

    #[test]
    fn opentelemetrys_variables_fill_the_options() {
        let config = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317"),
            ("OTEL_SOMETHING_ELSE", "x"),
        ]);
        assert_eq!(config.otlp.endpoint.as_deref(), Some("http://collector:4317"));
        assert_eq!(config.otlp.timeout, Duration::from_millis(2500));
        assert_eq!((config.otlp.logs, config.otlp.metrics), (true, false));
        let names: Vec<_> = config.otlp.variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]);
    }

    #[test]
    fn our_own_variable_counts_more() {
        let config = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:4318"),
            ("PODWITNESS_OTLP_ENDPOINT", "http://ours:4318"),
        ]);
        assert_eq!(config.otlp.endpoint.as_deref(), Some("http://ours:4318"));
    }

    #[test]
    fn mistakes_name_the_variable() {
        let variables = [("OTEL_EXPORTER_OTLP_PROTOCOL".into(), "http/json".into())];
        let errors = Config::load(&Flags::default(), variables).unwrap_err().to_string();
        assert!(errors.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{errors}");
        assert!(errors.contains("http/protobuf"), "{errors}");
    }

    #[test]
    fn what_is_allowed_is_said_as_the_variable_takes_it() {
        for (name, value, why, allowed) in [
            ("OTEL_TRACES_EXPORTER", "console", "is none of the known names", "one of otlp, none"),
            ("OTEL_LOGS_EXPORTER", "true", "is none of the known names", "one of otlp, none"),
            (
                "OTEL_BSP_SCHEDULE_DELAY",
                "0",
                "is below 1ms",
                "a whole number of milliseconds, for a duration",
            ),
            ("OTEL_BSP_SCHEDULE_DELAY", "5s", "is not a whole number", "a whole number of milliseconds"),
        ] {
            let errors = Config::load(&Flags::default(), [(name.into(), value.into())]).unwrap_err();
            let errors = errors.to_string();
            assert!(errors.contains(&format!("{value:?} {why}")), "{errors}");
            assert!(
                errors.contains(&format!("from the environment variable {name}\n    allowed: {allowed}"))
            );
        }
    }
}
