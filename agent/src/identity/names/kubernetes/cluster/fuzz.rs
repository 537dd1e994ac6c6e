//! Any bytes as what the Kubernetes API says of addresses.

use super::{
    super::{
        super::lines::Lines,
        object::{Event, List},
    },
    ORIGINS, Object,
};
use crate::identity::peers::{PeerBounds, Peers};

/// Longest line of a watch.
const LONGEST: usize = 1 << 16;
/// Addresses that there is room for.
const ADDRESSES: usize = 8;

/// A page of a list and the lines of a watch, of any kind of object.
pub(crate) fn answers(bytes: &[u8]) {
    let peers = Peers::new(PeerBounds { addresses: ADDRESSES, per_container: 0 }, &[]);
    for origin in ORIGINS {
        if let Ok(list) = serde_json::from_slice::<List<Object>>(bytes) {
            let claim = |object: Object| Some((object.claim(origin)?, object.metadata.uid));
            let claims = list.into_objects().0.into_iter().filter_map(claim);
            peers.replace(origin, claims.map(|(claim, uid)| (uid, claim)).collect());
        }
        let mut lines = Lines::new(LONGEST);
        lines.push(bytes);
        while let Some(line) = lines.next() {
            match line.map(Event::<Object>::parse) {
                Ok(Ok(Event::Put(object))) => {
                    if let Some(claim) = object.claim(origin) {
                        peers.put(origin, &object.metadata.uid, &claim);
                    }
                }
                Ok(Ok(Event::Gone(object))) => peers.remove(origin, &object.metadata.uid),
                _ => {}
            }
        }
        assert!(peers.addresses() <= ADDRESSES, "{} addresses", peers.addresses());
    }
}
