//! What a field is compared with: read once, according to the field's type.

use std::{cmp::Ordering, fmt, net::IpAddr};

use agent_ebpf::contract::{event::EventKind, syscalls::NUMBERS};
use regex::{Regex, RegexBuilder};

use super::{
    error::nearest,
    field::{Field, Type, Value, kind_names, sensor},
    signal::{SIGNALS, signal_name},
};
use crate::{
    identity::peers::Network,
    sensor::syscalls::{errno_name, name, number},
};

/// Bytes that a compiled pattern may take.
const PATTERN_SIZE: usize = 256 << 10;
/// Errors are told apart up to here, those that the kernel uses inside included.
const ERRNOS: u32 = 600;

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Text(String),
    /// A kind or a sensor, and what it stands for.
    Kinds(String, Vec<EventKind>),
    Number(i64),
    Signal(i64),
    Nanoseconds(u64),
    Bytes(i64),
    Errno(&'static str),
    Address(IpAddr),
    Network(Network),
    Flag(bool),
    Pattern(Box<Regex>),
}

/// Why a value is refused.
pub(super) struct Invalid {
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl Invalid {
    fn new(text: &str, field: &Field) -> Self {
        let message =
            format!("`{}` is no value for `{}`: {}", text.escape_debug(), field.name, field.kind.article());
        Self { message, suggestion: None }
    }
}

impl Operand {
    pub(super) fn parse(field: &Field, text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(text, field);
        let suggest =
            |names: &mut dyn Iterator<Item = &'static str>| nearest(text, names).map(ToOwned::to_owned);
        Ok(match field.kind {
            Type::Text => Self::Text(text.into()),
            Type::Kind => {
                kinds(text).ok_or_else(|| Invalid { suggestion: suggest(&mut kind_names()), ..invalid() })?
            }
            Type::Number => Self::Number(text.parse().map_err(|_| invalid())?),
            Type::Duration => Self::Nanoseconds(nanoseconds(text).ok_or_else(invalid)?),
            Type::Bytes => Self::Bytes(bytes(text).ok_or_else(invalid)?),
            Type::Errno => Self::Errno(errno(text).ok_or_else(|| {
                let suggestion = suggest(&mut (1..ERRNOS).filter_map(errno_name));
                Invalid { suggestion, ..invalid() }
            })?),
            Type::Syscall if number(text).is_some() => Self::Text(text.into()),
            Type::Syscall => {
                let names: Vec<_> = (0..NUMBERS as u32).map(name).collect();
                let suggestion = nearest(text, names.iter().map(String::as_str)).map(ToOwned::to_owned);
                return Err(Invalid { suggestion, ..invalid() });
            }
            Type::Signal => Self::Signal(signal(text).ok_or_else(|| {
                let suggestion = suggest(&mut SIGNALS.iter().map(|(name, _)| *name));
                Invalid { suggestion, ..invalid() }
            })?),
            Type::Address => match (text.parse::<IpAddr>(), text.parse()) {
                (Ok(address), _) => Self::Address(address.to_canonical()),
                (_, Ok(network)) => Self::Network(network),
                (_, Err(reason)) => {
                    return Err(Invalid {
                        message: format!("`{}` {reason}", text.escape_debug()),
                        ..invalid()
                    });
                }
            },
            Type::Flag => Self::Flag(text.parse().map_err(|_| invalid())?),
        })
    }

    pub(super) fn pattern(text: &str) -> Result<Self, Invalid> {
        let regex = RegexBuilder::new(text).size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build();
        regex.map(|regex| Self::Pattern(Box::new(regex))).map_err(|error| {
            let reason = match &error {
                regex::Error::CompiledTooBig(_) => "it needs too much memory".to_owned(),
                // The last line says what is wrong; those before show where, as we do.
                error => {
                    error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").into()
                }
            };
            let message = format!("`{}` is no regular expression: {reason}", text.escape_debug());
            Invalid { message, suggestion: None }
        })
    }

    pub(super) fn equals(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(wanted), Value::Text(text)) => wanted == text,
            (Self::Text(wanted), Value::Named(peer)) => wanted
                .split_once('/')
                .is_some_and(|(namespace, name)| namespace == &*peer.namespace && name == &*peer.workload),
            (Self::Kinds(_, kinds), Value::Kind(kind)) => kinds.contains(&kind),
            (Self::Errno(wanted), Value::Text(errno)) => *wanted == errno,
            (Self::Address(wanted), Value::Address(address)) => *wanted == address.to_canonical(),
            (Self::Network(network), Value::Address(address)) => network.contains(address),
            (Self::Flag(wanted), Value::Flag(flag)) => *wanted == flag,
            _ => self.compare(value) == Some(Ordering::Equal),
        }
    }

    /// How the event's value stands to this one.
    pub(super) fn compare(&self, value: Value<'_>) -> Option<Ordering> {
        match (self, value) {
            (Self::Number(wanted) | Self::Signal(wanted) | Self::Bytes(wanted), Value::Number(number)) => {
                Some(number.cmp(wanted))
            }
            // Divided as the event's nanoseconds were.
            (Self::Nanoseconds(wanted), Value::Seconds(seconds)) => {
                seconds.partial_cmp(&(*wanted as f64 / 1e9))
            }
            _ => None,
        }
    }

    /// Whether the pattern is found in the value.
    pub(super) fn finds(&self, value: Value<'_>) -> bool {
        let Self::Pattern(pattern) = self else { return false };
        match value {
            Value::Text(text) => pattern.is_match(text),
            Value::Named(peer) => pattern.is_match(&format!("{}/{}", peer.namespace, peer.workload)),
            Value::Kind(kind) => pattern.is_match(kind.name()),
            Value::Number(_) | Value::Seconds(_) | Value::Address(_) | Value::Flag(_) => false,
        }
    }
}

impl PartialEq for Operand {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::Kinds(_, one), Self::Kinds(_, two)) => one == two,
            (Self::Number(one), Self::Number(two))
            | (Self::Signal(one), Self::Signal(two))
            | (Self::Bytes(one), Self::Bytes(two)) => one == two,
            (Self::Nanoseconds(one), Self::Nanoseconds(two)) => one == two,
            (Self::Errno(one), Self::Errno(two)) => one == two,
            (Self::Address(one), Self::Address(two)) => one == two,
            (Self::Network(one), Self::Network(two)) => one == two,
            (Self::Flag(one), Self::Flag(two)) => one == two,
            (Self::Pattern(one), Self::Pattern(two)) => one.as_str() == two.as_str(),
            _ => false,
        }
    }
}

/// As it can be read again; quotes are added where it needs them.
impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Kinds(text, _) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Signal(number) => match i32::try_from(*number).ok().and_then(signal_name) {
                Some(name) => f.write_str(name),
                None => number.fmt(f),
            },
            Self::Nanoseconds(0) => f.write_str("0s"),
            Self::Nanoseconds(nanoseconds) => write_in(f, *nanoseconds, &TIME),
            Self::Bytes(bytes) => write_in(f, bytes.unsigned_abs(), &BINARY),
            Self::Errno(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Pattern(pattern) => f.write_str(pattern.as_str()),
        }
    }
}

/// What `tcp.connect`, `tcp` or `tcp.*` means.
fn kinds(text: &str) -> Option<Operand> {
    let wanted = text.strip_suffix(".*").unwrap_or(text);
    let is_wanted = |kind: &EventKind| kind.name() == text || sensor(*kind) == wanted;
    let kinds: Vec<_> = EventKind::ALL.into_iter().filter(is_wanted).collect();
    (!kinds.is_empty()).then(|| Operand::Kinds(text.into(), kinds))
}

/// Second names of errors (include/uapi/asm-generic/errno.h, and EOPNOTSUPP as the C library has it).
const ALIASES: [(&str, &str); 3] =
    [("ENOTSUP", "EOPNOTSUPP"), ("EWOULDBLOCK", "EAGAIN"), ("EDEADLOCK", "EDEADLK")];

fn errno(text: &str) -> Option<&'static str> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == text);
    let text = alias.map_or(text, |(_, name)| name);
    match text.parse() {
        Ok(number) => (1..ERRNOS).contains(&number).then(|| errno_name(number)).flatten(),
        Err(_) => (1..ERRNOS).filter_map(errno_name).find(|name| *name == text),
    }
}

fn signal(text: &str) -> Option<i64> {
    let named = SIGNALS.iter().find(|(name, _)| *name == text || name.strip_prefix("SIG") == Some(text));
    match named {
        Some((_, number)) => Some((*number).into()),
        None => text.parse().ok().filter(|number| (1..=64).contains(number)),
    }
}

/// Units of one dimension, the largest first.
type Units = [(&'static str, u64)];

const TIME: [(&str, u64); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];
const BINARY: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];
/// As Kubernetes writes quantities, and the usual ways besides.
const SIZE: [(&str, u64); 16] = [
    ("Ti", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("GB", 1_000_000_000),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("MB", 1_000_000),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("KB", 1_000),
    ("kB", 1_000),
    ("K", 1_000),
    ("k", 1_000),
    ("B", 1),
    ("", 1),
];

/// Without a unit, seconds: as JSON has them.
fn nanoseconds(text: &str) -> Option<u64> {
    if text.ends_with(|char: char| char.is_ascii_digit()) {
        return amount(text, 1_000_000_000);
    }
    quantity(text, &TIME)
}

fn bytes(text: &str) -> Option<i64> {
    let bytes = quantity(text, &BINARY).or_else(|| quantity(text, &SIZE))?;
    i64::try_from(bytes).ok()
}

fn quantity(text: &str, units: &Units) -> Option<u64> {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    amount(number, *factor)
}

/// `1.5` times the factor, if that is a whole number.
fn amount(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let part = part.trim_end_matches('0');
    let scale = 10u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let sum =
        whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(part)?.checked_mul(factor.into())?;
    (sum % scale == 0).then(|| u64::try_from(sum / scale).ok()).flatten()
}

/// In the largest unit that leaves a whole number.
fn write_in(f: &mut fmt::Formatter<'_>, amount: u64, units: &Units) -> fmt::Result {
    let fits = |(_, factor): &&(&str, u64)| amount != 0 && amount.is_multiple_of(*factor);
    match units.iter().find(fits) {
        Some((unit, factor)) => write!(f, "{}{unit}", amount / factor),
        None => write!(f, "{amount}"),
    }
}
