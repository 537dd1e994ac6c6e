//! Why text is no filter: where, what, and what was perhaps meant.

use std::{cmp::Ordering, fmt, ops::Range};

use crate::harmless::is_hostile;

/// Characters shown on either side of a mistake in a long filter.
const AROUND: usize = 60;

/// A mistake in a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub message: String,
    /// The bytes that are to blame; empty at the end of the text where something is missing.
    pub span: Range<usize>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl ParseError {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, suggestion: None }
    }

    pub(super) fn suggesting(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// The text with a caret under the mistake: two lines, whatever the text is made of.
    pub fn pointer(&self, text: &str) -> String {
        // One column for each character: what a terminal would obey, or show with no width, becomes a mark.
        let shown = |char: char| if is_hostile(char) { '\u{fffd}' } else { char };
        let chars: Vec<char> = text.chars().map(shown).collect();
        let column = |at: usize| text.char_indices().take_while(|(index, _)| *index < at).count();
        let (from, to) = (column(self.span.start), column(self.span.end));
        let begin = if chars.len() > 2 * AROUND { from.saturating_sub(AROUND) } else { 0 };
        let end = if chars.len() > 2 * AROUND { (from + AROUND).min(chars.len()) } else { chars.len() };
        let line: String = chars[begin..end.max(begin)].iter().collect();
        let width = to.min(end).saturating_sub(from).max(1);
        format!("{line}\n{}{}", " ".repeat(from - begin), "^".repeat(width))
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

/// The name that is most like `word`, if one is.
pub(super) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const LIKE: f64 = 0.8;
    let word = word.to_ascii_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(one, _), (other, _)| one.partial_cmp(other).unwrap_or(Ordering::Equal))
        .map(|(_, name)| name)
}
