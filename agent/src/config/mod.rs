//! Configuration: from defaults, a YAML file, the environment and flags to one validated [`Config`].
//!
//! ```text
//! OPTIONS, the table ─┬─ file ▸ environment ▸ flags ─▸ load ─┬─▸ Config     what the agent does
//!                     │                                      └─▸ Effective  who said so (`podwitness config`)
//!                     └─ help of the command line, docs/configuration.md
//! ```
//!
//! A new option is a row in the table and a field in `model`.

mod check;
mod choices;
mod effective;
mod environment;
mod error;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod kind;
mod load;
mod markdown;
mod model;
mod options;
mod spec;
mod standard;
pub(crate) mod text;
mod yaml;

#[cfg(test)]
mod tests;

pub use effective::{Effective, EffectiveValue};
pub use error::{ConfigError, ConfigErrors, Origin, Problem};
pub use load::Flags;
pub use markdown::markdown;
pub use model::{
    Compression, Config, DebugConfig, EventsConfig, IdentityConfig, LimitsConfig, LogConfig, MetricsConfig,
    ModeByNamespace, ObserveConfig, OtlpConfig, Protocol, RingConfig, SensorsConfig, SocketChoice,
    SyscallsHook,
};
pub use options::OPTIONS;
pub use spec::OptionSpec;
pub use standard::is_standard;

use std::time::Duration;

/// Reads a duration in the notation that options have, for flags which are no options.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    kind::parse_duration(text).map_err(|kind::Invalid(why)| why)
}
