//! Attributes as OTLP has them.

use super::wire::{Wire, key, varint, varint_len};

/// A list of attributes, as it is sent. What is empty says nothing and is left out.
///
/// Each is a `KeyValue` behind its length, behind a byte for the number of the field that it will be in: that is another
/// one in spans, logs and resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

/// Fields of `KeyValue`.
const KEY: u8 = key(1, Wire::Length);
const VALUE: u8 = key(2, Wire::Length);
/// Fields of `AnyValue`, of which one is there.
const TEXT: u8 = key(1, Wire::Length);
const FLAG: u8 = key(2, Wire::Varint);
const NUMBER: u8 = key(3, Wire::Varint);
const REAL: u8 = key(4, Wire::Fixed64);

impl Attributes {
    /// With room for those of one span.
    pub(super) fn of_span() -> Self {
        Self(Vec::with_capacity(1024))
    }

    #[must_use]
    pub(super) fn text(mut self, key: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if !value.is_empty() {
            let length = value.len() as u64;
            self.pair(key, 1 + varint_len(length) + value.len());
            self.0.push(TEXT);
            varint(&mut self.0, length);
            self.0.extend_from_slice(value.as_bytes());
        }
        self
    }

    #[must_use]
    pub(super) fn number(mut self, key: &str, value: impl TryInto<i64>) -> Self {
        // Negative ones are large.
        let value = value.try_into().unwrap_or(i64::MAX) as u64;
        self.pair(key, 1 + varint_len(value));
        self.0.push(NUMBER);
        varint(&mut self.0, value);
        self
    }

    #[must_use]
    pub(super) fn seconds(mut self, key: &str, nanoseconds: u64) -> Self {
        self.pair(key, 1 + size_of::<f64>());
        self.0.push(REAL);
        self.0.extend((nanoseconds as f64 / 1e9).to_le_bytes());
        self
    }

    #[must_use]
    pub(super) fn flag(mut self, key: &str, value: bool) -> Self {
        self.pair(key, 2);
        self.0.extend([FLAG, u8::from(value)]);
        self
    }

    /// What is there, by the function.
    #[must_use]
    pub(super) fn some<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    /// Those of `more` whose keys are not there yet.
    #[must_use]
    pub(super) fn and(self, more: &[(String, String)]) -> Self {
        more.iter().fold(self, |all, (key, value)| if all.has(key) { all } else { all.text(key, value) })
    }

    /// Appends each as a field with this key.
    pub(super) fn write(&self, field: u8, into: &mut Vec<u8>) {
        let begin = into.len();
        into.extend_from_slice(&self.0);
        let mut rest = &mut into[begin..];
        while let [place, tail @ ..] = rest {
            *place = field;
            let (length, behind) = length(tail);
            rest = &mut tail[behind + length..];
        }
    }

    fn has(&self, key: &str) -> bool {
        let mut rest = self.0.as_slice();
        while let [_, tail @ ..] = rest {
            let (whole, behind) = length(tail);
            let (pair, next) = tail[behind..].split_at(whole);
            let (length, behind) = length(&pair[1..]);
            if pair[1 + behind..][..length] == *key.as_bytes() {
                return true;
            }
            rest = next;
        }
        false
    }

    /// Begins an attribute whose `AnyValue` takes so many bytes.
    fn pair(&mut self, key: &str, value: usize) {
        let (key_length, value_length) = (key.len() as u64, value as u64);
        let whole = 2 + varint_len(key_length) + key.len() + varint_len(value_length) + value;
        self.0.push(0);
        varint(&mut self.0, whole as u64);
        self.0.push(KEY);
        varint(&mut self.0, key_length);
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(VALUE);
        varint(&mut self.0, value_length);
    }

    #[cfg(test)]
    pub(super) fn decoded(&self) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
        use opentelemetry_proto::tonic::resource::v1::Resource;
        use prost::Message as _;

        let mut bytes = Vec::new();
        self.write(key(1, Wire::Length), &mut bytes);
        Resource::decode(bytes.as_slice()).unwrap().attributes
    }
}

/// The length that stands first, and how many bytes it takes itself.
fn length(bytes: &[u8]) -> (usize, usize) {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (length, at + 1);
        }
    }
    (length, bytes.len())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;

    #[test]
    fn a_library_reads_what_is_written() {
        let long = "y".repeat(20_000);
        let attributes = Attributes::default()
            .text("a", "b")
            .text("empty", "")
            .text(&"k".repeat(200), &long)
            .number("n", -5)
            .number("most", u64::MAX)
            .number("zero", 0)
            .seconds("s", 1_500_000_000)
            .flag("f", false)
            .some(None::<&str>, |all, text| all.text("none", text))
            .and(&[("a".into(), "other".into()), ("c".into(), "d".into())]);
        let found = attributes.decoded();
        let found: Vec<_> = found
            .into_iter()
            .map(|pair| (pair.key, pair.value.and_then(|value| value.value).unwrap()))
            .collect();
        let text = |text: &str| Value::StringValue(text.into());
        let expected = [
            ("a", text("b")),
            (&"k".repeat(200), text(&long)),
            ("n", Value::IntValue(-5)),
            ("most", Value::IntValue(i64::MAX)),
            ("zero", Value::IntValue(0)),
            ("s", Value::DoubleValue(1.5)),
            ("f", Value::BoolValue(false)),
            ("c", text("d")),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value)));
    }
}
