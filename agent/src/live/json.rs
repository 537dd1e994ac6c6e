//! JSON that a terminal may show as it is. JSON escapes what is below U+0020, but not the other characters that
//! command a terminal or deceive its reader.

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::harmless::is_hostile;

/// One line of JSON, newline included.
pub(crate) fn to_line(value: &impl Serialize) -> serde_json::Result<Bytes> {
    let mut line = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut line, Harmless))?;
    line.push(b'\n');
    Ok(line.into())
}

/// Compact JSON with every [hostile](is_hostile) character escaped: a parser sees the same string.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, hostile)) = rest.char_indices().find(|(_, char)| is_hostile(*char)) {
            let (harmless, tail) = rest.split_at(at);
            writer.write_all(harmless.as_bytes())?;
            for unit in hostile.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &tail[hostile.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::to_line;

    #[test]
    fn what_commands_a_terminal_is_escaped_and_nothing_else() {
        let cases = [
            ("nginx: worker", r#""nginx: worker""#),
            ("caffè 日本 🦀", r#""caffè 日本 🦀""#),
            ("\u{1b}[2J", r#""\u001b[2J""#),
            ("a\nb\"c\\", r#""a\nb\"c\\""#),
            ("\u{9b}31m\u{7f}", r#""\u009b31m\u007f""#),
            ("\u{202e}gpj.exe\u{2066}", r#""\u202egpj.exe\u2066""#),
            ("tag\u{e0041}", r#""tag\udb40\udc41""#),
        ];
        for (text, expected) in cases {
            let line = to_line(&text).unwrap();
            assert_eq!(std::str::from_utf8(&line).unwrap().trim_end_matches('\n'), expected);
            assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text, "a parser must see the same");
        }
    }
}
