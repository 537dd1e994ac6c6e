//! Live: what is observed goes out, a JSON line each, to whoever reads right now.
//!
//! The [`Hub`] stands between the thread that reads the kernel's rings and the readers. Every reader has a queue
//! of its own with a bound: one that reads too slowly loses its oldest events and is told how many; nobody else
//! notices. What its [`Filter`] refuses never enters a queue, so a narrow filter stays complete in a storm.

mod demand;
mod filter;
mod hub;
mod json;
mod notice;
mod queue;
#[cfg(test)]
pub(crate) mod testing;

pub use demand::{Demand, plan};
pub use filter::{Filter, FilterError};
pub use hub::{Hub, Subscription, TooManyClients};
pub use notice::Notice;

pub(crate) use json::to_line;
