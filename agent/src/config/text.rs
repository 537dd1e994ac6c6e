//! Text from outside on its way to a terminal, and text of ours on its way into columns.

/// Longer values are cut: they are there to be recognized, not to be read.
const SHOWN: usize = 120;

/// `text` in quotes, without any character that a terminal would act on, and not too long.
pub(super) fn quoted(text: &str) -> String {
    let (text, rest) = cut(text);
    // `Debug` escapes whatever isn't printable, bidirectional controls too.
    format!("{text:?}{rest}")
}

/// The same without the quotes, for names and paths.
pub(super) fn escaped(text: &str) -> String {
    let (text, rest) = cut(text);
    format!("{}{rest}", text.escape_debug())
}

fn cut(text: &str) -> (&str, &str) {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    }
}

/// Breaks `text` at spaces into lines of at most `width` characters, as far as its words allow.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What the user may have meant by `text`: the nearest candidate, unless all are far away.
pub(super) fn nearest(text: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    // Far longer than any candidate: no typing error, and the distance would take quadratic time.
    if text.len() > 2 * SHOWN {
        return None;
    }
    let distance = |candidate: &str| strsim::osa_distance(text, candidate);
    let (distance, candidate) = candidates.map(|candidate| (distance(&candidate), candidate)).min()?;
    (distance <= (text.len() / 3).max(1)).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_unescaped() {
        for text in ["\u{1b}[31mred", "a\r\nb", "\u{202e}abc", "\0", "\u{7f}", "\u{9b}1m"] {
            for shown in [quoted(text), escaped(text)] {
                assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown}");
            }
        }
        assert_eq!(quoted("50 ms"), "\"50 ms\"");
        assert_eq!(escaped("/etc/pod witness.yaml"), "/etc/pod witness.yaml");
        assert_eq!(escaped("a\"b"), "a\\\"b");
        assert_eq!(escaped("\""), "\\\"");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let shown = quoted(&"ä".repeat(10_000));
        assert_eq!(shown.chars().filter(|c| *c == 'ä').count(), SHOWN);
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrap("", 3), Vec::<String>::new());
    }

    #[test]
    fn the_nearest_is_found_unless_it_is_far() {
        let candidates = || ["metrics.listen", "debug.listen"].map(str::to_owned).into_iter();
        assert_eq!(nearest("metrics.lisetn", candidates()).as_deref(), Some("metrics.listen"));
        assert_eq!(nearest("kubernetes", candidates()), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), candidates()), None);
        assert_eq!(nearest("", candidates()), None);
    }
}
