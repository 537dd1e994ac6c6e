//! The addresses of this machine, which come and go with its interfaces.

use std::{sync::Arc, time::Duration};

use super::{Claim, Origin, Peers};
use crate::kernel::local_addresses;

/// Keeps the addresses of the agent's network namespace up to date: those of the node, if the agent runs in its
/// network. Goes on until it is dropped.
pub async fn keep_own(peers: Arc<Peers>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        peers.put(Origin::Own, "", &Claim::node(local_addresses(), Vec::new()));
    }
}
