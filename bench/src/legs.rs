//! Legs in turns: the same work with this attached, with that, and with nothing in between.

use std::time::Duration;

use anyhow::Result;

use crate::{
    Options,
    peers::{Peer, present},
    report::{Row, Target},
    statistics::Quartiles,
    worker::Worker,
};

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
    /// What a leg has added, round by round; nothing if there was no such leg.
    pub(crate) fn of(&self, name: &str) -> &[f64] {
        self.added.iter().find(|added| added.name == name).map_or(&[], |added| &added.ns)
    }
}

/// What a bench has found: the legs by themselves, and in longer legs beside peers, if those were wanted.
pub(crate) struct Found {
    pub(crate) alone: Rounds,
    beside: Option<Rounds>,
    /// Peers that are missing or were left out.
    pub(crate) notes: Vec<String>,
}

impl Found {
    /// A row for each peer that was measured: which part of its cost the leg `ours` is, with what that may be.
    pub(crate) fn beside<'a>(
        &'a self,
        whose: &'a str,
        ours: &'a str,
        peers: &'a [(Peer, Option<Target>)],
    ) -> impl Iterator<Item = Row> {
        let both = move |rounds: &'a Rounds, peer: &Peer| (rounds.of(peer.name), rounds.of(ours));
        let row = move |rounds, (peer, target): &(Peer, Option<Target>)| {
            let (its, ours) = both(rounds, peer);
            (!its.is_empty()).then(|| Row::peer(peer.name, its, whose, ours, *target))
        };
        self.beside.iter().flat_map(move |rounds| peers.iter().filter_map(move |peer| row(rounds, peer)))
    }
}

/// Runs the legs by themselves, then beside those peers that there are.
pub(crate) fn run_all(
    worker: &mut Worker,
    legs: &mut [Leg<'_>],
    options: &Options,
    length: Duration,
    peer_length: Duration,
    peers: &[(Peer, Option<Target>)],
) -> Result<Found> {
    let alone = run(worker, legs, options.rounds, length)?;
    let (mut beside, mut notes) = (None, Vec::new());
    if options.peers {
        let (there, missing) = present(peers.iter().map(|(peer, _)| *peer));
        let (rounds, failed) = run_with_peers(worker, legs, &there, peer_length)?;
        beside = Some(rounds);
        notes.extend(missing.into_iter().chain(failed));
    }
    Ok(Found { alone, beside, notes })
}

/// Into how many slices a leg is cut. Those of all legs take turns: a machine that is shared changes its speed within
/// milliseconds, and is to do so for all of them alike.
const SLICES: u32 = 10;

/// Each round runs every leg, a slice of it between two bare ones, beginning with another leg each time.
fn run(worker: &mut Worker, legs: &mut [Leg<'_>], rounds: usize, length: Duration) -> Result<Rounds> {
    let length = length / SLICES;
    let mut bare = Vec::new();
    let mut added: Vec<_> =
        legs.iter().map(|leg| Added { name: leg.name.clone(), ns: vec![0.0; rounds] }).collect();
    // Warms up what the first leg would otherwise find cold.
    worker.leg(length)?;
    for round in 0..rounds {
        for slice in 0..SLICES as usize {
            let mut before = worker.leg(length)?;
            bare.push(before);
            for turn in 0..legs.len() {
                let at = (round + slice + turn) % legs.len();
                let leg = &mut legs[at];
                (leg.switch)(true)?;
                let with = worker.leg(length);
                (leg.switch)(false)?;
                let after = worker.leg(length)?;
                added[at].ns[round] += (with? - f64::midpoint(before, after)) / f64::from(SLICES);
                bare.push(after);
                before = after;
            }
        }
    }
    Ok(Rounds { bare, added })
}

/// Rounds with peers in them: each takes seconds to start, so there are few.
const PEER_ROUNDS: usize = 5;

/// The same with peers, which are started for each of their legs. A peer that fails is left out from then on, with
/// a note.
fn run_with_peers(
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
