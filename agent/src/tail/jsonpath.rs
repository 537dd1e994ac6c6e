//! Templates as kubectl's `-o jsonpath` takes them: text, and in braces what is to be put in from the event.
//!
//! `{.kind} {.pod}{"\n"}` · `{.arguments['path.name']}` · `{.list[0]}` · `{.list[*].name}` · `{@}`
//!
//! This is the part of kubectl's language that an event can make use of. What isn't is refused, with its place:
//! ranges, filters, slices, unions and `..`.

use std::{fmt::Write as _, iter::Peekable, ops::Range, str::CharIndices};

use serde_json::Value;

use super::harmless_json;
use crate::{filter::ParseError, harmless::Harmless};

/// Bytes of a template.
const MAX_LENGTH: usize = 8192;

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// As the user wrote it.
    Text(String),
    /// What it leads to, from the event on.
    Path(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    /// Counted from the end, if negative.
    Index(i64),
    /// Every value of a list or an object.
    All,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_LENGTH {
            let message = format!("a template has at most {MAX_LENGTH} bytes; this one has {}", text.len());
            return Err(mistake(0..text.len(), message));
        }
        if text.is_empty() {
            let missing = "a template is missing: jsonpath='{.kind} {.pod}'";
            return Err(mistake(0..0, missing));
        }
        Reader { text, chars: text.char_indices().peekable() }.template().map(Self)
    }

    /// The template with what the event has. What it lacks is left out, and several values have a space in between,
    /// as with kubectl. Whatever a workload has chosen is escaped; the template's own text isn't.
    pub(super) fn filled(&self, event: &Value) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Path(steps) => {
                    for (at, value) in found(event, steps).into_iter().enumerate() {
                        filled.push_str(if at > 0 { " " } else { "" });
                        write_value(&mut filled, value);
                    }
                }
            }
        }
        filled
    }
}

fn found<'v>(event: &'v Value, steps: &[Step]) -> Vec<&'v Value> {
    let mut found = vec![event];
    for step in steps {
        found = found.into_iter().flat_map(|value| step.from(value)).collect();
    }
    found
}

impl Step {
    fn from<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.as_object().and_then(|fields| fields.get(name)).into_iter().collect(),
            Self::Index(index) => {
                let Some(list) = value.as_array() else { return Vec::new() };
                let at =
                    if *index < 0 { index.checked_add_unsigned(list.len() as u64) } else { Some(*index) };
                at.and_then(|at| list.get(usize::try_from(at).ok()?)).into_iter().collect()
            }
            Self::All => match value {
                Value::Array(list) => list.iter().collect(),
                Value::Object(fields) => fields.values().collect(),
                _ => Vec::new(),
            },
        }
    }
}

fn write_value(out: &mut String, value: &Value) {
    // Writing to a string doesn't fail.
    let _ = match value {
        Value::Null => Ok(()),
        Value::String(text) => write!(out, "{}", Harmless(text)),
        Value::Bool(_) | Value::Number(_) => write!(out, "{value}"),
        Value::Array(_) | Value::Object(_) => out.write_str(&harmless_json(&value.to_string())),
    };
}

struct Reader<'t> {
    text: &'t str,
    chars: Peekable<CharIndices<'t>>,
}

impl Reader<'_> {
    fn template(&mut self) -> Result<Vec<Part>, ParseError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        while let Some((at, char)) = self.chars.next() {
            if char != '{' {
                text.push(char);
                continue;
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(self.action(at)?);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(parts)
    }

    /// What stands in braces, the first of which has been read.
    fn action(&mut self, open: usize) -> Result<Part, ParseError> {
        self.skip_spaces();
        let (at, char) = self.next(open)?;
        let part = match char {
            '"' | '\'' => Part::Text(self.quoted(at, char)?),
            '.' | '[' | '$' | '@' => self.path(open, at, char)?,
            '}' => {
                let message = "nothing stands in the braces: a field is expected, as in {.kind}";
                return Err(mistake(open..at + 1, message));
            }
            _ => return Err(self.unknown(at)),
        };
        self.skip_spaces();
        match self.next(open)? {
            (_, '}') => Ok(part),
            (at, _) => Err(mistake(
                self.word(at),
                "`}` is expected here: there is one path or one text in each pair of braces",
            )),
        }
    }

    fn path(&mut self, open: usize, at: usize, first: char) -> Result<Part, ParseError> {
        let mut steps = Vec::new();
        let mut next = Some((at, first));
        if matches!(first, '$' | '@') {
            next = self.chars.next_if(|(_, char)| matches!(char, '.' | '['));
        }
        let mut is_first = true;
        while let Some((at, char)) = next {
            if char == '[' {
                steps.push(self.subscript(open, at)?);
            } else {
                match self.chars.peek() {
                    Some((_, '.')) => {
                        return Err(mistake(at..at + 2, "`..` is not supported: write the whole path"));
                    }
                    Some((_, '*')) => {
                        self.chars.next();
                        steps.push(Step::All);
                    }
                    // `.[0]` is the same as `[0]`.
                    Some((_, '[')) => {}
                    _ => {
                        let name = self.name();
                        // `{.}` is the event itself.
                        if name.is_empty() && !is_first {
                            return Err(mistake(at..at + 1, "the name of a field is missing after the `.`"));
                        }
                        steps.extend((!name.is_empty()).then_some(Step::Field(name)));
                    }
                }
            }
            is_first = false;
            next = self.chars.next_if(|(_, char)| matches!(char, '.' | '['));
        }
        Ok(Part::Path(steps))
    }

    /// Ends before what can't be in a name, unless a backslash protects it.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some((_, char)) = self.chars.next_if(|(_, char)| !" .,[]{}$@\t\n".contains(*char)) {
            match char {
                '\\' => name.extend(self.chars.next().map(|(_, char)| char)),
                char => name.push(char),
            }
        }
        name
    }

    /// What stands in brackets, the first of which has been read.
    fn subscript(&mut self, open: usize, bracket: usize) -> Result<Step, ParseError> {
        self.skip_spaces();
        let (at, char) = self.next(open)?;
        let step = match char {
            '\'' | '"' => Step::Field(self.quoted(at, char)?),
            '*' => Step::All,
            '-' | '0'..='9' => {
                let mut digits = String::from(char);
                while let Some((_, digit)) = self.chars.next_if(|(_, char)| char.is_ascii_digit()) {
                    digits.push(digit);
                }
                let message = format!("`{digits}` is no index of a list");
                Step::Index(digits.parse().map_err(|_| mistake(at..at + digits.len(), message))?)
            }
            '?' => return Err(mistake(bracket..at + 1, "filters are not supported; FILTER chooses events")),
            ':' => return Err(mistake(at..at + 1, SLICES)),
            _ => {
                let message = "an index, `*` or a name in quotes is expected in brackets";
                return Err(mistake(self.word(at), message));
            }
        };
        self.skip_spaces();
        match self.next(open)? {
            (_, ']') => Ok(step),
            (at, ':') => Err(mistake(at..at + 1, SLICES)),
            (at, ',') => {
                Err(mistake(at..at + 1, "unions are not supported: write a pair of braces for each"))
            }
            (at, _) => Err(mistake(self.word(at), "`]` is expected here")),
        }
    }

    /// The text up to the same quote, with the escapes that Go has for control characters.
    fn quoted(&mut self, open: usize, quote: char) -> Result<String, ParseError> {
        let mut text = String::new();
        loop {
            let missing = || format!("the text in quotes has no end: {quote} is missing");
            let (at, char) = self.chars.next().ok_or_else(|| mistake(open..self.text.len(), missing()))?;
            match char {
                '\\' => {
                    let (_, escaped) =
                        self.chars.next().ok_or_else(|| mistake(open..self.text.len(), missing()))?;
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '\\' | '"' | '\'' | '.' => escaped,
                        other => {
                            let message =
                                format!("`\\{other}` means nothing here: there are \\n, \\t, \\r, \\\\");
                            return Err(mistake(at..at + 1 + other.len_utf8(), message));
                        }
                    });
                }
                char if char == quote => return Ok(text),
                char => text.push(char),
            }
        }
    }

    fn unknown(&self, at: usize) -> ParseError {
        let span = self.word(at);
        let word = &self.text[span.clone()];
        let message = match word {
            "range" | "end" => "ranges are not supported: the template is filled for each event".to_owned(),
            _ => format!("a path begins with `.`, not with `{word}`"),
        };
        let suggestion = Some(format!("{{.{word}}}")).filter(|_| {
            !matches!(word, "range" | "end") && word.chars().all(|char| char.is_alphanumeric() || char == '_')
        });
        ParseError { message, span, suggestion }
    }

    /// The word that begins at a place.
    fn word(&self, at: usize) -> Range<usize> {
        let rest = &self.text[at..];
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let length = rest.find([' ', '}', ']', '[', '.']).unwrap_or(rest.len());
        at..at + length.max(first)
    }

    fn skip_spaces(&mut self) {
        while self.chars.next_if(|(_, char)| char.is_whitespace()).is_some() {}
    }

    fn next(&mut self, open: usize) -> Result<(usize, char), ParseError> {
        self.chars.next().ok_or_else(|| mistake(open..self.text.len(), "this brace isn't closed"))
    }
}

const SLICES: &str = "slices are not supported; `[*]` takes the whole list";

fn mistake(span: Range<usize>, message: impl Into<String>) -> ParseError {
    ParseError { message: message.into(), span, suggestion: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{fuzz::Random, harmless::is_hostile};

    fn filled(template: &str) -> String {
        let event = json!({
            "kind": "tcp.connect", "pod": "web-0", "pid": 7, "duration": 0.25, "errno": null, "core_dumped": true,
            "arguments": {"path.name": "/etc/\u{1b}[2Jx", "fd": 3}, "list": [{"x": "a"}, {"x": "b"}, {"y": 1}],
        });
        Template::parse(template).unwrap().filled(&event)
    }

    #[test]
    fn templates_are_filled_as_kubectl_fills_them() {
        for (template, expected) in [
            ("{.kind} {.pod}", "tcp.connect web-0"),
            ("{ .kind }", "tcp.connect"),
            ("{$.kind}{@.pod}", "tcp.connectweb-0"),
            ("{.kind}{\"\\t\"}{.pid}{'\\n'}", "tcp.connect\t7\n"),
            ("took {.duration} s, core: {.core_dumped}", "took 0.25 s, core: true"),
            ("{.arguments['fd']}={.arguments.fd}={['arguments'][\"fd\"]}", "3=3=3"),
            ("{.arguments['path.name']}", "/etc/\\u{1b}[2Jx"),
            ("{.arguments.path\\.name}", "/etc/\\u{1b}[2Jx"),
            ("{.arguments['path\\.name']}", "/etc/\\u{1b}[2Jx"),
            ("{.list[0].x}{.list[-2].x}{.list.[1].x}", "abb"),
            ("{.list[*].x}", "a b"),
            ("{.list[0]}", "{\"x\":\"a\"}"),
            ("{.list[0].*}", "a"),
            ("[{.nothing}{.list[9]}{.list[-4]}{.kind.x}{.pid[0]}{.errno}]", "[]"),
            ("plain } text", "plain } text"),
            ("{\"{\"}", "{"),
        ] {
            assert_eq!(filled(template), expected, "{template}");
        }
        assert_eq!(filled("{.arguments}"), "{\"fd\":3,\"path.name\":\"/etc/\\u001b[2Jx\"}");
        for whole in ["{.}", "{@}", "{$}"] {
            assert!(filled(whole).starts_with("{\"arguments\":{"), "{whole}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_place() {
        for (template, place, message) in [
            ("", "", "a template is missing"),
            ("{.kind", "{.kind", "isn't closed"),
            ("a {}", "{}", "nothing stands in the braces"),
            ("{kind}", "kind", "did you mean `{.kind}`?"),
            ("{range .list[*]}{.x}{end}", "range", "ranges are not supported"),
            ("{.a..b}", "..", "`..` is not supported"),
            ("{.list[?(@.x==\"a\")]}", "[?", "filters are not supported"),
            ("{.list[0:2]}", ":", "slices are not supported"),
            ("{.list[:2]}", ":", "slices are not supported"),
            ("{['a','b']}", ",", "unions are not supported"),
            ("{.list[x]}", "x", "a name in quotes is expected"),
            ("{.list[99999999999999999999]}", "99999999999999999999", "is no index"),
            ("{.list[-]}", "-", "is no index"),
            ("{.a .b}", ".", "`}` is expected"),
            ("{.a.}", ".", "is missing after the `.`"),
            ("{\"a}", "\"a}", "has no end"),
            ("{\"\\q\"}", "\\q", "means nothing here"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert_eq!(&template[error.span.clone()], place, "{template}: {error}");
            assert!(error.to_string().contains(message), "{template}: {error}");
        }
    }

    /// Whatever somebody writes: an answer, and nothing of an event that a terminal would obey.
    #[test]
    fn no_template_is_too_odd() {
        let mut random = Random::new(0x7e41);
        let words =
            ["{", "}", ".", "[", "]", "'", "\"", "\\", "kind", "*", "-1", "é", " ", "..", "@", "\u{1b}"];
        let event = json!({"kind": "\u{1b}[2J\u{202e}", "list": ["\u{9b}", {"\u{7}": 1}]});
        for _ in 0..20_000 {
            let text: String = (0..random.below(12)).map(|_| words[random.below(words.len())]).collect();
            match Template::parse(&text) {
                Ok(template) => {
                    let filled = template.filled(&event);
                    assert!(text.contains('\u{1b}') || !filled.chars().any(is_hostile), "{text}: {filled:?}");
                }
                Err(error) => assert!(text.get(error.span.clone()).is_some(), "{text}: {error:?}"),
            }
        }
    }
}
