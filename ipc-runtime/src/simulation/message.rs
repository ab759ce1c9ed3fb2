//! Messages that say which call they belong to, and where in it.
//!
//! What a message holds follows from its call, its attempt, its direction and its place, so whoever gets one can tell
//! whether it is the right one, and whole.

use bytes::{BufMut as _, BytesMut};

use super::random::mix;
use crate::protocol::encode::Encode;

/// The bytes that name a message. Shorter messages have the first of them.
pub(super) const NAME_BYTES: usize = 12;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Answer,
}

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) call: u32,
    pub(super) attempt: u8,
    pub(super) direction: Direction,
    pub(super) index: u32,
}

/// How large the messages of a call are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    Tiny,
    Small,
    Mixed,
    Large,
}

impl Name {
    fn bytes(self) -> [u8; NAME_BYTES] {
        let mut bytes = [0; NAME_BYTES];
        bytes[..4].copy_from_slice(&self.call.to_be_bytes());
        bytes[4] = self.attempt;
        bytes[5] = self.direction as u8;
        bytes[6..10].copy_from_slice(&self.index.to_be_bytes());
        bytes[10..].copy_from_slice(b"ok");
        bytes
    }

    /// Which call and attempt a request is of.
    pub(super) fn read(bytes: &[u8]) -> Option<(u32, u8)> {
        let name = bytes.first_chunk::<NAME_BYTES>()?;
        Some((u32::from_be_bytes([name[0], name[1], name[2], name[3]]), name[4]))
    }

    const fn hash(self) -> u64 {
        mix((self.call as u64) << 32 ^ (self.index as u64) << 2 ^ self.direction as u64)
    }

    /// How long this item of a stream is. It is the same in every attempt.
    pub(super) fn length(self, sizes: Sizes, max: usize) -> usize {
        let hash = self.hash();
        let below = |bound: usize| usize::try_from(hash >> 16).unwrap_or(0) % bound;
        let large = || max / 2 + below(max / 2 - 200);
        match sizes {
            Sizes::Tiny => below(40),
            Sizes::Small => below(900),
            Sizes::Mixed if hash.is_multiple_of(8) => large(),
            Sizes::Mixed => below(2000),
            Sizes::Large => large(),
        }
    }
}

/// A message about to be encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) name: Name,
    pub(super) length: usize,
}

impl Message {
    fn fill(self) -> u8 {
        self.name.hash().to_le_bytes()[0]
    }

    pub(super) fn matches(self, bytes: &[u8]) -> bool {
        let named = self.length.min(NAME_BYTES);
        bytes.len() == self.length
            && bytes[..named] == self.name.bytes()[..named]
            && bytes[named..].last().is_none_or(|last| *last == self.fill())
    }
}

impl Encode for Message {
    fn length(&self) -> usize {
        self.length
    }

    fn put(&self, buffer: &mut BytesMut) {
        let named = self.length.min(NAME_BYTES);
        buffer.extend_from_slice(&self.name.bytes()[..named]);
        buffer.put_bytes(self.fill(), self.length - named);
    }
}
