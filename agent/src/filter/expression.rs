//! The tree that a filter is, and how it is written.

use std::fmt;

use super::{field::Field, token::write_value, value::Operand};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    /// True if there is none.
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
}

/// A comparison of one field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Test {
    pub(super) field: &'static Field,
    pub(super) operator: Operator,
    /// Any of them will do; none where the operator takes none.
    pub(super) operands: Vec<Operand>,
}

/// What negates is [`Expression::Not`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// The event has the field, and it isn't empty.
    Present,
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Like,
}

impl Test {
    pub(super) fn equals(field: &'static Field, operands: Vec<Operand>) -> Self {
        Self { field, operator: Operator::Equal, operands }
    }
}

impl Expression {
    pub(super) fn all(parts: Vec<Self>) -> Self {
        let flatten = |part| match part {
            Self::All(parts) => parts,
            part => vec![part],
        };
        single(parts.into_iter().flat_map(flatten).collect(), Self::All)
    }

    pub(super) fn any(parts: Vec<Self>) -> Self {
        let flatten = |part| match part {
            Self::Any(parts) => parts,
            part => vec![part],
        };
        single(parts.into_iter().flat_map(flatten).collect(), Self::Any)
    }

    pub(super) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }
}

fn single(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => write_parts(f, parts, " and ", |part| matches!(part, Self::Any(_))),
            Self::Any(parts) => write_parts(f, parts, " or ", |_| false),
            Self::Not(part) => match &**part {
                Self::Test(test) if test.operator == Operator::Equal => test.write(f, true),
                Self::Test(test) if test.operator == Operator::Like => test.write(f, true),
                part @ (Self::All(_) | Self::Any(_)) => write!(f, "not ({part})"),
                part @ (Self::Not(_) | Self::Test(_)) => write!(f, "not {part}"),
            },
            Self::Test(test) => test.write(f, false),
        }
    }
}

fn write_parts(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expression],
    between: &str,
    needs_parentheses: fn(&Expression) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        if needs_parentheses(part) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

impl Test {
    fn write(&self, f: &mut fmt::Formatter<'_>, negated: bool) -> fmt::Result {
        f.write_str(self.field.name)?;
        let sign = match (self.operator, negated) {
            (Operator::Present, _) => return Ok(()),
            (Operator::Equal, _) if self.operands.len() != 1 => {
                let values: Vec<_> =
                    self.operands.iter().map(|operand| write_value(&operand.to_string())).collect();
                let not = if negated { " not" } else { "" };
                return write!(f, "{not} in ({})", values.join(", "));
            }
            (Operator::Equal, false) => "=",
            (Operator::Equal, true) => "!=",
            (Operator::Less, _) => "<",
            (Operator::LessEqual, _) => "<=",
            (Operator::Greater, _) => ">",
            (Operator::GreaterEqual, _) => ">=",
            (Operator::Like, false) => "~",
            (Operator::Like, true) => "!~",
        };
        f.write_str(sign)?;
        self.operands.iter().try_for_each(|operand| f.write_str(&write_value(&operand.to_string())))
    }
}
