//! Live: what is observed goes out, a JSON line each, to whoever reads right now.
//!
//! The [`Hub`] stands between the thread that reads the kernel's rings and the readers. Every reader has a queue
//! of its own with a bound: one that reads too slowly loses its oldest events and is told how many; nobody else
//! notices. What its [`Filter`](crate::filter::Filter) refuses never enters a queue, so a narrow filter stays complete in a storm.

mod hub;
mod json;
mod notice;
mod query;
mod queue;
#[cfg(test)]
pub(crate) mod testing;

pub use hub::{Hub, Subscription, TooManyClients};
pub use notice::Notice;
pub use query::{Query, QueryError};

pub(crate) use json::to_line;
