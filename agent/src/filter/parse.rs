//! Tokens → tree: a Pratt parser. `not` binds closest, then `and` (or nothing between two tests), then `or`.

use std::ops::Range;

use super::{
    FIELDS, Field, MAX_DEPTH, MAX_LENGTH, MAX_TESTS, MAX_VALUES, ParseError, Type,
    error::nearest,
    expression::{Expression, Operator, Test},
    token::{Token, tokens, write_value},
    value::Operand,
};

/// How closely what joins two parts binds.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;

/// `among` are the names of the fields that may be compared; empty for all.
pub(super) fn parse(text: &str, among: &'static [&'static str]) -> Result<Expression, ParseError> {
    if text.len() > MAX_LENGTH {
        let message = format!("a filter has at most {MAX_LENGTH} bytes; this one has {}", text.len());
        return Err(ParseError::new(0..text.len(), message));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.len(), depth: 0, tests: 0, among };
    if parser.tokens.is_empty() {
        return Ok(Expression::All(Vec::new()));
    }
    let expression = parser.expression(OR)?;
    match parser.peek() {
        None => Ok(expression),
        Some(Token::Close) => Err(parser.error("this parenthesis closes nothing")),
        Some(token) => {
            let message = format!("a field, `and` or `or` is expected here, not `{}`", token.shown());
            Err(parser.error(message))
        }
    }
}

struct Parser {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    end: usize,
    depth: usize,
    tests: usize,
    among: &'static [&'static str],
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<(Token, Range<usize>)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    fn take(&mut self, wanted: &Token) -> bool {
        let is_next = self.peek() == Some(wanted);
        self.at += usize::from(is_next);
        is_next
    }

    /// Of the token that comes next, or the end.
    fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).map_or(self.end..self.end, |(_, span)| span.clone())
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.span(), message)
    }

    /// Everything that binds at least as closely as `least`.
    fn expression(&mut self, least: u8) -> Result<Expression, ParseError> {
        let mut left = self.part()?;
        loop {
            let (binding, is_written) = match self.peek() {
                Some(Token::Or) => (OR, true),
                Some(Token::And) => (AND, true),
                Some(Token::Word(_) | Token::Open | Token::Not) => (AND, false),
                _ => return Ok(left),
            };
            if binding < least {
                return Ok(left);
            }
            self.at += usize::from(is_written);
            // What is to the right binds closer: parts of one kind are joined from the left.
            let right = self.expression(binding + 1)?;
            left = match binding {
                OR => Expression::any(vec![left, right]),
                _ => Expression::all(vec![left, right]),
            };
        }
    }

    fn part(&mut self) -> Result<Expression, ParseError> {
        let span = self.span();
        match self.next() {
            Some((Token::Word(name), _)) => self.test(&name, span),
            Some((Token::Not, _)) => {
                self.deeper(&span)?;
                let part = self.expression(NOT)?;
                self.depth -= 1;
                Ok(part.negated())
            }
            Some((Token::Open, _)) => {
                self.deeper(&span)?;
                let inner = self.expression(OR)?;
                self.depth -= 1;
                if !self.take(&Token::Close) {
                    let message = match self.peek() {
                        None => "a parenthesis is open at the end".to_owned(),
                        Some(token) => format!("`)` is expected here, not `{}`", token.shown()),
                    };
                    return Err(ParseError::new(self.span(), message));
                }
                Ok(inner)
            }
            Some((token, _)) => {
                let message = format!("a field is expected here, not `{}`", token.shown());
                Err(ParseError::new(span, message))
            }
            None => Err(ParseError::new(span, "a field is expected at the end, such as `namespace=shop`")),
        }
    }

    fn deeper(&mut self, span: &Range<usize>) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ParseError::new(
                span.clone(),
                format!("this is nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        Ok(())
    }

    /// Field, operator, value.
    fn test(&mut self, name: &str, span: Range<usize>) -> Result<Expression, ParseError> {
        self.tests += 1;
        if self.tests > MAX_TESTS {
            return Err(ParseError::new(span, format!("a filter has at most {MAX_TESTS} comparisons")));
        }
        let Some(field) = Field::by_name(name) else {
            return Err(self.unknown_field(name, span));
        };
        if !self.may_compare(field) {
            let message = format!("`{name}` is told of events: there are {} here", self.among.join(", "));
            return Err(ParseError::new(span, message));
        }
        let operator_span = self.span();
        let (operator, is_negated) = match self.peek() {
            Some(Token::Equal) => (Operator::Equal, false),
            Some(Token::NotEqual) => (Operator::Equal, true),
            Some(Token::Like) => (Operator::Like, false),
            Some(Token::NotLike) => (Operator::Like, true),
            Some(Token::Less) => (Operator::Less, false),
            Some(Token::LessEqual) => (Operator::LessEqual, false),
            Some(Token::Greater) => (Operator::Greater, false),
            Some(Token::GreaterEqual) => (Operator::GreaterEqual, false),
            Some(Token::In) => return self.list(field, false),
            Some(Token::Not) if matches!(self.tokens.get(self.at + 1), Some((Token::In, _))) => {
                self.at += 1;
                return self.list(field, true);
            }
            Some(Token::Quoted(text)) => {
                let suggestion = format!("{name}={}", write_value(text));
                let message = format!("an operator is missing between `{name}` and its value");
                return Err(self.error(message).suggesting(Some(suggestion)));
            }
            _ => {
                let test = Test { field, operator: Operator::Present, operands: Vec::new() };
                return Ok(Expression::Test(test));
            }
        };
        self.at += 1;
        if !field.kind.takes(operator) {
            let message = format!(
                "`{name}` is {}: it can be compared with {}",
                field.kind.article(),
                field.kind.operators()
            );
            return Err(ParseError::new(operator_span, message));
        }
        let operand = self.operand(field, operator)?;
        Ok(signed(Test { field, operator, operands: vec![operand] }, is_negated))
    }

    fn list(&mut self, field: &'static Field, is_negated: bool) -> Result<Expression, ParseError> {
        self.at += 1;
        if !self.take(&Token::Open) {
            let example = format!("{} in (…, …)", field.name);
            return Err(self.error(format!("`(` is expected after `in`, as in `{example}`")));
        }
        let mut operands = Vec::new();
        loop {
            if operands.len() == MAX_VALUES {
                return Err(self.error(format!("a list has at most {MAX_VALUES} values")));
            }
            operands.push(self.operand(field, Operator::Equal)?);
            if self.take(&Token::Comma) {
                continue;
            }
            if self.take(&Token::Close) {
                return Ok(signed(Test::equals(field, operands), is_negated));
            }
            let message = match self.peek() {
                None => "the list has no end: `)` is missing".to_owned(),
                Some(token) => format!("`,` or `)` is expected here, not `{}`", token.shown()),
            };
            return Err(self.error(message));
        }
    }

    fn operand(&mut self, field: &'static Field, operator: Operator) -> Result<Operand, ParseError> {
        let span = self.span();
        let text = match self.next() {
            Some((Token::Word(text) | Token::Quoted(text), _)) => text,
            Some((token @ (Token::And | Token::Or | Token::Not | Token::In), _)) => {
                let message = format!("a value is missing; for `{0}` itself, write \"{0}\"", token.shown());
                return Err(ParseError::new(span, message));
            }
            Some((token, _)) => {
                return Err(ParseError::new(span, format!("a value is expected, not `{}`", token.shown())));
            }
            None => {
                let message = format!("the value for `{}` is missing: {}", field.name, field.kind.article());
                return Err(ParseError::new(span, message));
            }
        };
        let operand = match operator {
            Operator::Like => Operand::pattern(&text),
            _ => Operand::parse(field, &text),
        };
        operand.map_err(|invalid| ParseError::new(span, invalid.message).suggesting(invalid.suggestion))
    }

    fn may_compare(&self, field: &Field) -> bool {
        self.among.is_empty() || self.among.contains(&field.name)
    }

    fn unknown_field(&self, name: &str, span: Range<usize>) -> ParseError {
        let error = ParseError::new(span, format!("there is no field `{name}`"));
        // `namespace shop`: the word before is a field that asks for nothing but its presence.
        let before = self.at.checked_sub(2).and_then(|before| self.tokens.get(before));
        if let Some((Token::Word(field), _)) = before
            && Field::by_name(field).is_some()
        {
            return error.suggesting(Some(format!("{field}={name}")));
        }
        if self.among.is_empty()
            && let Some(kind) = super::kind_names().find(|kind| *kind == name)
        {
            return error.suggesting(Some(format!("kind={kind}")));
        }
        let fields = FIELDS.iter().filter(|field| self.may_compare(field));
        error.suggesting(nearest(name, fields.map(|field| field.name)))
    }
}

fn signed(test: Test, is_negated: bool) -> Expression {
    let test = Expression::Test(test);
    if is_negated { test.negated() } else { test }
}

impl Type {
    fn takes(self, operator: Operator) -> bool {
        match operator {
            Operator::Present | Operator::Equal => true,
            Operator::Like => matches!(self, Self::Text | Self::Kind | Self::Errno | Self::Syscall),
            Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
                matches!(self, Self::Number | Self::Duration | Self::Bytes)
            }
        }
    }

    fn operators(self) -> &'static str {
        match self {
            Self::Text | Self::Kind | Self::Errno | Self::Syscall => "=, !=, ~, !~, in",
            Self::Number | Self::Duration | Self::Bytes => "=, !=, <, <=, >, >=, in",
            Self::Address | Self::Signal | Self::Flag => "=, !=, in",
        }
    }
}
