//! What is known about peers.

use super::Page;
use crate::identity::peers::Peers;

pub(super) fn expose(page: &mut Page<'_>, peers: &Peers) -> std::fmt::Result {
    page.own_gauge(
        "podwitness_peer_addresses",
        "Addresses that are known by name; one with two names counts twice",
        None,
        [],
        [([], peers.addresses() as f64)],
    )?;
    page.own_counter(
        "podwitness_peer_addresses_refused",
        "Addresses turned away because limits.peers was reached, each time that they were told",
        [],
        [([], peers.refused())],
    )?;
    page.own_counter(
        "podwitness_peers_folded",
        "Events of connections whose peer shows as other because limits.peers_per_container was reached",
        [],
        [([], peers.folded())],
    )
}
