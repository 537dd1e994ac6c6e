//! What single values can't show: whether they go together.

use std::net::{IpAddr, SocketAddr};

use super::model::Config;

/// Two values that don't go together.
pub(super) struct Conflict {
    pub key: &'static str,
    pub other: &'static str,
    /// Stands between the two values.
    pub why: &'static str,
}

/// All conflicts in a configuration whose single values are valid.
pub(super) fn conflicts(config: &Config) -> Vec<Conflict> {
    let mut found = Vec::new();
    if config.ring.poll_min > config.ring.poll_max {
        found.push(Conflict { key: "ring.poll_min", other: "ring.poll_max", why: "is above" });
    }
    if overlap(config.metrics.listen, config.debug.listen) {
        let why = "takes the same address and port as";
        found.push(Conflict { key: "debug.listen", other: "metrics.listen", why });
    }
    if !config.debug.listen.ip().is_loopback() && config.debug.token_file.is_none() {
        let why = "is no loopback address, which needs a token:";
        found.push(Conflict { key: "debug.listen", other: "debug.token_file", why });
    }
    let debug = &config.debug;
    let files = [
        ("debug.tls_certificate_file", &debug.tls_certificate_file),
        ("debug.tls_key_file", &debug.tls_key_file),
    ];
    found.extend(half(files));
    let otlp = &config.otlp;
    // A signal may have the other half in a variable of its own.
    let is_for_all = |(name, _): &(String, String)| {
        !name.ends_with("_CLIENT_CERTIFICATE") && !name.ends_with("_CLIENT_KEY")
    };
    if otlp.variables.iter().all(is_for_all) {
        let files =
            [("otlp.client_certificate", &otlp.client_certificate), ("otlp.client_key", &otlp.client_key)];
        found.extend(half(files));
    }
    found
}

/// A certificate without its key, or the other way round.
fn half(files: [(&'static str, &Option<String>); 2]) -> Option<Conflict> {
    let [(certificate, has_certificate), (key, has_key)] = files.map(|(name, path)| (name, path.is_some()));
    match (has_certificate, has_key) {
        (true, false) => {
            Some(Conflict { key: certificate, other: key, why: "is of no use without its key:" })
        }
        (false, true) => {
            Some(Conflict { key, other: certificate, why: "is of no use without its certificate:" })
        }
        _ => None,
    }
}

/// Whether only one of the two can be bound.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // Port 0 is another free port for each.
    one.port() == other.port()
        && one.port() != 0
        && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}

fn covers(one: IpAddr, other: IpAddr) -> bool {
    // An unspecified IPv6 address takes IPv4 as well.
    one == other || one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_addresses_are_found() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
