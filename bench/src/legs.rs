//! Legs in turns: the same work with this attached, with that, and with nothing in between.

use std::time::Duration;

use anyhow::Result;

use crate::{peers::Peer, statistics::Quartiles, worker::Worker};

/// Something that can be attached and detached.
pub(crate) struct Leg<'a> {
    pub(crate) name: String,
    pub(crate) switch: Box<dyn FnMut(bool) -> Result<()> + 'a>,
}

/// What one leg added to the work, a figure per round.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    pub(crate) name: String,
    pub(crate) ns: Vec<f64>,
}

/// What the rounds have found.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Nanoseconds of the bare work.
    pub(crate) bare: Vec<f64>,
    /// In the order of the legs.
    pub(crate) added: Vec<Added>,
}

impl Rounds {
    pub(crate) fn of(&self, name: &str) -> Option<&Added> {
        self.added.iter().find(|added| added.name == name)
    }
}

/// Each round runs every leg between two bare ones, beginning with another leg each time.
pub(crate) fn run(
    worker: &mut Worker,
    legs: &mut [Leg<'_>],
    rounds: usize,
    length: Duration,
) -> Result<Rounds> {
    let mut bare = Vec::new();
    let mut added: Vec<_> =
        legs.iter().map(|leg| Added { name: leg.name.clone(), ns: Vec::with_capacity(rounds) }).collect();
    // Warms up what the first leg would otherwise find cold.
    worker.leg(length)?;
    for round in 0..rounds {
        let mut before = worker.leg(length)?;
        bare.push(before);
        for turn in 0..legs.len() {
            let at = (round + turn) % legs.len();
            let leg = &mut legs[at];
            (leg.switch)(true)?;
            let with = worker.leg(length);
            (leg.switch)(false)?;
            let after = worker.leg(length)?;
            added[at].ns.push(with? - f64::midpoint(before, after));
            bare.push(after);
            before = after;
        }
    }
    Ok(Rounds { bare, added })
}

/// Rounds with peers in them: each takes seconds to start, so there are few.
pub(crate) const PEER_ROUNDS: usize = 5;

/// The same with peers, which are started for each of their legs. A peer that fails is left out from then on, with
/// a note.
pub(crate) fn run_with_peers(
    worker: &mut Worker,
    legs: &mut [Leg<'_>],
    peers: &[Peer],
    length: Duration,
) -> Result<(Rounds, Vec<String>)> {
    let mut rounds = Rounds { bare: Vec::new(), added: Vec::new() };
    let names = legs.iter().map(|leg| leg.name.clone()).chain(peers.iter().map(|peer| peer.name.to_owned()));
    rounds.added.extend(names.map(|name| Added { name, ns: Vec::new() }));
    let mut notes = Vec::new();
    let mut failed = vec![false; peers.len()];
    for round in 0..PEER_ROUNDS {
        eprintln!("round {} of {PEER_ROUNDS} with peers", round + 1);
        let own = run(worker, legs, 1, length)?;
        let bare = Quartiles::of(own.bare.iter().copied()).median;
        rounds.bare.extend(own.bare);
        for (at, added) in own.added.into_iter().enumerate() {
            rounds.added[at].ns.extend(added.ns);
        }
        for (at, peer) in peers.iter().enumerate().filter(|(at, _)| !failed[*at]).collect::<Vec<_>>() {
            match peer.leg(worker, bare, length) {
                Ok(with) => {
                    let after = worker.leg(length)?;
                    rounds.added[legs.len() + at].ns.push(with - f64::midpoint(bare, after));
                }
                Err(error) => {
                    failed[at] = true;
                    notes.push(format!("{}: left out, {error:#}.", peer.name));
                }
            }
        }
    }
    Ok((rounds, notes))
}
