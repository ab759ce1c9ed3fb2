//! One direction of a simulated stream: what was written and not read yet, how much of it has arrived, and what is wrong
//! with it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf as _, BufMut};

/// One direction of a stream.
#[derive(Debug)]
pub(super) struct Pipe {
    data: VecDeque<u8>,
    /// How many of these bytes the reader can see.
    arrived: usize,
    capacity: usize,
    /// Nothing moves before then.
    pub(super) stalled_until: Option<Instant>,
    /// The writer has said that nothing more comes.
    pub(super) is_finished: bool,
    /// The reader is gone: writing fails.
    pub(super) is_unread: bool,
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Taken(usize),
    Full,
    Broken,
}

impl Pipe {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            data: VecDeque::new(),
            arrived: 0,
            capacity,
            stalled_until: None,
            is_finished: false,
            is_unread: false,
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_until.is_some()
    }

    /// Whether a write would get anywhere, if only to fail.
    pub(super) fn is_writable(&self) -> bool {
        self.is_unread || self.is_finished || !self.is_stalled() && self.data.len() < self.capacity
    }

    /// Takes at most `most` bytes.
    pub(super) fn write(&mut self, parts: [&[u8]; 2], most: usize) -> Written {
        if self.is_unread || self.is_finished {
            return Written::Broken;
        }
        if !self.is_writable() {
            return Written::Full;
        }
        let room = most.min(self.capacity - self.data.len());
        let first = room.min(parts[0].len());
        let second = (room - first).min(parts[1].len());
        self.data.extend(&parts[0][..first]);
        self.data.extend(&parts[1][..second]);
        Written::Taken(first + second)
    }

    /// How many bytes are on their way.
    pub(super) fn travelling(&self) -> usize {
        if self.is_stalled() { 0 } else { self.data.len() - self.arrived }
    }

    /// Whether something was written that has not arrived, whatever keeps it.
    pub(super) fn has_undelivered(&self) -> bool {
        self.data.len() > self.arrived
    }

    pub(super) const fn deliver(&mut self, bytes: usize) {
        self.arrived += bytes;
    }

    /// How many bytes can be read.
    pub(super) const fn arrived(&self) -> usize {
        self.arrived
    }

    /// Whether a read would find the end.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_finished && self.data.is_empty()
    }

    /// Moves at most `most` bytes to `room`.
    pub(super) fn read(&mut self, room: &mut impl BufMut, most: usize) -> usize {
        let read = most.min(self.arrived).min(room.remaining_mut());
        room.put((&mut self.data).take(read));
        self.arrived -= read;
        read
    }

    pub(super) fn discard(&mut self, most: usize) -> usize {
        let read = most.min(self.arrived);
        self.data.advance(read);
        self.arrived -= read;
        read
    }

    /// The stream is gone, with what was on its way.
    pub(super) fn reset(&mut self) {
        self.data.clear();
        self.arrived = 0;
        self.is_finished = true;
        self.is_unread = true;
    }
}
