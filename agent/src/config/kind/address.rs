//! Socket addresses to listen on.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Field, Invalid, Kind, digits};
use crate::config::model::Config;

/// An IP address and a port.
pub(in crate::config) struct Address {
    pub field: Field<SocketAddr>,
}

impl Kind for Address {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let address = parse(text)?;
        *(self.field)(config) = address;
        Ok(address.to_string())
    }

    fn allowed(&self) -> String {
        "an IP address and port, such as 0.0.0.0:9481 or [::]:9481; \":9481\" is short for [::]:9481, all IPv4 and \
         IPv6 addresses; port 0 is any free port"
            .to_owned()
    }

    fn placeholder(&self) -> &'static str {
        "ADDRESS"
    }
}

fn parse(text: &str) -> Result<SocketAddr, Invalid> {
    if let Some(port) = text.strip_prefix(':')
        && let Some(port) = digits(port)
    {
        let port = u16::try_from(port).map_err(|_| Invalid::new("has a port above 65535"))?;
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    text.parse().map_err(|_| Invalid::new(why(text)))
}

fn why(text: &str) -> &'static str {
    if text.parse::<IpAddr>().is_ok() {
        return "has no port";
    }
    match text.rsplit_once(':') {
        Some((host, port))
            if digits(port).is_some() && host.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            "has a name instead of an IP address"
        }
        _ => "is not an IP address and port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, address) in [
            ("0.0.0.0:9481", "0.0.0.0:9481"),
            ("[::]:9481", "[::]:9481"),
            (":9481", "[::]:9481"),
            (":0", "[::]:0"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()), Ok(address.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is not an IP address and port"),
            (":", "is not an IP address and port"),
            ("9481", "is not an IP address and port"),
            ("0.0.0.0", "has no port"),
            ("::1", "has no port"),
            (":65536", "has a port above 65535"),
            (":99999999999999999999999", "has a port above 65535"),
            ("0.0.0.0:65536", "is not an IP address and port"),
            ("localhost:9482", "has a name instead of an IP address"),
            ("http://0.0.0.0:9481", "has a name instead of an IP address"),
            ("256.0.0.1:1", "is not an IP address and port"),
        ] {
            assert_eq!(parse(text), Err(Invalid::new(reason)), "{text:?}");
        }
    }
}
