//! What is known about peers, and how those do who tell it.

use super::Page;
use crate::identity::{
    names::{
        SourceState,
        kubernetes::cluster::{Cluster, ClusterStats},
    },
    peers::Peers,
};

pub(super) fn expose(page: &mut Page, peers: &Peers, cluster: Option<&Cluster>) {
    page.own_gauge(
        "podwitness_peer_addresses",
        "Addresses that are known by name; one with two names counts twice",
        None,
        &[],
        [([], peers.addresses() as f64)],
    );
    page.own_counter(
        "podwitness_peer_addresses_refused",
        "Addresses turned away because limits.peers was reached, each time that they were told",
        &[],
        [([], peers.refused())],
    );
    page.own_counter(
        "podwitness_peers_folded",
        "Events of connections whose peer shows as other because limits.peers_per_container was reached",
        &[],
        [([], peers.folded())],
    );
    let sources = cluster.map_or_else(ClusterStats::absent, Cluster::stats);
    let states = sources.iter().flat_map(|source| {
        let is = |state| f64::from(u8::from(state == source.state));
        SourceState::ALL.map(|state| ([source.resource, state.name()], is(state)))
    });
    page.own_gauge(
        "podwitness_peer_source_state",
        "1 for the state that the watch of a part of the cluster is in",
        None,
        &["source", "state"],
        states,
    );
    page.own_counter(
        "podwitness_peer_source_problems",
        "Lists and watches of the cluster that failed, and pieces of them that could not be read",
        &["source", "problem"],
        sources.iter().flat_map(|source| {
            [([source.resource, "failure"], source.failures), ([source.resource, "garbage"], source.garbage)]
        }),
    );
}
