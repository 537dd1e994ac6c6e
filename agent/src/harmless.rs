//! Text that workloads choose, in front of people: names of tasks, paths, arguments. A terminal obeys some
//! characters, and others deceive its reader.

use std::fmt::{self, Write as _};

/// What moves a cursor, reorders text or can't be seen.
pub fn is_hostile(char: char) -> bool {
    match char {
        ' '..='~' => false,
        // C0; DEL and C1: U+009B begins a terminal's command just as ESC [ does.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
        // Soft hyphen; combining grapheme joiner; Arabic letter mark; fillers of Hangul; vowels and marks of Khmer and
        // Mongolian without a width.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => true,
        '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}' => true,
        // Zero-width characters; line and paragraph separators; marks, embeddings and isolates of direction.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        // Variation selectors; byte order mark; interlinear annotations; tags.
        '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

/// Text with everything [hostile](is_hostile) written as `\u{1b}`.
pub struct Harmless<'t>(pub &'t str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                // Or a name could claim to contain what it doesn't.
                '\\' => f.write_str("\\\\")?,
                char if is_hostile(char) => write!(f, "{}", char.escape_unicode())?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Harmless, is_hostile};

    #[test]
    fn what_commands_a_terminal_is_escaped_and_nothing_else() {
        let cases = [
            ("nginx: worker", "nginx: worker"),
            ("caffè 日本 🦀", "caffè 日本 🦀"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\nb\tc\\", "a\\nb\\tc\\\\"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
        ];
        for (text, expected) in cases {
            assert_eq!(Harmless(text).to_string(), expected);
        }
    }

    #[test]
    fn no_control_character_is_harmless() {
        for char in (0..=0x10_ffff).filter_map(char::from_u32) {
            assert!(!char.is_control() || is_hostile(char), "{char:?}");
        }
    }
}
