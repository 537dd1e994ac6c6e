//! The filter language: which events somebody wants.
//!
//! `namespace=shop kind in (tcp.connect, tcp.close) and (errno=ECONNREFUSED or duration>100ms) and not peer~"kube-"`
//!
//! Text goes through [`token`] (words, operators, their places) and [`parse`] (a tree of tests, each checked against
//! the table of [`field`]s and their types). [`judge`] decides with three values, so that the same tree tells whether
//! an event is wanted and whether one could be of which only a part is known: that is what the kernel can decide.

mod error;
mod expression;
mod field;
mod judge;
mod parse;
mod signal;
#[cfg(test)]
mod tests;
mod token;
mod value;

use std::fmt;

use agent_ebpf::contract::event::EventKind;

pub use self::{
    error::ParseError,
    field::{FIELDS, Field, Type, kind_names},
    judge::Circumstance,
};
use self::{
    expression::{Expression, Operator, Test},
    field::Value,
    value::Operand,
};
use crate::{
    identity::Labels,
    observation::{Detail, Observation},
};
pub use signal::signal_name;

/// The field that names system calls.
pub const SYSCALL: &str = "syscall";
/// Bytes of a filter; it is judged on the thread that reads the kernel's rings, for every event.
pub const MAX_LENGTH: usize = 8192;
/// Comparisons in a filter.
pub const MAX_TESTS: usize = 128;
/// Values of one list.
pub const MAX_VALUES: usize = 256;
/// Parentheses and `not`s within each other.
pub const MAX_DEPTH: usize = 64;

/// Which events somebody wants; the default wants all.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Expression);

impl Default for Filter {
    fn default() -> Self {
        Self(Expression::All(Vec::new()))
    }
}

impl Filter {
    /// Reads a filter; empty text wants everything.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text, &[]).map(Self)
    }

    /// Reads a filter of containers: no field but their labels.
    pub fn of_containers(text: &str) -> Result<Self, ParseError> {
        parse::parse(text, &Labels::NAMES).map(Self)
    }

    /// Wants all events of one container, but for single system calls.
    pub fn container(labels: &Labels) -> Self {
        let tests = Labels::NAMES
            .into_iter()
            .zip(labels.values())
            .filter_map(|(name, value)| Self::any_of(Field::by_name(name)?, [value]).ok());
        tests.fold(Self::default(), Self::and)
    }

    /// Whether events of this container could be wanted.
    pub fn may_want_container(&self, labels: &Labels) -> bool {
        self.may_want(&Circumstance { labels: Some(labels), ..Circumstance::default() })
    }

    /// Whether the event is wanted.
    pub fn matches(&self, observation: &Observation) -> bool {
        self.0.judge(&|field| judge::Known::of(field.read(observation))) == Some(true)
            && (observation.kind != EventKind::SyscallCall
                || matches!(&observation.detail, Detail::Call(call) if self.names_call(Some(&call.syscall))))
    }

    /// Whether an event of which no more than this is known could be wanted. What is refused here can be withheld
    /// where it happens; what isn't has to be judged when all of it is known.
    pub fn may_want(&self, circumstance: &Circumstance<'_>) -> bool {
        let may_name = || match circumstance.texts.iter().find(|(name, _)| *name == SYSCALL) {
            Some((_, None)) => false,
            Some((_, syscall)) => self.names_call(*syscall),
            None => self.names_call(None),
        };
        self.0.judge(&|field| circumstance.known(field)) != Some(false)
            && (circumstance.kind != Some(EventKind::SyscallCall) || may_name())
    }

    /// Whether a label of containers plays a part.
    pub fn looks_at_labels(&self) -> bool {
        self.0.mentions(&Labels::NAMES)
    }

    /// The kernel tells a call, other than a slow or failed one, for those who ask for it by name. It is named by a
    /// test of `syscall` that isn't negated: neither an empty filter nor `syscall!=read` asks for all calls of a node.
    fn names_call(&self, syscall: Option<&str>) -> bool {
        self.0.affirms(SYSCALL, syscall.map(Value::Text))
    }

    /// Wants calls of any name.
    pub fn any_call() -> Self {
        let test = |field| Test { field, operator: Operator::Present, operands: Vec::new() };
        Field::by_name(SYSCALL).map_or_else(Self::default, |field| Self(Expression::Test(test(field))))
    }

    /// The kinds of events that could be wanted.
    pub fn kinds(&self) -> impl Iterator<Item = EventKind> {
        let is_wanted =
            |kind: &EventKind| self.may_want(&Circumstance { kind: Some(*kind), ..Circumstance::default() });
        EventKind::ALL.into_iter().filter(is_wanted)
    }

    /// Wants what both want.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Expression::all(vec![self.0, other.0]))
    }

    /// Wants events whose field has one of these values, as text. The values are bounded by the caller.
    pub fn any_of<'v>(
        field: &'static Field,
        values: impl IntoIterator<Item = &'v str>,
    ) -> Result<Self, String> {
        let operand = |text| Operand::parse(field, text).map_err(|invalid| invalid.message);
        let operands = values.into_iter().map(operand).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Expression::Test(Test::equals(field, operands))))
    }
}

/// The filter in its usual notation, which reads as the same.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
