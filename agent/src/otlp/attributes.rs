//! Attributes as OTLP has them.

use std::net::IpAddr;

use super::wire::{Wire, key, varint, varint_len};

/// A list of attributes, as it is sent. What is empty says nothing and is left out.
///
/// Each is a `KeyValue` behind its length, behind a byte for the field that it is in. That is written as in a span, of
/// which there are most, and which begins with its attributes. In logs, events and resources it is another one.
///
/// What writes the usual kinds is inlined: then keys, which are known where they are written, take no call to be copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

/// The field of `Span`.
const FIELD: u8 = key(9, Wire::Length);
/// Fields of `KeyValue` (opentelemetry/proto/common/v1/common.proto).
const KEY: u8 = key(1, Wire::Length);
const VALUE: u8 = key(2, Wire::Length);
/// Fields of `AnyValue`, of which one is there.
const TEXT: u8 = key(1, Wire::Length);
const FLAG: u8 = key(2, Wire::Varint);
const NUMBER: u8 = key(3, Wire::Varint);
const REAL: u8 = key(4, Wire::Fixed64);

impl Attributes {
    /// Writes into this memory; what it holds is forgotten.
    pub(super) fn written_in(mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self(memory)
    }

    pub(super) fn into_memory(self) -> Vec<u8> {
        self.0
    }

    #[must_use]
    #[inline(always)]
    pub(super) fn text(mut self, key: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if !value.is_empty() {
            self.begin_text(key, value.len());
            self.0.extend_from_slice(value.as_bytes());
        }
        self
    }

    /// As its `Display` writes it; the usual kind without the machinery of formats, because most spans have three.
    #[must_use]
    pub(super) fn address(mut self, key: &str, address: IpAddr) -> Self {
        let IpAddr::V4(address) = address else { return self.text(key, address.to_string()) };
        let octets = address.octets();
        let digits = octets.iter().map(|octet| 1 + usize::from(*octet > 9) + usize::from(*octet > 99));
        self.begin_text(key, digits.sum::<usize>() + 3);
        for (place, octet) in octets.into_iter().enumerate() {
            if place > 0 {
                self.0.push(b'.');
            }
            self.0.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
        }
        self
    }

    #[must_use]
    #[inline(always)]
    pub(super) fn number(mut self, key: &str, value: impl TryInto<i64>) -> Self {
        // Negative ones are large.
        let value = value.try_into().unwrap_or(i64::MAX) as u64;
        self.begin(key, 1 + varint_len(value));
        self.0.push(NUMBER);
        varint(&mut self.0, value);
        self
    }

    #[must_use]
    #[inline(always)]
    pub(super) fn seconds(mut self, key: &str, nanoseconds: u64) -> Self {
        self.begin(key, 1 + size_of::<f64>());
        self.0.push(REAL);
        self.0.extend((nanoseconds as f64 / 1e9).to_le_bytes());
        self
    }

    #[must_use]
    pub(super) fn flag(mut self, key: &str, value: bool) -> Self {
        self.begin(key, 2);
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
        if field == FIELD {
            return;
        }
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

    /// Begins one whose value is a text of so many bytes.
    #[inline(always)]
    fn begin_text(&mut self, key: &str, length: usize) {
        self.begin(key, 1 + varint_len(length as u64) + length);
        self.0.push(TEXT);
        varint(&mut self.0, length as u64);
    }

    /// Begins one whose `AnyValue` takes so many bytes.
    #[inline(always)]
    fn begin(&mut self, key: &str, value: usize) {
        let whole = 4 + key.len() + value;
        if whole < 0x80 {
            // As nearly all are: each length takes one byte.
            self.0.extend_from_slice(&[FIELD, whole as u8, KEY, key.len() as u8]);
            self.0.extend_from_slice(key.as_bytes());
            self.0.extend_from_slice(&[VALUE, value as u8]);
        } else {
            self.begin_long(key, value);
        }
    }

    /// The same where a length takes more bytes.
    #[cold]
    fn begin_long(&mut self, key: &str, value: usize) {
        let (key_length, value_length) = (key.len() as u64, value as u64);
        let whole = 2 + varint_len(key_length) + key.len() + varint_len(value_length) + value;
        self.0.push(FIELD);
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

    #[test]
    fn lengths_are_right_where_they_take_another_byte() {
        for length in 100..150 {
            let value = "v".repeat(length);
            let found = Attributes::default().text("key", &value).flag("last", true).decoded();
            assert_eq!(found[0].value.as_ref().unwrap().value, Some(Value::StringValue(value)));
            assert_eq!((found[1].key.as_str(), found.len()), ("last", 2));
        }
    }

    #[test]
    fn addresses_are_written_as_usual() {
        for text in ["0.0.0.0", "255.255.255.255", "10.99.200.7", "::1", "2001:db8::10:0:7", "::ffff:1.2.3.4"]
        {
            let found = Attributes::default().address("at", text.parse().unwrap()).decoded();
            assert_eq!(found[0].value.as_ref().unwrap().value, Some(Value::StringValue(text.into())));
        }
    }
}
