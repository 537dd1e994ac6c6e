//! What Prometheus sees: the accounts of the containers, and the agent's own figures.
//!
//! A scrape takes the figures, which is quick and happens under the ledger's lock, as [`Page`]; its text is written
//! while it is sent.

mod agent;
mod bounds;
mod budget;
mod detail;
mod kernel_stats;
mod labels;
mod listeners;
mod names;
mod otlp;
mod page;
mod peers;
mod programs;
mod proto;
pub mod reference;
#[cfg(test)]
mod tests;
mod text;

pub use agent::{Agent, Figures};
pub use bounds::Bounds;
pub use detail::Detail;
pub use kernel_stats::{KernelStats, Outcome};
pub use page::{Base, Filling, Page, Unit};
pub use programs::Programs;

use std::sync::{Arc, Mutex, PoisonError};

use self::{budget::Budget, labels::Bases, proto::Messages, text::Lines};
use crate::http::{Exposition, Format, RenderError, Text};

/// Makes pages from one source of figures.
pub struct Exporter {
    agent: Arc<Agent>,
    memory: Mutex<Memory>,
}

/// What is kept from one page to the next.
struct Memory {
    bases: Bases,
    budget: Budget,
}

impl Exporter {
    pub fn new(agent: Arc<Agent>) -> Self {
        let bases = Bases::new(agent.figures.detail);
        let memory = Memory { bases, budget: Budget::new(agent.figures.series_limit) };
        Self { agent, memory: Mutex::new(memory) }
    }
}

impl Exposition for Exporter {
    fn render(&self, format: Format) -> Result<Text, RenderError> {
        let page = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let Memory { bases, budget } = &mut *memory;
            let page = Arc::new(self.agent.page(bases, budget));
            budget.remember(&page);
            page
        };
        Ok(match format {
            Format::Protobuf => Box::new(Messages::new(page)),
            Format::Text | Format::OpenMetrics => Box::new(Lines::new(page, format)),
        })
    }
}
