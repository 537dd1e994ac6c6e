//! Protobuf as it is written. What is made of every event is written once, into the bytes that are sent: a message of a
//! library would need memory for each of its many small parts first.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use bytes::{Bytes, BytesMut};

use super::attributes::Attributes;
use crate::writer::Writer;

/// How the value of a field is written.
#[derive(Clone, Copy)]
pub(super) enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
}

/// Bytes that messages share: about twenty spans. One of them that waits for long keeps the others' room.
const SHARED: usize = 16 << 10;

/// A message of which more may come. Fields have numbers below 16; what is empty or 0 is left out, because that is what an
/// absent field means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Writer);

impl Message {
    /// A span whose attributes these are. Fields may come in any order.
    pub(super) fn span_of(attributes: Attributes) -> Self {
        Self(attributes.into_writer())
    }

    pub(super) fn into_writer(self) -> Writer {
        self.0
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self, field: u8, bytes: &[u8]) -> &mut Self {
        if !bytes.is_empty() {
            self.part(field, bytes);
        }
        self
    }

    #[inline]
    pub(super) fn text(&mut self, field: u8, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    #[inline]
    pub(super) fn number(&mut self, field: u8, number: u64) -> &mut Self {
        if number != 0 {
            self.0.bytes(&[key(field, Wire::Varint)]);
            append_varint(&mut self.0, number);
        }
        self
    }

    #[inline]
    pub(super) fn fixed64(&mut self, field: u8, number: u64) -> &mut Self {
        if number != 0 {
            let place = self.0.room(1 + size_of::<u64>());
            place[0] = key(field, Wire::Fixed64);
            place[1..].copy_from_slice(&number.to_le_bytes());
        }
        self
    }

    /// A text in two parts.
    pub(super) fn joined(&mut self, field: u8, [first, second]: [&[u8]; 2]) -> &mut Self {
        self.0.bytes(&[key(field, Wire::Length)]);
        append_varint(&mut self.0, (first.len() + second.len()) as u64);
        self.0.bytes(first);
        self.0.bytes(second);
        self
    }

    /// A message that is there even if it says nothing.
    pub(super) fn message(&mut self, field: u8, message: &Self) -> &mut Self {
        self.part(field, message.0.written());
        self
    }

    pub(super) fn attributes(&mut self, field: u8, attributes: &Attributes) -> &mut Self {
        attributes.write(key(field, Wire::Length), &mut self.0);
        self
    }

    /// As long as it is, and not longer: it may wait for a while.
    pub(super) fn finish(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.written())
    }

    /// The same as a part of memory that it shares with those before and after it, which is there until all have gone.
    pub(super) fn finish_in(&self, shared: &mut BytesMut) -> Bytes {
        let written = self.0.written();
        if shared.capacity() < written.len() {
            *shared = BytesMut::with_capacity(SHARED.max(written.len()));
        }
        shared.extend_from_slice(written);
        shared.split().freeze()
    }

    #[inline(always)]
    fn part(&mut self, field: u8, bytes: &[u8]) {
        self.0.bytes(&[key(field, Wire::Length)]);
        append_varint(&mut self.0, bytes.len() as u64);
        self.0.bytes(bytes);
    }
}

/// What stands before a field.
pub(super) const fn key(field: u8, wire: Wire) -> u8 {
    field << 3 | wire as u8
}

#[inline(always)]
pub(super) fn append_varint(into: &mut Writer, number: u64) {
    varint(into.room(varint_len(number)), number);
}

/// Fills the place with the number; it has to be as long as [`varint_len`] says.
#[inline(always)]
pub(super) fn varint(place: &mut [u8], mut number: u64) {
    if let [only] = place {
        *only = number as u8;
        return;
    }
    for byte in &mut *place {
        *byte = number as u8 | 0x80;
        number >>= 7;
    }
    if let Some(last) = place.last_mut() {
        *last &= 0x7f;
    }
}

/// How many bytes that takes.
pub(super) const fn varint_len(number: u64) -> usize {
    // Seven bits each, and one byte for 0. 9/64 is close enough to 1/7 for so few bits, and takes no division.
    ((number | 1).ilog2() as usize * 9 + 73) / 64
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::{Span, Status};
    use prost::Message as _;

    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_say() {
        for shift in 0..64 {
            for number in [(1_u64 << shift) - 1, 1 << shift] {
                let (mut ours, mut theirs) = (Writer::default(), Vec::new());
                append_varint(&mut ours, number);
                prost::encoding::encode_varint(number, &mut theirs);
                assert_eq!(ours.written(), theirs, "{number}");
            }
        }
    }

    #[test]
    fn a_library_reads_what_is_written() {
        let long = "x".repeat(300);
        let mut message = Message::default();
        message
            .bytes(1, &[7; 16])
            .text(5, &long)
            .text(3, "")
            .number(6, 3)
            .fixed64(7, u64::MAX)
            .fixed64(8, 0)
            .attributes(9, &Attributes::default().text("a", "b"))
            .message(15, &Message::default());
        let mut shared = BytesMut::new();
        let parts: Vec<_> = (0..100).map(|_| message.finish_in(&mut shared)).collect();
        assert!(parts.iter().all(|part| *part == message.finish()));
        let span = Span::decode(message.finish()).unwrap();
        let expected = Span {
            trace_id: vec![7; 16],
            name: long,
            kind: 3,
            start_time_unix_nano: u64::MAX,
            attributes: Attributes::default().text("a", "b").decoded(),
            status: Some(Status::default()),
            ..Span::default()
        };
        assert_eq!(span, expected);
        assert_eq!(message.finish().len(), expected.encoded_len());
    }
}
