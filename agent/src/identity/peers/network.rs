//! Networks in CIDR notation, and finding the narrowest that an address lies in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// All addresses with the same first `length` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    base: IpAddr,
    length: u8,
}

/// Why text is no network; goes on after the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("is no network such as 10.20.0.0/16 or 2001:db8::/32")]
    Form,
    #[error("has bits set beyond the length of its prefix: the network is {0}")]
    HostBits(Network),
    #[error("is an IPv4 network in IPv6 notation: write it as 10.20.0.0/16")]
    Mapped,
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (base, length) = text.split_once('/').ok_or(NetworkError::Form)?;
        let base: IpAddr = base.parse().map_err(|_| NetworkError::Form)?;
        if base.to_canonical() != base {
            return Err(NetworkError::Mapped);
        }
        // Digits only: `parse` would take a sign.
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NetworkError::Form);
        }
        let length = length.parse().map_err(|_| NetworkError::Form)?;
        let first = masked(base, length).ok_or(NetworkError::Form)?;
        if first != base {
            return Err(NetworkError::HostBits(Self { base: first, length }));
        }
        Ok(Self { base, length })
    }
}

impl Network {
    /// Whether the address lies in it; an IPv4-mapped one is the IPv4 address.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.length) == Some(self.base)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

/// The first `length` bits; none if the address has fewer.
fn masked(address: IpAddr, length: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let host = 32u32.checked_sub(length.into())?;
            let mask = u32::MAX.checked_shl(host).unwrap_or(0);
            Some(Ipv4Addr::from_bits(address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let host = 128u32.checked_sub(length.into())?;
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            Some(Ipv6Addr::from_bits(address.to_bits() & mask).into())
        }
    }
}

/// A value for each network. A question costs one look per length of prefix that occurs.
#[derive(Clone, Debug)]
pub struct Networks<T> {
    by_length: BTreeMap<Reverse<u8>, HashMap<IpAddr, T>>,
}

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Self { by_length: BTreeMap::new() }
    }
}

impl<T> Networks<T> {
    pub fn insert(&mut self, network: Network, value: T) {
        self.by_length.entry(Reverse(network.length)).or_default().insert(network.base, value);
    }

    /// The value of the network itself, of none around it.
    pub fn entry(&mut self, network: Network) -> &mut T
    where
        T: Default,
    {
        self.by_length.entry(Reverse(network.length)).or_default().entry(network.base).or_default()
    }

    pub fn remove(&mut self, network: Network) {
        if let Some(same_length) = self.by_length.get_mut(&Reverse(network.length)) {
            same_length.remove(&network.base);
            if same_length.is_empty() {
                self.by_length.remove(&Reverse(network.length));
            }
        }
    }

    /// The value of the narrowest network around the address.
    pub fn find(&self, address: IpAddr) -> Option<&T> {
        self.by_length.iter().find_map(|(Reverse(length), networks)| networks.get(&masked(address, *length)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_a_network_and_what_is_not() {
        for text in ["0.0.0.0/0", "10.20.0.0/16", "10.0.0.1/32", "::/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        for text in
            ["", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0/8", "10.0.0.0/+8", "a/8"]
        {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Form), "{text:?}");
        }
        let error = "10.20.3.4/16".parse::<Network>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "has bits set beyond the length of its prefix: the network is 10.20.0.0/16"
        );
        assert_eq!("::ffff:10.0.0.0/104".parse::<Network>(), Err(NetworkError::Mapped));
    }

    #[test]
    fn the_narrowest_network_counts() {
        let mut networks = Networks::default();
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.20.0.0/16", "10.20.0.1/32", "2001:db8::/32"] {
            networks.insert(network(text), text);
        }
        let find = |text: &str| networks.find(text.parse().unwrap()).copied();
        assert_eq!(find("10.20.0.1"), Some("10.20.0.1/32"));
        assert_eq!(find("10.20.0.2"), Some("10.20.0.0/16"));
        assert_eq!(find("10.21.0.1"), Some("10.0.0.0/8"));
        assert_eq!(find("192.0.2.1"), Some("0.0.0.0/0"));
        assert_eq!(find("2001:db8:ffff::1"), Some("2001:db8::/32"));
        assert_eq!(find("2001:db9::1"), None, "0.0.0.0/0 is no IPv6 network");
        networks.remove(network("10.20.0.0/16"));
        assert_eq!(networks.find("10.20.0.2".parse().unwrap()), Some(&"10.0.0.0/8"));
    }
}
