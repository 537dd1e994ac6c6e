//! What options may be that are a word of a few, and bounds that several share.

use std::time::Duration;

use agent_ebpf::contract::syscalls::Mode;
use tracing::Level;

use super::model::{Compression, Protocol, SyscallsHook};
use crate::identity::{Wanted, names::kubernetes};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86400);
pub(super) const POLL_MAX: Duration = Duration::from_secs(1);
pub(super) const SYSCALLS_HOOKS: &[(&str, SyscallsHook)] = &[
    ("auto", SyscallsHook::Auto),
    ("btf", SyscallsHook::Btf),
    ("classic", SyscallsHook::Classic),
    ("raw", SyscallsHook::Raw),
];
pub(super) const HIERARCHIES: &[(&str, Wanted)] =
    &[("auto", Wanted::Auto), ("v2", Wanted::V2), ("memory", Wanted::Memory)];

pub(super) const SYSCALLS_MODES: &[(&str, Mode)] =
    &[("counts", Mode::Counts), ("default", Mode::Default), ("full", Mode::Full)];
pub(super) const OTLP_PROTOCOLS: &[(&str, Protocol)] =
    &[("http/protobuf", Protocol::Http), ("grpc", Protocol::Grpc)];
pub(super) const OTLP_COMPRESSIONS: &[(&str, Compression)] =
    &[("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];
pub(super) const MODES: &[(&str, kubernetes::Mode)] =
    &[("auto", kubernetes::Mode::Auto), ("on", kubernetes::Mode::On), ("off", kubernetes::Mode::Off)];
pub(super) const LEVELS: &[(&str, Level)] =
    &[("error", Level::ERROR), ("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG)];
