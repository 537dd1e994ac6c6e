//! Words, operators, and where they stand.

use std::ops::Range;

use winnow::{
    LocatingSlice, Parser, Result,
    combinator::{alt, preceded, repeat},
    stream::{Location as _, Stream as _},
    token::{none_of, one_of, take_while},
};

use super::ParseError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, a number, an address, or whatever else needs no quotes.
    Word(String),
    Quoted(String),
    Open,
    Close,
    Comma,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Like,
    NotLike,
    And,
    Or,
    Not,
    In,
}

impl Token {
    /// The token as its writer knows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Quoted(text) => quote(text),
            Self::Open => "(".into(),
            Self::Close => ")".into(),
            Self::Comma => ",".into(),
            Self::Equal => "=".into(),
            Self::NotEqual => "!=".into(),
            Self::Less => "<".into(),
            Self::LessEqual => "<=".into(),
            Self::Greater => ">".into(),
            Self::GreaterEqual => ">=".into(),
            Self::Like => "~".into(),
            Self::NotLike => "!~".into(),
            Self::And => "and".into(),
            Self::Or => "or".into(),
            Self::Not => "not".into(),
            Self::In => "in".into(),
        }
    }
}

type Input<'t> = LocatingSlice<&'t str>;

/// Takes text apart.
pub(super) fn tokens(text: &str) -> std::result::Result<Vec<(Token, Range<usize>)>, ParseError> {
    let mut input = LocatingSlice::new(text);
    let mut tokens = Vec::new();
    loop {
        let _: Result<&str> = take_while(0.., char::is_whitespace).parse_next(&mut input);
        let at = input.current_token_start();
        let Some(first) = text[at..].chars().next() else { return Ok(tokens) };
        let before = input.checkpoint();
        match token.with_span().parse_next(&mut input) {
            Ok(token) => tokens.push(token),
            Err(_) => {
                input.reset(&before);
                return Err(stray(first, at, text.len()));
            }
        }
    }
}

fn stray(char: char, at: usize, end: usize) -> ParseError {
    if matches!(char, '"' | '\'') {
        return ParseError::new(at..end, format!("the text in quotes has no end: {char} is missing"));
    }
    let shown = char.escape_default();
    ParseError::new(
        at..at + char.len_utf8(),
        format!("`{shown}` means nothing here; a value that contains it goes into quotes"),
    )
}

fn token(input: &mut Input<'_>) -> Result<Token> {
    let operator = alt((
        alt(("==", "=")).value(Token::Equal),
        "!=".value(Token::NotEqual),
        "!~".value(Token::NotLike),
        "!".value(Token::Not),
        "<=".value(Token::LessEqual),
        "<".value(Token::Less),
        ">=".value(Token::GreaterEqual),
        ">".value(Token::Greater),
        "~".value(Token::Like),
    ));
    let sign = alt((
        "(".value(Token::Open),
        ")".value(Token::Close),
        ",".value(Token::Comma),
        "&&".value(Token::And),
        "||".value(Token::Or),
    ));
    alt((operator, sign, quoted.map(Token::Quoted), word)).parse_next(input)
}

fn word(input: &mut Input<'_>) -> Result<Token> {
    let word = take_while(1.., is_word).parse_next(input)?;
    Ok(keyword(word).unwrap_or_else(|| Token::Word(word.into())))
}

fn keyword(word: &str) -> Option<Token> {
    [("and", Token::And), ("or", Token::Or), ("not", Token::Not), ("in", Token::In)]
        .into_iter()
        .find_map(|(name, token)| name.eq_ignore_ascii_case(word).then_some(token))
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '.' | '/' | ':' | '-' | '*' | '@' | '+' | '%')
}

/// A backslash protects a quote or another backslash, and is itself everywhere else: patterns are full of them.
fn quoted(input: &mut Input<'_>) -> Result<String> {
    let mut quote: char = one_of(['"', '\'']).parse_next(input)?;
    let protected = preceded('\\', one_of([quote, '\\']));
    let plain = none_of([quote, '\\']);
    let char = alt((protected, plain, '\\'));
    let mut text = repeat(0.., char).fold(String::new, |mut text, char| {
        text.push(char);
        text
    });
    let text = text.parse_next(input)?;
    quote.parse_next(input)?;
    Ok(text)
}

/// A value as it can stand in a filter.
pub(super) fn write_value(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_word) && keyword(text).is_none() {
        return text.into();
    }
    quote(text)
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}
