//! Networks with names.

use super::{Field, Invalid, Kind};
use crate::{
    config::model::Config,
    identity::peers::{Network, Peers},
};

/// `NETWORK=NAME` with commas between, or `none`. Several networks may have the same name.
pub(in crate::config) struct Cidrs {
    pub field: Field<Vec<(Network, String)>>,
}

const NOTHING: &str = "none";
/// Longest name (RFC 1123 label).
const LENGTH_MAX: usize = 63;

impl Kind for Cidrs {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let mut named: Vec<(Network, String)> = Vec::new();
        if text != NOTHING {
            for pair in text.split(',').map(str::trim) {
                let (network, name) =
                    pair.split_once('=').ok_or_else(|| Invalid::new("has a network without =NAME in it"))?;
                let network =
                    network.parse().map_err(|error| Invalid(format!("holds {network:?}, which {error}")))?;
                check(name)?;
                if named.iter().any(|(other, _)| *other == network) {
                    return Err(Invalid(format!("names {network} twice")));
                }
                named.push((network, name.to_owned()));
            }
        }
        named.sort();
        let pairs: Vec<_> = named.iter().map(|(network, name)| format!("{network}={name}")).collect();
        *(self.field)(config) = named;
        Ok(if pairs.is_empty() { NOTHING.to_owned() } else { pairs.join(",") })
    }

    fn allowed(&self) -> String {
        format!(
            "{NOTHING}, or NETWORK=NAME with commas between, such as 10.20.0.0/16=database,2001:db8::/32=lab; names \
             have small letters, digits and dashes, and are none of {}",
            Peers::RESERVED.join(", ")
        )
    }

    fn placeholder(&self) -> &'static str {
        "CIDR=NAME,..."
    }
}

fn check(name: &str) -> Result<(), Invalid> {
    if Peers::RESERVED.contains(&name) {
        return Err(Invalid(format!("gives a network the name {name}, which has another meaning")));
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=LENGTH_MAX).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_name { Ok(()) } else { Err(Invalid::new("has something in it that is no name of a network")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<String, String> {
        let kind = Cidrs { field: |config| &mut config.peers.cidrs };
        let mut config = Config::default();
        let shown = kind.set(&mut config, text).map_err(|Invalid(why)| why)?;
        let count = if shown == NOTHING { 0 } else { shown.split(',').count() };
        assert_eq!(config.peers.cidrs.len(), count);
        Ok(shown)
    }

    #[test]
    fn networks_come_in_order() {
        assert_eq!(set("none").unwrap(), "none");
        assert_eq!(
            set("2001:db8::/32=lab, 10.20.0.0/16=database,10.0.0.0/8=database").unwrap(),
            "10.0.0.0/8=database,10.20.0.0/16=database,2001:db8::/32=lab"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "without =NAME"),
            ("10.0.0.0/8", "without =NAME"),
            ("10.0.0.0/8=a,", "without =NAME"),
            ("10.0.0.0=a", "\"10.0.0.0\", which is no network"),
            ("10.0.0.1/8=a", "the network is 10.0.0.0/8"),
            ("::ffff:10.0.0.0/104=a", "IPv4 network in IPv6 notation"),
            ("10.0.0.0/8=external", "the name external"),
            ("10.0.0.0/8=a b", "no name of a network"),
            ("10.0.0.0/8=", "no name of a network"),
            ("10.0.0.0/8=a,10.0.0.0/8=b", "names 10.0.0.0/8 twice"),
        ] {
            let why = set(text).unwrap_err();
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }
}
