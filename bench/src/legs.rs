//! Legs in turns: the same work with this attached, with that, and with nothing in between.

use std::time::Duration;

use anyhow::Result;

use crate::worker::Worker;

/// Long enough for a hundred chunks, short enough that the machine doesn't change meanwhile.
pub(crate) const LEG: Duration = Duration::from_millis(10);

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
pub(crate) fn run(worker: &mut Worker, legs: &mut [Leg<'_>], rounds: usize) -> Result<Rounds> {
    let mut bare = Vec::new();
    let mut added: Vec<_> =
        legs.iter().map(|leg| Added { name: leg.name.clone(), ns: Vec::with_capacity(rounds) }).collect();
    // Warms up what the first leg would otherwise find cold.
    worker.leg(LEG)?;
    for round in 0..rounds {
        let mut before = worker.leg(LEG)?;
        bare.push(before);
        for turn in 0..legs.len() {
            let at = (round + turn) % legs.len();
            let leg = &mut legs[at];
            (leg.switch)(true)?;
            let with = worker.leg(LEG);
            (leg.switch)(false)?;
            let after = worker.leg(LEG)?;
            added[at].ns.push(with? - f64::midpoint(before, after));
            bare.push(after);
            before = after;
        }
    }
    Ok(Rounds { bare, added })
}
