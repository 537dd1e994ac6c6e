//! Protobuf as it is written. What is made of every event is written once, into the bytes that are sent: a message of a
//! library would need memory for each of its many small parts first.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use std::mem;

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

    #[inline(always)]
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
            let place = self.0.room_and_slack(1 + size_of::<u64>());
            place[0] = key(field, Wire::Fixed64);
            *fixed(&mut place[1..]) = number.to_le_bytes();
        }
        self
    }

    /// A text in two parts.
    #[inline]
    pub(super) fn joined<const N: usize>(&mut self, field: u8, first: &[u8], second: &[u8; N]) -> &mut Self {
        self.begin(field, first.len() + second.len());
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
        self.begin(field, bytes.len());
        self.0.bytes(bytes);
    }

    /// What stands before so many bytes.
    #[inline(always)]
    fn begin(&mut self, field: u8, bytes: usize) {
        if bytes < 0x80 {
            *fixed(self.0.room_and_slack(2)) = [key(field, Wire::Length), bytes as u8];
        } else {
            self.0.bytes(&[key(field, Wire::Length)]);
            append_varint(&mut self.0, bytes as u64);
        }
    }
}

/// What stands before a field.
pub(super) const fn key(field: u8, wire: Wire) -> u8 {
    field << 3 | wire as u8
}

#[inline(always)]
pub(super) fn append_varint(into: &mut Writer, number: u64) {
    match varint(number) {
        Some((bytes, length)) => *fixed(into.room_and_slack(length)) = bytes,
        None => *into = with_long(mem::take(into), number),
    }
}

/// The number as it is written, and how many of these bytes it takes. None if it needs more.
#[inline(always)]
pub(super) fn varint(number: u64) -> Option<([u8; 8], usize)> {
    if number >= 1 << 56 {
        return None;
    }
    // Gaps open between the upper and the lower half of the bits, then within these, until there are seven to a byte.
    let spread = (number & 0x0fff_ffff) | (number & 0x00ff_ffff_f000_0000) << 4;
    let spread = (spread & 0x0000_3fff_0000_3fff) | (spread & 0x0fff_c000_0fff_c000) << 2;
    let spread = (spread & 0x007f_007f_007f_007f) | (spread & 0x3f80_3f80_3f80_3f80) << 1;
    let length = varint_len(number);
    // All but the last say that there is more.
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    Some(((spread | more).to_le_bytes(), length))
}

#[cold]
fn with_long(mut writer: Writer, mut number: u64) -> Writer {
    for byte in writer.room(varint_len(number)) {
        *byte = number as u8 & 0x7f | if number < 0x80 { 0 } else { 0x80 };
        number >>= 7;
    }
    writer
}

/// The beginning of a place.
#[inline(always)]
#[expect(clippy::expect_used, reason = "`room` takes no less than what is written")]
pub(super) fn fixed<const N: usize>(place: &mut [u8]) -> &mut [u8; N] {
    place.first_chunk_mut().expect("there is slack behind every place")
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
