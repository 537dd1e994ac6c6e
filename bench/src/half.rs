//! The agent's own kernel half, loaded in this process by the agent's own code, so that attaching and detaching it
//! takes less than a millisecond.

use std::{ffi::OsString, io, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use podwitness::{
    app, cli,
    config::Config,
    identity::Tree,
    kernel::{Loaded, Rings, Running, Slots},
    sensor::State,
};

/// A kernel half that was loaded for one configuration.
pub(crate) struct Half {
    config: Config,
    running: Running,
    /// Until somebody reads them.
    rings: Option<Rings>,
    /// Holds maps that the programs use.
    _slots: Slots,
}

impl Half {
    /// Loads the kernel half for these flags of the agent, and leaves it detached. `None` if this agent doesn't know
    /// the flags.
    pub(crate) fn load(flags: &[String]) -> Result<Option<Self>> {
        let words = ["podwitness"].into_iter().chain(flags.iter().map(String::as_str)).map(OsString::from);
        let Ok(invocation) = cli::parse(words) else { return Ok(None) };
        let Ok((config, _)) = Config::load(&invocation.flags, []) else { return Ok(None) };
        let tree = Tree::find(config.identity.hierarchy)?;
        let Loaded { kernel, rings, slots, .. } = app::load(&config, tree.hierarchy(), app::NO_LISTENERS)?;
        let (mut running, sensors) = kernel.attach(|sensor| app::is_enabled(&config, sensor));
        for (sensor, state) in sensors {
            if matches!(state, State::Unsupported { .. } | State::Degraded { .. }) {
                bail!("the sensor {} is {}: {}", sensor.name(), state.name(), state.reason());
            }
        }
        running.run_only(|_| false).map_err(|reason| anyhow!(reason)).context("detach the agent")?;
        Ok(Some(Self { config, running, rings: Some(rings), _slots: slots }))
    }

    /// Attaches what the configuration wants, or detaches everything.
    pub(crate) fn switch(&mut self, on: bool) -> Result<()> {
        let Self { config, running, .. } = self;
        let outcome = running.run_only(|sensor| on && app::is_enabled(config, sensor));
        outcome.map_err(|reason| anyhow!(reason)).context("switch the agent")
    }

    /// The reader's end, apart from the rest: somebody reads while another one switches.
    pub(crate) fn apart(mut self) -> Result<(Ringside, Self)> {
        let rings = self.rings.take().context("the rings are read already")?;
        Ok((Ringside { rings, poll: self.config.ring.poll_max }, self))
    }
}

/// Who reads the rings as the agent's reader does while nobody watches.
pub(crate) struct Ringside {
    rings: Rings,
    poll: Duration,
}

impl Ringside {
    /// Waits, and takes out what has come: how many records.
    pub(crate) fn read(&mut self) -> io::Result<u64> {
        self.rings.wait(self.poll)?;
        self.take()
    }

    /// Takes out what is there, and does nothing with it: how many records.
    pub(crate) fn take(&mut self) -> io::Result<u64> {
        self.rings.drain(u64::MAX, |record, _| {
            std::hint::black_box(record);
        })
    }
}
