//! The kernel half's library: what the programs in the kernel and the agent in user space agree on.
//!
//! Plain data and pure functions, compiled for both sides and tested on the host. Everything that crosses
//! the border is `#[repr(C)]` without implicit padding; numbers, once given out, are never reused.

#![no_std]
#![forbid(unsafe_code)]

pub mod contract;
