//! What is counted for each peer of a container.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    exemplar::Exemplars,
    identity::peers::{Peer, Peers},
    kernel::prefetch,
};

/// Connections with one peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub connects: u64,
    /// Of these, the failed ones, by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// Of the failures, by reason.
    pub exemplars: Exemplars<&'static str>,
    pub accepts: u64,
    pub closes: u64,
    /// Of those that were closed.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        let Self { connects, failures, exemplars, accepts, closes, sent_bytes, received_bytes, retransmits } =
            other;
        self.connects += connects;
        self.accepts += accepts;
        self.closes += closes;
        self.sent_bytes += sent_bytes;
        self.received_bytes += received_bytes;
        self.retransmits += retransmits;
        for (reason, count) in failures {
            *self.failures.entry(reason).or_default() += count;
        }
        self.exemplars.add(exemplars);
    }
}

/// Tallies by peer. Those without a namespace are as few as the configuration names; of the others there are at most
/// [`Peers::per_container`], and what is beyond is counted for one that is called `other`.
///
/// A peer is mostly known again by where its name lies, since [`Peers`] has each name once. Names are compared by
/// memcmp, which is quick, but for two that are empty: on CPUs with AVX-512 that takes glibc over a hundred nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ByPeer {
    /// In order.
    peers: Vec<Arc<Peer>>,
    /// In the same order.
    tallies: Vec<Tally>,
}

impl ByPeer {
    /// Where an event with this peer is counted.
    pub(super) fn tally(&mut self, peer: &Arc<Peer>, peers: &Peers) -> &mut Tally {
        if let Some(at) = self.peers.iter().position(|known| Arc::ptr_eq(known, peer)) {
            return &mut self.tallies[at];
        }
        let peer = match self.peers.binary_search(peer) {
            Ok(at) => {
                // The name lies elsewhere by now.
                self.peers[at] = Arc::clone(peer);
                return &mut self.tallies[at];
            }
            Err(_) if peer.namespace.is_empty() || self.named() < peers.per_container() => peer,
            Err(_) => {
                peers.count_folded();
                peers.other()
            }
        };
        self.entry(peer)
    }

    /// Where one of an event with this peer was counted.
    pub(super) fn counted(&mut self, peer: &Arc<Peer>, peers: &Peers) -> Option<&mut Tally> {
        let at = self.peers.binary_search(peer).or_else(|_| self.peers.binary_search(peers.other())).ok()?;
        self.tallies.get_mut(at)
    }

    /// Says that all this is read soon.
    pub(super) fn prefetch(&self) {
        prefetch(&*self.peers);
        prefetch(&*self.tallies);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Peer, &Tally)> {
        self.peers.iter().map(|peer| &**peer).zip(&self.tallies)
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (peer, tally) in other.peers.iter().zip(&other.tallies) {
            self.entry(peer).add(tally);
        }
    }

    /// Keeps as many peers as one container may have: those with the most connections.
    pub(super) fn fold(&mut self, peers: &Peers) {
        let excess = self.named().saturating_sub(peers.per_container());
        let mut named: Vec<_> =
            (0..self.peers.len()).filter(|at| !self.peers[*at].namespace.is_empty()).collect();
        named.sort_by_key(|at| self.tallies[*at].connects + self.tallies[*at].accepts);
        named.truncate(excess);
        // From the end, so that the places before stay what they are.
        named.sort_unstable_by(|one, other| other.cmp(one));
        let mut folded = Tally::default();
        for at in named {
            self.peers.remove(at);
            folded.add(&self.tallies.remove(at));
        }
        if excess > 0 {
            self.entry(peers.other()).add(&folded);
        }
    }

    fn entry(&mut self, peer: &Arc<Peer>) -> &mut Tally {
        let at = self.peers.binary_search(peer).unwrap_or_else(|at| {
            self.peers.insert(at, Arc::clone(peer));
            self.tallies.insert(at, Tally::default());
            at
        });
        &mut self.tallies[at]
    }

    fn named(&self) -> usize {
        self.peers.iter().filter(|peer| !peer.namespace.is_empty()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::peers::PeerBounds;

    fn peer(namespace: &str, workload: &str) -> Arc<Peer> {
        Arc::new(Peer { namespace: namespace.into(), workload: workload.into() })
    }

    fn connects(by_peer: &ByPeer) -> Vec<(&str, u64)> {
        by_peer.iter().map(|(peer, tally)| (&*peer.workload, tally.connects)).collect()
    }

    #[test]
    fn peers_beyond_the_bound_are_told_together() {
        let peers = Peers::new(PeerBounds { addresses: 10, per_container: 2 }, &[]);
        let mut by_peer = ByPeer::default();
        let told =
            [("shop", "a"), ("shop", "b"), ("shop", "c"), ("", "external"), ("shop", "a"), ("shop", "d")];
        for (namespace, workload) in told {
            by_peer.tally(&peer(namespace, workload), &peers).connects += 1;
        }
        assert_eq!(connects(&by_peer), [("external", 1), ("other", 2), ("a", 2), ("b", 1)]);
        assert_eq!(peers.folded(), 2);
    }

    #[test]
    fn sums_lose_nothing_and_folding_keeps_the_busiest() {
        let peers = Peers::new(PeerBounds { addresses: 10, per_container: 2 }, &[]);
        let mut sum = ByPeer::default();
        for (workload, count) in [("a", 1), ("b", 3), ("c", 2)] {
            let mut one = ByPeer::default();
            let tally = one.tally(&peer("shop", workload), &peers);
            tally.connects = count;
            tally.failures.insert("refused", count);
            sum.add(&one);
            sum.add(&one);
        }
        assert_eq!(connects(&sum), [("a", 2), ("b", 6), ("c", 4)]);
        sum.fold(&peers);
        assert_eq!(connects(&sum), [("other", 2), ("b", 6), ("c", 4)]);
        assert!(sum.iter().all(|(_, tally)| tally.failures["refused"] == tally.connects));
        assert_eq!(peers.folded(), 0, "these events have been shown by their names");
    }
}
