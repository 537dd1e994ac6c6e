//! Live: what is observed goes out, a JSON line each, to whoever reads right now.
//!
//! The [`Hub`] stands between the thread that reads the kernel's rings and the readers. Every reader has a queue
//! of its own with a bound: one that reads too slowly loses its oldest events and is told how many; nobody else
//! notices. What its [`Filter`](crate::filter::Filter) refuses never enters a queue, so a narrow filter stays complete in a storm.

mod deaths;
mod demand;
mod hub;
mod json;
mod notice;
mod parameters;
mod query;
mod queue;
mod replay;
mod schema;
#[cfg(test)]
pub(crate) mod testing;

pub use deaths::is_death;
pub use demand::{Demand, plan};
pub use hub::{Hub, Line, Subscription, TooManyClients};
pub use notice::Notice;
pub use parameters::{Form, Parameter, fields, parameters};
pub use query::{Format, Query, QueryError};
pub use replay::{EventId, NoEventId, Start};

pub use schema::{deaths, schema};

pub(crate) use json::to_line;
