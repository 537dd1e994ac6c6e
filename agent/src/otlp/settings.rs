//! Where each signal goes and how: the options of the section `otlp`, and what OpenTelemetry's variables say for one
//! signal alone.

use std::{fs, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use thiserror::Error;

use super::{figures::Signal, resource::Host, send::SendError};
use crate::{
    config::{Compression, Config, OtlpConfig, Protocol},
    identity::names::kubernetes::service::WellKnownLabels,
};

pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("podwitness/", env!("CARGO_PKG_VERSION")));

/// Where one signal goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub signal: Signal,
    pub uri: Uri,
    pub protocol: Protocol,
    pub compression: Compression,
    pub timeout: Duration,
    pub headers: HeaderMap,
    pub certificate: Option<String>,
    pub client_certificate: Option<String>,
    pub client_key: Option<String>,
}

/// What OpenTelemetry's variables say that can't be done.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("{name} is {value:?}, which is not {allowed}")]
    Variable { name: String, value: String, allowed: &'static str },
    #[error("cannot send {signal}", signal = .signal.name())]
    Send { signal: Signal, source: SendError },
}

const URL: &str = "a URL that begins with http:// or https://";

/// The variables, by name.
struct Variables<'c>(&'c [(String, String)]);

impl<'c> Variables<'c> {
    fn of(&self, name: &str) -> Option<&'c str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim())
    }

    /// What one signal has of its own.
    fn special(&self, signal: Signal, name: &str) -> Option<(String, &'c str)> {
        let name = format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.name().to_ascii_uppercase());
        let value = self.of(&name)?;
        Some((name, value))
    }
}

/// Whether there is anything to send.
pub fn is_wanted(config: &OtlpConfig) -> bool {
    Signal::ALL.into_iter().any(|signal| is_sent(config, signal))
}

pub(super) fn is_sent(config: &OtlpConfig, signal: Signal) -> bool {
    let variables = Variables(&config.variables);
    let is_on = match signal {
        Signal::Logs => config.logs,
        Signal::Traces => config.traces,
        Signal::Metrics => config.metrics,
    };
    let has_place = config.endpoint.is_some() || variables.special(signal, "ENDPOINT").is_some();
    let is_disabled =
        variables.of("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    is_on && has_place && !is_disabled
}

/// Where the signal goes, if it goes anywhere.
pub(super) fn target(config: &OtlpConfig, signal: Signal) -> Result<Option<Target>, SettingsError> {
    if !is_sent(config, signal) {
        return Ok(None);
    }
    let variables = Variables(&config.variables);
    let protocol = match variables.special(signal, "PROTOCOL") {
        None => config.protocol,
        Some((_, "grpc")) => Protocol::Grpc,
        Some((_, "http/protobuf")) => Protocol::Http,
        Some((name, value)) => return Err(wrong(name, value, "http/protobuf or grpc")),
    };
    let compression = match variables.special(signal, "COMPRESSION") {
        None => config.compression,
        Some((_, "gzip")) => Compression::Gzip,
        Some((_, "zstd")) => Compression::Zstd,
        Some((_, "none")) => Compression::None,
        Some((name, value)) => return Err(wrong(name, value, "gzip, zstd or none")),
    };
    let timeout = match variables.special(signal, "TIMEOUT") {
        None => config.timeout,
        Some((name, value)) => match value.parse() {
            Ok(milliseconds @ 1..) => Duration::from_millis(milliseconds),
            _ => return Err(wrong(name, value, "a number of milliseconds")),
        },
    };
    let path = |name: &str, option: &Option<String>| {
        variables.special(signal, name).map_or_else(|| option.clone(), |(_, path)| Some(path.to_owned()))
    };
    Ok(Some(Target {
        signal,
        uri: uri(config, &variables, signal, protocol)?,
        protocol,
        compression,
        timeout,
        headers: headers(&variables, signal)?,
        certificate: path("CERTIFICATE", &config.certificate),
        client_certificate: path("CLIENT_CERTIFICATE", &config.client_certificate),
        client_key: path("CLIENT_KEY", &config.client_key),
    }))
}

/// A signal's own endpoint is taken as it is; to the one for all, HTTP adds the signal's path.
fn uri(
    config: &OtlpConfig,
    variables: &Variables<'_>,
    signal: Signal,
    protocol: Protocol,
) -> Result<Uri, SettingsError> {
    let (name, url) = match variables.special(signal, "ENDPOINT") {
        Some((name, url)) => (name, url.to_owned()),
        None => {
            let base = config.endpoint.clone().unwrap_or_default();
            let url = match protocol {
                Protocol::Http => format!("{}/v1/{}", base.trim_end_matches('/'), signal.name()),
                Protocol::Grpc => base,
            };
            ("otlp.endpoint".to_owned(), url)
        }
    };
    let uri = url.parse::<Uri>().ok();
    let is_url = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some();
    uri.filter(is_url).ok_or(SettingsError::Variable { name, value: url, allowed: URL })
}

/// A signal's own headers take the place of those for all.
fn headers(variables: &Variables<'_>, signal: Signal) -> Result<HeaderMap, SettingsError> {
    const ALL: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    let own = variables.special(signal, "HEADERS");
    let (name, list) = own.unwrap_or_else(|| (ALL.to_owned(), variables.of(ALL).unwrap_or_default()));
    let mut headers = HeaderMap::new();
    for (key, value) in pairs(list) {
        let header = key.parse::<HeaderName>().ok().zip(HeaderValue::from_str(&value).ok());
        let Some((key, mut value)) = header else {
            // Its value may be a secret.
            return Err(wrong(name, &key, "a list of headers like name=value,name=value"));
        };
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// What `OTEL_RESOURCE_ATTRIBUTES` and the machine say of all resources.
pub fn host(config: &Config) -> Host {
    let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let variables = Variables(&config.otlp.variables);
    let node = config.identity.node_name.clone();
    Host {
        name: read("/proc/sys/kernel/hostname"),
        id: read("/etc/machine-id"),
        labels: match config.otlp.well_known_labels {
            true => WellKnownLabels::Use,
            false => WellKnownLabels::Ignore,
        },
        node: node.or_else(|| std::env::var("NODE_NAME").ok()).filter(|name| !name.is_empty()),
        more: pairs(variables.of("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default())
            .filter(|(key, _)| key != "service.name")
            .collect(),
    }
}

/// What the agent itself is called as a service.
pub(super) fn own_service(config: &OtlpConfig) -> String {
    let variables = Variables(&config.variables);
    let attributes = variables.of("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let in_attributes = pairs(attributes).find(|(key, _)| key == "service.name").map(|(_, value)| value);
    let name = variables.of("OTEL_SERVICE_NAME").map(str::to_owned).or(in_attributes);
    name.unwrap_or_else(|| "podwitness".to_owned())
}

/// `key=value,key=value`, where values may be percent-encoded.
fn pairs(list: &str) -> impl Iterator<Item = (String, String)> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (key.trim().to_owned(), decoded(value.trim()))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).1,
            None => (bytes.push(*first), rest = tail).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wrong(name: String, value: &str, allowed: &'static str) -> SettingsError {
    SettingsError::Variable { name, value: value.to_owned(), allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: Option<&str>, variables: &[(&str, &str)]) -> OtlpConfig {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        OtlpConfig { endpoint: endpoint.map(str::to_owned), variables, ..Config::default().otlp }
    }

    fn targets(config: &OtlpConfig) -> Vec<String> {
        let targets = Signal::ALL.into_iter().filter_map(|signal| target(config, signal).unwrap());
        targets.map(|target| target.uri.to_string()).collect()
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where() {
        assert!(!is_wanted(&Config::default().otlp));
        assert!(is_wanted(&config(Some("http://a"), &[])));
        assert!(!is_wanted(&config(Some("http://a"), &[("OTEL_SDK_DISABLED", "true")])));
        let one = config(None, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/traces")]);
        assert_eq!(targets(&one), ["http://a/traces"]);
    }

    #[test]
    fn a_signals_path_is_added_over_http_alone() {
        let mut of_all = config(Some("http://a:4318/x/"), &[]);
        assert_eq!(
            targets(&of_all),
            ["http://a:4318/x/v1/logs", "http://a:4318/x/v1/traces", "http://a:4318/x/v1/metrics"]
        );
        of_all.protocol = Protocol::Grpc;
        assert_eq!(targets(&of_all)[0], "http://a:4318/x/");
    }

    #[test]
    fn a_signal_may_have_everything_of_its_own() {
        let own = config(
            Some("http://a:4318"),
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=all"),
                ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "api-key=own%20one, x = y%2Cz"),
                ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none"),
                ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "1500"),
                ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", "/ca.pem"),
                ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "zstd"),
            ],
        );
        let logs = target(&own, Signal::Logs).unwrap().unwrap();
        assert_eq!((logs.protocol, logs.compression), (Protocol::Grpc, Compression::None));
        assert_eq!((logs.timeout.as_millis(), logs.certificate.as_deref()), (1500, Some("/ca.pem")));
        assert_eq!(
            (logs.headers["api-key"].as_bytes(), logs.headers["x"].as_bytes()),
            (&b"own one"[..], &b"y,z"[..])
        );
        let traces = target(&own, Signal::Traces).unwrap().unwrap();
        assert_eq!((traces.protocol, traces.headers["api-key"].as_bytes()), (Protocol::Http, &b"all"[..]));
        assert_eq!(traces.compression, Compression::Gzip);
        let metrics = target(&own, Signal::Metrics).unwrap().unwrap();
        assert_eq!((metrics.protocol, metrics.compression), (Protocol::Http, Compression::Zstd));
        assert!(!format!("{logs:?}").contains("own one"), "a secret");
    }

    #[test]
    fn mistakes_name_the_variable_and_no_secret() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "br"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
        ] {
            let error = target(&config(Some("http://a"), &[(name, value)]), Signal::Logs).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn percent_signs_are_decoded_where_they_mean_something() {
        for (text, expected) in [("a%20b", "a b"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%c3%a9", "é")]
        {
            assert_eq!(decoded(text), expected);
        }
    }
}
