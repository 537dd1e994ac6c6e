//! What is known by its address. Built for the many: an endpoint costs its address in the list of its holder and in
//! the index; the name is there once for all that have it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{Network, Networks, Peer};

/// Who has told of something. Each replaces only what it has told itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    EndpointSlices,
    Services,
    Nodes,
    /// This machine.
    Own,
}

/// Who is believed where several have an address, the first one first. Pods in the host's network share its address
/// with everything else there: it can only be called the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Node,
    Service,
    Endpoint,
}

/// A name, and the addresses that go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub rank: Rank,
    pub peer: Peer,
    pub addresses: Vec<IpAddr>,
    /// What lies in these and isn't known belongs to the cluster all the same.
    pub networks: Vec<Network>,
}

impl Claim {
    /// Addresses of a node, and the networks of its pods.
    pub fn node(addresses: Vec<IpAddr>, networks: Vec<Network>) -> Self {
        let peer = Peer { namespace: "".into(), workload: "node".into() };
        Self { rank: Rank::Node, peer, addresses, networks }
    }
}

/// A claim as it is kept.
#[derive(Debug)]
struct Holder {
    rank: Rank,
    peer: Arc<Peer>,
    v4: Box<[Ipv4Addr]>,
    v6: Box<[Ipv6Addr]>,
    networks: Box<[Network]>,
}

#[derive(Debug)]
pub(super) struct Table {
    limit: usize,
    /// Addresses with the places of their holders, of which there may be several.
    v4: BTreeSet<(Ipv4Addr, u32)>,
    v6: BTreeSet<(Ipv6Addr, u32)>,
    holders: Vec<Option<Holder>>,
    /// Places that are empty.
    free: Vec<u32>,
    places: HashMap<(Origin, Box<str>), u32>,
    /// Names, with how many holders have them.
    names: HashMap<Arc<Peer>, u32>,
    /// With how many holders have them.
    networks: Networks<u32>,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            v4: BTreeSet::new(),
            v6: BTreeSet::new(),
            holders: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            names: HashMap::new(),
            networks: Networks::default(),
        }
    }

    /// Addresses that are held.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Takes over a claim, in the place of the holder's former one. Returns for how many addresses there is no room.
    pub(super) fn put(&mut self, origin: Origin, uid: &str, claim: &Claim) -> usize {
        self.remove(origin, uid);
        let place = self.free.pop().unwrap_or_else(|| {
            self.holders.push(None);
            u32::try_from(self.holders.len() - 1).unwrap_or(u32::MAX)
        });
        let (mut v4, mut v6, mut refused) = (Vec::new(), Vec::new(), 0);
        for address in &claim.addresses {
            if self.len() >= self.limit {
                refused += 1;
                continue;
            }
            match address.to_canonical() {
                IpAddr::V4(address) if self.v4.insert((address, place)) => v4.push(address),
                IpAddr::V6(address) if self.v6.insert((address, place)) => v6.push(address),
                _ => {}
            }
        }
        for network in &claim.networks {
            *self.networks.entry(*network) += 1;
        }
        let holder = Holder {
            rank: claim.rank,
            peer: self.intern(&claim.peer),
            v4: v4.into(),
            v6: v6.into(),
            networks: claim.networks.as_slice().into(),
        };
        self.holders[place as usize] = Some(holder);
        self.places.insert((origin, uid.into()), place);
        refused
    }

    pub(super) fn remove(&mut self, origin: Origin, uid: &str) {
        let Some(place) = self.places.remove(&(origin, uid.into())) else { return };
        self.free.push(place);
        let Some(holder) = self.holders[place as usize].take() else { return };
        for address in &holder.v4 {
            self.v4.remove(&(*address, place));
        }
        for address in &holder.v6 {
            self.v6.remove(&(*address, place));
        }
        for network in &holder.networks {
            let holders = self.networks.entry(*network);
            *holders -= 1;
            if *holders == 0 {
                self.networks.remove(*network);
            }
        }
        if let Some(holders) = self.names.get_mut(&holder.peer) {
            *holders -= 1;
            if *holders == 0 {
                self.names.remove(&holder.peer);
            }
        }
    }

    /// Forgets whom the origin doesn't name any more, then takes over the others.
    pub(super) fn replace(&mut self, origin: Origin, claims: &[(String, Claim)]) -> usize {
        let told: HashSet<&str> = claims.iter().map(|(uid, _)| uid.as_str()).collect();
        let known = self.places.keys().filter(|(of, uid)| *of == origin && !told.contains(&**uid));
        let gone: Vec<Box<str>> = known.map(|(_, uid)| uid.clone()).collect();
        for uid in gone {
            self.remove(origin, &uid);
        }
        claims.iter().map(|(uid, claim)| self.put(origin, uid, claim)).sum()
    }

    /// Where several have the address, all agents of a cluster agree on one: by rank, then by name.
    pub(super) fn find(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        match address {
            IpAddr::V4(address) => self.first(self.v4.range((address, 0)..=(address, u32::MAX))),
            IpAddr::V6(address) => self.first(self.v6.range((address, 0)..=(address, u32::MAX))),
        }
    }

    fn first<'a, A: 'a>(&self, claims: impl Iterator<Item = &'a (A, u32)>) -> Option<&Arc<Peer>> {
        let holders = claims.filter_map(|(_, place)| self.holders.get(*place as usize)?.as_ref());
        let first = holders.min_by(|one, other| (one.rank, &one.peer).cmp(&(other.rank, &other.peer)));
        first.map(|holder| &holder.peer)
    }

    /// Whether the address lies in a network of the cluster's pods.
    pub(super) fn is_in_cluster(&self, address: IpAddr) -> bool {
        self.networks.find(address).is_some()
    }

    fn intern(&mut self, peer: &Peer) -> Arc<Peer> {
        let name = match self.names.get_key_value(peer) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::new(peer.clone()),
        };
        *self.names.entry(Arc::clone(&name)).or_default() += 1;
        name
    }
}
