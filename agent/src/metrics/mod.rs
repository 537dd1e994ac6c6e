//! What Prometheus sees: the accounts of the containers, and the agent's own figures.
//!
//! A scrape takes the figures, which is quick and happens under the ledger's lock, as [`Page`]; its text is written
//! while it is sent.

mod agent;
mod kernel_stats;
mod labels;
mod names;
mod page;
mod peers;
mod programs;
#[cfg(test)]
mod tests;
mod text;

pub use agent::{Agent, Figures};
pub use kernel_stats::{KernelStats, Outcome};
pub use page::{Base, Filling, Page, Unit};
pub use programs::Programs;

use std::sync::{Arc, Mutex, PoisonError};

use self::{labels::Bases, text::Lines};
use crate::http::{Exposition, Format, RenderError, Text};

/// Makes pages from one source of figures.
pub struct Exporter {
    agent: Arc<Agent>,
    bases: Mutex<Bases>,
}

impl Exporter {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, bases: Mutex::default() }
    }
}

impl Exposition for Exporter {
    fn render(&self, format: Format) -> Result<Text, RenderError> {
        let page = {
            let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
            self.agent.page(&mut bases)
        };
        Ok(Box::new(Lines::new(page, format)))
    }
}
