//! The bytes before a message: the header of its frame, and the keys and lengths of the fields around it.
//!
//! They are collected on the stack and then copied together, which costs less than appending single bytes. This module
//! knows protobuf's varints and no envelope.

use bytes::BytesMut;

/// Room for a frame's header, three numbers or lengths of ten bytes with one-byte keys, and some spare bytes.
const MAX_BYTES: usize = 48;

const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

/// The bytes collected so far.
#[derive(Debug)]
pub(super) struct Prefix {
    bytes: [u8; MAX_BYTES],
    len: usize,
}

impl Prefix {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; MAX_BYTES], len: 0 }
    }

    /// Begins with the header of a frame.
    pub(super) fn after(header: [u8; 8]) -> Self {
        let mut prefix = Self::new();
        prefix.bytes[..header.len()].copy_from_slice(&header);
        prefix.len = header.len();
        prefix
    }

    /// Adds a number field.
    pub(super) fn number(&mut self, tag: u8, value: u64) {
        self.push(tag << 3 | VARINT);
        self.varint(value);
    }

    /// Adds the key and length of a field of `length` bytes.
    pub(super) fn length(&mut self, tag: u8, length: usize) {
        self.push(tag << 3 | LENGTH_DELIMITED);
        self.varint(length as u64);
    }

    pub(super) fn put(&self, buffer: &mut BytesMut) {
        buffer.extend_from_slice(&self.bytes[..self.len]);
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use prost::encoding::{WireType, encode_key, encode_varint};

    use super::*;

    #[test]
    fn numbers_and_lengths_are_written_as_prost_writes_them() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut prefix = Prefix::after([7; 8]);
            prefix.number(1, value);
            prefix.length(15, usize::try_from(value).unwrap_or(usize::MAX));
            prefix.number(2, value);
            let mut ours = BytesMut::new();
            prefix.put(&mut ours);
            let mut theirs = BytesMut::from(&[7; 8][..]);
            for (tag, wire_type) in
                [(1, WireType::Varint), (15, WireType::LengthDelimited), (2, WireType::Varint)]
            {
                encode_key(tag, wire_type, &mut theirs);
                encode_varint(value, &mut theirs);
            }
            assert_eq!(ours, theirs);
        }
    }
}
