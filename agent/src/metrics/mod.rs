//! What Prometheus sees: the accounts of the containers, and the agent's own figures.

mod agent;
mod kernel_stats;
mod names;
mod otlp;
mod page;
mod peers;
mod programs;
mod text;

pub use agent::{Agent, Figures};
pub use kernel_stats::{KernelStats, Outcome};
pub use page::Page;
pub use programs::Programs;

use std::sync::Arc;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use crate::http::{Exposition, Format, RenderError};

/// Renders the page from one source of figures.
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    pub fn new(agent: Arc<Agent>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Source(agent)));
        Self { registry }
    }
}

impl Exposition for Exporter {
    fn render(&self, format: Format) -> Result<String, RenderError> {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => page,
            Format::Text => text::prometheus(&page),
        })
    }
}

struct Source(Arc<Agent>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.0.expose(&mut Page::new(encoder))
    }
}
