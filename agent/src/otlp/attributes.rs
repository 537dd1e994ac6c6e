//! Attributes as OTLP has them.

use std::{io::Write as _, mem, net::IpAddr};

use super::wire::{Wire, append_varint, fixed, key, varint, varint_len};
use crate::writer::{SLACK, Writer};

/// A list of attributes, as it is sent. What is empty says nothing and is left out.
///
/// Each is a `KeyValue` behind its length, behind a byte for the field that it is in. That is written as in a span, of
/// which there are most, and which begins with its attributes. In logs, events and resources it is another one.
///
/// What writes the usual kinds is inlined: then keys, which are known where they are written, take no call to be copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Writer);

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
    pub(super) fn written_in(mut writer: Writer) -> Self {
        writer.clear();
        Self(writer)
    }

    pub(super) fn into_writer(self) -> Writer {
        self.0
    }

    #[must_use]
    #[inline(always)]
    pub(super) fn text(mut self, key: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if !value.is_empty() {
            self.add_text(key, value.as_bytes());
        }
        self
    }

    #[must_use]
    #[inline(always)]
    pub(super) fn address(mut self, key: &str, address: &AddressText) -> Self {
        let text = &address.text;
        match text.first_chunk::<SLACK>() {
            Some(short) if address.length <= SLACK => {
                let place = self.add(key, 2 + address.length);
                *fixed(place) = [TEXT, address.length as u8];
                *fixed(&mut place[2..]) = *short;
            }
            _ => self.add_text(key, &text[..address.length]),
        }
        self
    }

    #[must_use]
    #[inline(always)]
    pub(super) fn number(mut self, key: &str, value: impl TryInto<i64>) -> Self {
        // Negative ones are large.
        let value = value.try_into().unwrap_or(i64::MAX) as u64;
        match varint(value) {
            Some((bytes, length)) => {
                let place = self.add(key, 1 + length);
                place[0] = NUMBER;
                *fixed(&mut place[1..]) = bytes;
            }
            None => self.0 = with_long_number(mem::take(&mut self.0), key, value),
        }
        self
    }

    #[must_use]
    #[inline(always)]
    pub(super) fn seconds(mut self, key: &str, nanoseconds: u64) -> Self {
        let place = self.add(key, 1 + size_of::<f64>());
        place[0] = REAL;
        *fixed(&mut place[1..]) = (nanoseconds as f64 / 1e9).to_le_bytes();
        self
    }

    #[must_use]
    pub(super) fn flag(mut self, key: &str, value: bool) -> Self {
        *fixed(self.add(key, 2)) = [FLAG, u8::from(value)];
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
    pub(super) fn write(&self, field: u8, into: &mut Writer) {
        let begin = into.length();
        into.bytes(self.0.written());
        if field == FIELD {
            return;
        }
        let mut rest = into.written_from(begin);
        while let [place, tail @ ..] = rest {
            *place = field;
            let (length, behind) = length(tail);
            rest = &mut tail[behind + length..];
        }
    }

    fn has(&self, key: &str) -> bool {
        let mut rest = self.0.written();
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

    #[inline(always)]
    fn add_text(&mut self, key: &str, text: &[u8]) {
        if text.len() < 0x80 {
            let place = self.add(key, 2 + text.len());
            *fixed(place) = [TEXT, text.len() as u8];
            place[2..2 + text.len()].copy_from_slice(text);
        } else {
            self.0 = with_long_text(mem::take(&mut self.0), key, text);
        }
    }

    /// Adds one whose `AnyValue` takes so many bytes, and returns their place, with slack.
    #[inline(always)]
    fn add(&mut self, key: &str, value: usize) -> &mut [u8] {
        let whole = 4 + key.len() + value;
        if whole >= 0x80 {
            self.0 = begun_long(mem::take(&mut self.0), key, value);
            return self.0.room_and_slack(value);
        }
        // As nearly all are: each length takes one byte.
        let (head, place) = self.0.room_and_slack(2 + whole).split_at_mut(6 + key.len());
        head[..4].copy_from_slice(&[FIELD, whole as u8, KEY, key.len() as u8]);
        head[4..4 + key.len()].copy_from_slice(key.as_bytes());
        head[4 + key.len()..].copy_from_slice(&[VALUE, value as u8]);
        place
    }

    #[cfg(test)]
    pub(super) fn decoded(&self) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
        use opentelemetry_proto::tonic::resource::v1::Resource;
        use prost::Message as _;

        let mut bytes = Writer::default();
        self.write(key(1, Wire::Length), &mut bytes);
        Resource::decode(bytes.written()).unwrap().attributes
    }
}

/// An IP address as its `Display` writes it. The usual kind takes none of the machinery of formats: most spans have two.
pub(super) struct AddressText {
    text: [u8; Self::MOST],
    length: usize,
}

impl AddressText {
    /// Of an IPv6 address that ends with one of IPv4.
    const MOST: usize = 45;

    pub(super) fn of(address: IpAddr) -> Self {
        let (mut text, mut length) = ([0; Self::MOST], 0);
        match address {
            IpAddr::V4(address) => {
                for octet in address.octets() {
                    let (digits, count) = OCTETS[usize::from(octet)];
                    text[length..length + digits.len()].copy_from_slice(&digits);
                    length += count + 1;
                }
                // Behind the last one stands no dot.
                length -= 1;
            }
            IpAddr::V6(address) => {
                let mut rest = text.as_mut_slice();
                // It has room for every address.
                let _ = write!(rest, "{address}");
                length = Self::MOST - rest.len();
            }
        }
        Self { text, length }
    }
}

/// Each octet in decimal and a dot, and how many digits that are.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10];
        let digits = [hundreds as u8 + b'0', tens as u8 + b'0', ones as u8 + b'0'];
        octets[octet] = match digits {
            [b'0', b'0', ones] => ([ones, b'.', 0, 0], 1),
            [b'0', tens, ones] => ([tens, ones, b'.', 0], 2),
            [hundreds, tens, ones] => ([hundreds, tens, ones, b'.'], 3),
        };
        octet += 1;
    }
    octets
};

// What is long takes no reference, so that a list of attributes can stay in registers.

#[cold]
fn with_long_text(writer: Writer, key: &str, text: &[u8]) -> Writer {
    let length = text.len() as u64;
    let mut writer = begun_long(writer, key, 1 + varint_len(length) + text.len());
    writer.bytes(&[TEXT]);
    append_varint(&mut writer, length);
    writer.bytes(text);
    writer
}

#[cold]
fn with_long_number(writer: Writer, key: &str, value: u64) -> Writer {
    let mut writer = begun_long(writer, key, 1 + varint_len(value));
    writer.bytes(&[NUMBER]);
    append_varint(&mut writer, value);
    writer
}

/// What stands before the value where a length may take more than one byte.
#[cold]
fn begun_long(mut writer: Writer, key: &str, value: usize) -> Writer {
    let (key_length, value_length) = (key.len() as u64, value as u64);
    let whole = 2 + varint_len(key_length) + key.len() + varint_len(value_length) + value;
    writer.bytes(&[FIELD]);
    append_varint(&mut writer, whole as u64);
    writer.bytes(&[KEY]);
    append_varint(&mut writer, key_length);
    writer.bytes(key.as_bytes());
    writer.bytes(&[VALUE]);
    append_varint(&mut writer, value_length);
    writer
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
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "10.99.200.7",
            "::1",
            "2001:db8::10:0:7",
            "::ffff:1.2.3.4",
            "f:f:f:f:f:f:f:f",
        ] {
            let address = AddressText::of(text.parse().unwrap());
            let found = Attributes::default().address("at", &address).decoded();
            assert_eq!(found[0].value.as_ref().unwrap().value, Some(Value::StringValue(text.into())));
        }
    }
}
