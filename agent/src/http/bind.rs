//! Taking an address, and saying what to do when it can't be had.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use thiserror::Error;
use tokio::net::TcpListener;

/// A bound address; nobody is served yet.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
}

/// Why an address can't be listened on. `option` is the name of the option that gave it.
#[derive(Debug, Error)]
pub enum BindError {
    #[error(
        "{address} is in use already: stop what listens there, or set `{option}` to another port (0 picks a free one)"
    )]
    InUse { address: SocketAddr, option: &'static str },
    #[error("{} is no address of this machine: change `{option}`", .address.ip())]
    NotHere { address: SocketAddr, option: &'static str },
    #[error("port {} needs CAP_NET_BIND_SERVICE: set `{option}` to a port from 1024 on", .address.port())]
    Privileged { address: SocketAddr, option: &'static str },
    #[error("can't listen on {address} (`{option}`)")]
    Other { address: SocketAddr, option: &'static str, source: io::Error },
}

/// Binds `address`, which the option `option` has given.
pub async fn bind(address: SocketAddr, option: &'static str) -> Result<Listener, BindError> {
    let socket = match TcpListener::bind(address).await {
        Err(error) if let Some(address) = without_ipv6(address, &error) => TcpListener::bind(address).await,
        socket => socket,
    };
    let socket = socket.map_err(|error| BindError::of(error, address, option))?;
    let address = socket.local_addr().map_err(|error| BindError::of(error, address, option))?;
    Ok(Listener { socket, address })
}

/// All addresses of a machine that has no IPv6 (`ipv6.disable=1`), where all of IPv4 and IPv6 were asked for.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_missing = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    (is_missing && address.ip() == Ipv6Addr::UNSPECIFIED).then_some(all)
}

impl BindError {
    fn of(source: io::Error, address: SocketAddr, option: &'static str) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, option },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address, option },
            io::ErrorKind::PermissionDenied if address.port() < 1024 => Self::Privileged { address, option },
            _ => Self::Other { address, option, source },
        }
    }
}

impl Listener {
    /// The address in fact, with the port that was picked if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An address that a client on this machine can use; `scheme` is http or https.
    pub(super) fn local_url(&self, scheme: &str) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                SocketAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            });
        }
        format!("{scheme}://{address}")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::{BindError, bind, without_ipv6};

    #[tokio::test]
    async fn a_taken_address_is_found_at_once() {
        let taken = bind(([127, 0, 0, 1], 0).into(), "debug.listen").await.unwrap();
        assert_ne!(taken.address().port(), 0);
        let error = bind(taken.address(), "metrics.listen").await.unwrap_err();
        assert!(
            matches!(error, BindError::InUse { address, option: "metrics.listen" } if address == taken.address())
        );
    }

    #[test]
    fn an_error_says_which_option_changes_it() {
        let explain = |kind: ErrorKind, address: &str| {
            BindError::of(io::Error::from(kind), address.parse().unwrap(), "debug.listen").to_string()
        };
        let cases = [
            (
                explain(ErrorKind::AddrInUse, "127.0.0.1:9482"),
                "127.0.0.1:9482 is in use already: stop what listens there, or set `debug.listen` to another port \
                 (0 picks a free one)",
            ),
            (
                explain(ErrorKind::AddrNotAvailable, "192.0.2.1:9482"),
                "192.0.2.1 is no address of this machine: change `debug.listen`",
            ),
            (
                explain(ErrorKind::PermissionDenied, "[::1]:80"),
                "port 80 needs CAP_NET_BIND_SERVICE: set `debug.listen` to a port from 1024 on",
            ),
            (
                explain(ErrorKind::PermissionDenied, "[::1]:9482"),
                "can't listen on [::1]:9482 (`debug.listen`)",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn all_addresses_are_those_of_ipv4_where_there_is_no_ipv6() {
        let instead = |address: &str, errno| {
            let error = io::Error::from_raw_os_error(errno);
            without_ipv6(address.parse().unwrap(), &error).map(|address| address.to_string())
        };
        assert_eq!(instead("[::]:9481", libc::EAFNOSUPPORT), Some("0.0.0.0:9481".to_owned()));
        assert_eq!(instead("[::1]:9481", libc::EAFNOSUPPORT), None);
        assert_eq!(instead("[::]:9481", libc::EADDRINUSE), None);
    }

    #[tokio::test]
    async fn the_shown_address_can_be_used() {
        let listener = bind(([0, 0, 0, 0], 0).into(), "debug.listen").await.unwrap();
        assert_eq!(listener.local_url("http"), format!("http://127.0.0.1:{}", listener.address().port()));
    }
}
