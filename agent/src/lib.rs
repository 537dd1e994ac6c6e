//! podwitness: an eBPF observability agent for Kubernetes nodes, plain servers and laptops.
//!
//! Data goes one way: [`kernel`] reads bytes, [`sensor`] decodes them, [`identity`] knows whose they are, the
//! [`ledger`] books them, [`metrics`] and [`live`] show them, [`otlp`] sends them. A lower layer never imports a higher one.

#![deny(unsafe_code)]
// Nobody's input ends the agent: what can't happen says so where it stands.
#![warn(clippy::expect_used, clippy::unwrap_used)]

pub mod app;
mod backoff;
pub mod catalogue;
mod causes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod exemplar;
pub mod filter;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod harmless;
pub mod http;
pub mod identity;
#[expect(unsafe_code, reason = "the border to the kernel: each block has its SAFETY note")]
pub mod kernel;
pub mod ledger;
pub mod live;
pub mod looks;
pub mod metrics;
pub mod mistake;
mod mixer;
pub mod observation;
pub mod otlp;
pub mod outlets;
pub mod reader;
pub mod recording;
pub mod remote;
mod room;
pub mod scrape;
pub mod sensor;
mod state;
pub mod tail;
pub mod top;
pub mod watch;
pub mod why;
mod writer;
