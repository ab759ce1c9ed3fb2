//! What one call has waiting to be written: frames, in chunks that are written together.
//!
//! When a call's turn comes is decided in `outbox`.

use std::collections::VecDeque;

use bytes::Bytes;

/// Frames up to this size are copied together. Larger ones are written from where they are.
pub(crate) const INLINE_BYTES: usize = 8 * 1024;

/// A call takes no more items while this many of its bytes wait.
pub(super) const CALL_QUEUE_BYTES: usize = 64 * 1024;

/// Bytes to queue. Few bytes are copied, many are kept in their buffer.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    /// At most [`INLINE_BYTES`].
    Small(&'a [u8]),
    Large(Bytes),
}

impl Payload<'_> {
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(bytes) => bytes.len(),
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Small(bytes) => Bytes::copy_from_slice(bytes),
            Self::Large(bytes) => bytes,
        }
    }
}

/// Frames of one call that are written together.
#[derive(Debug)]
pub(super) enum Chunk {
    /// The call's `Open`. Its frame is made when its turn comes.
    Open { method: &'static str, rest: Bytes, sum: Option<u32> },
    /// Whole frames: headers, items, a `HalfClose`.
    Frames(Bytes),
    /// The call's last frame.
    Close(Bytes),
}

impl Chunk {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Open { rest, .. } => rest.len(),
            Self::Frames(bytes) | Self::Close(bytes) => bytes.len(),
        }
    }
}

/// The frames that wait in one call.
#[derive(Debug, Default)]
pub(super) struct CallQueue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// How many bytes it may still send in its turn.
    pub(super) deficit: usize,
    /// The call is in one of the rings of calls that take turns.
    pub(super) takes_turns: bool,
}

impl CallQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether another item may be queued.
    pub(super) const fn has_room(&self) -> bool {
        self.bytes < CALL_QUEUE_BYTES
    }

    /// The length of the only chunk, if there is exactly one.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn only_len(&self) -> Option<usize> {
        self.chunks.front().filter(|_| self.chunks.len() == 1).map(Chunk::len)
    }

    pub(super) fn count(&self) -> usize {
        self.chunks.len()
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    pub(super) fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    /// Drops what waits. A turn that was taken is kept.
    pub(super) fn clear(&mut self) {
        *self = Self { takes_turns: self.takes_turns, ..Self::default() };
    }

    pub(super) fn next_len(&self) -> usize {
        self.chunks.front().map_or(0, Chunk::len)
    }
}
