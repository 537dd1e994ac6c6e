//! Whether a tree wants an event: yes, no, or not to be told yet.

use agent_ebpf::contract::event::EventKind;

use super::{
    expression::{Expression, Operator, Test},
    field::{Field, Value},
};
use crate::identity::Labels;

/// What is known of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'o> {
    Value(Value<'o>),
    /// The event has no such field.
    Absent,
    Unknown,
}

impl<'o> Known<'o> {
    pub(super) fn of(value: Option<Value<'o>>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

/// What is known of an event before all of it is: in the kernel, or before anything has happened at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstance<'c> {
    pub kind: Option<EventKind>,
    /// Of the container it belongs to.
    pub labels: Option<&'c Labels>,
    /// Fields of text by name, such as `errno`; with no value, it is known that the event has none.
    pub texts: &'c [(&'c str, Option<&'c str>)],
}

impl<'c> Circumstance<'c> {
    pub(super) fn known(&self, field: &'static Field) -> Known<'c> {
        if let Some((_, text)) = self.texts.iter().find(|(name, _)| *name == field.name) {
            return Known::of(text.map(Value::Text));
        }
        if let Some(labels) = self.labels
            && let Some(at) = Labels::NAMES.iter().position(|name| *name == field.name)
        {
            return Known::Value(Value::Text(labels.values()[at]));
        }
        match self.kind {
            Some(kind) if field.name == "kind" => Known::Value(Value::Kind(kind)),
            Some(kind) if !field.is_of(kind) => Known::Absent,
            _ => Known::Unknown,
        }
    }
}

impl Expression {
    /// `None` where it depends on what isn't known.
    pub(super) fn judge<'o>(&self, read: &impl Fn(&'static Field) -> Known<'o>) -> Option<bool> {
        match self {
            Self::All(parts) => decide(parts, false, read),
            Self::Any(parts) => decide(parts, true, read),
            Self::Not(part) => part.judge(read).map(|wanted| !wanted),
            Self::Test(test) => match read(test.field) {
                Known::Value(value) => Some(test.holds(value)),
                Known::Absent => Some(false),
                Known::Unknown => None,
            },
        }
    }
}

impl Expression {
    /// Whether a test of the field that isn't negated holds; with no value, whether there is such a test.
    pub(super) fn affirms(&self, field: &str, value: Option<Value<'_>>) -> bool {
        self.has_test(false, &|test, is_negated| {
            !is_negated && test.field.name == field && value.is_none_or(|value| test.holds(value))
        })
    }

    /// Whether one of the fields is tested at all.
    pub(super) fn mentions(&self, fields: &[&str]) -> bool {
        self.has_test(false, &|test, _| fields.contains(&test.field.name))
    }

    fn has_test(&self, is_negated: bool, wanted: &impl Fn(&Test, bool) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.has_test(is_negated, wanted)),
            Self::Not(part) => part.has_test(!is_negated, wanted),
            Self::Test(test) => wanted(test, is_negated),
        }
    }
}

/// The first part that gives `decisive` decides; else it is the opposite, if all parts are known.
fn decide<'o>(
    parts: &[Expression],
    decisive: bool,
    read: &impl Fn(&'static Field) -> Known<'o>,
) -> Option<bool> {
    let mut all_known = true;
    for part in parts {
        match part.judge(read) {
            Some(wanted) if wanted == decisive => return Some(decisive),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!decisive)
}

impl Test {
    fn holds(&self, value: Value<'_>) -> bool {
        let compares = |wanted: fn(std::cmp::Ordering) -> bool| {
            self.operands.iter().any(|operand| operand.compare(value).is_some_and(wanted))
        };
        match self.operator {
            Operator::Present => value.is_something(),
            Operator::Equal => self.operands.iter().any(|operand| operand.equals(value)),
            Operator::Less => compares(std::cmp::Ordering::is_lt),
            Operator::LessEqual => compares(std::cmp::Ordering::is_le),
            Operator::Greater => compares(std::cmp::Ordering::is_gt),
            Operator::GreaterEqual => compares(std::cmp::Ordering::is_ge),
            Operator::Like => self.operands.iter().any(|operand| operand.finds(value)),
        }
    }
}
