//! Who is at the other end of a connection: address → peer.
//!
//! The first that knows the address answers: loopback; what the cluster has told, if it is watched; the networks of
//! the cluster's pods; the networks that the configuration names. All others are external. A peer is a name and never
//! an address, so that it can be a label.

mod network;
mod own;
mod table;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

use self::table::Table;
pub use self::{
    network::{Network, NetworkError, Networks},
    own::keep_own,
    table::{Claim, Origin, Rank},
};

/// One end of a connection, as far as it has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Peer {
    /// Kubernetes namespace; empty for what belongs to none.
    #[serde(rename = "peer_namespace", skip_serializing_if = "str::is_empty")]
    pub namespace: Box<str>,
    /// A Service, a network of the configuration, or one of [`Peers::RESERVED`].
    #[serde(rename = "peer_workload")]
    pub workload: Box<str>,
}

impl Peer {
    fn without_namespace(workload: &str) -> Arc<Self> {
        Arc::new(Self { namespace: "".into(), workload: workload.into() })
    }
}

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct PeerBounds {
    /// Addresses that are known by name (`limits.peers`).
    pub addresses: usize,
    /// Peers with a namespace that one container's counters tell apart (`limits.peers_per_container`).
    pub per_container: usize,
}

/// Thread-safe; a question takes a shared lock and allocates nothing.
#[derive(Debug)]
pub struct Peers {
    table: RwLock<Table>,
    configured: Networks<Arc<Peer>>,
    per_container: usize,
    loopback: Arc<Peer>,
    cluster_unknown: Arc<Peer>,
    external: Arc<Peer>,
    other: Arc<Peer>,
    refused: AtomicU64,
    folded: AtomicU64,
}

impl Peers {
    /// Names that stand for a class of addresses; no configured network may have one of them.
    pub const RESERVED: [&'static str; 5] = ["loopback", "node", "cluster-unknown", "external", "other"];

    /// Knows the configured networks, and nothing of a cluster.
    pub fn new(bounds: PeerBounds, configured: &[(Network, String)]) -> Self {
        let [loopback, _, cluster_unknown, external, other] = Self::RESERVED.map(Peer::without_namespace);
        let mut networks = Networks::default();
        for (network, name) in configured {
            networks.insert(*network, Peer::without_namespace(name));
        }
        Self {
            table: RwLock::new(Table::new(bounds.addresses)),
            configured: networks,
            per_container: bounds.per_container,
            loopback,
            cluster_unknown,
            external,
            other,
            refused: AtomicU64::new(0),
            folded: AtomicU64::new(0),
        }
    }

    /// Who has the address. An IPv4-mapped one is the IPv4 address.
    pub fn of(&self, address: IpAddr) -> Arc<Peer> {
        self.with(address, Arc::clone)
    }

    /// The same for whoever only looks at it, as at each event: that counts no owner more, and none less. `look` must not
    /// change what is known of addresses.
    pub fn with<T>(&self, address: IpAddr, look: impl FnOnce(&Arc<Peer>) -> T) -> T {
        let address = address.to_canonical();
        // To connect to no address in particular is to connect to this host.
        if address.is_loopback() || address.is_unspecified() {
            return look(&self.loopback);
        }
        let table = self.read();
        if let Some(peer) = table.find(address) {
            return look(peer);
        }
        let is_in_cluster = table.is_in_cluster(address);
        drop(table);
        look(match is_in_cluster {
            true => &self.cluster_unknown,
            false => self.configured.find(address).unwrap_or(&self.external),
        })
    }

    /// Somebody has these addresses, and no others any more.
    pub fn put(&self, origin: Origin, uid: &str, claim: &Claim) {
        let refused = self.write().put(origin, uid, claim);
        self.refused.fetch_add(refused as u64, Ordering::Relaxed);
    }

    /// Somebody is gone.
    pub fn remove(&self, origin: Origin, uid: &str) {
        self.write().remove(origin, uid);
    }

    /// All that there is of this origin, by uid: who isn't among them is gone.
    pub fn replace(&self, origin: Origin, claims: Vec<(String, Claim)>) {
        let refused = self.write().replace(origin, &claims);
        self.refused.fetch_add(refused as u64, Ordering::Relaxed);
    }

    /// Peers with a namespace that one container's counters tell apart.
    pub fn per_container(&self) -> usize {
        self.per_container
    }

    /// The peer of those that are not told apart.
    pub fn other(&self) -> &Arc<Peer> {
        &self.other
    }

    /// One more event was counted for [`other`](Self::other).
    pub fn count_folded(&self) {
        self.folded.fetch_add(1, Ordering::Relaxed);
    }

    /// Events whose peer shows as `other`.
    pub fn folded(&self) -> u64 {
        self.folded.load(Ordering::Relaxed)
    }

    /// Addresses for which there was no room, each time that they were told.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Addresses that are known by name now; one that two Services have counts twice.
    pub fn addresses(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
