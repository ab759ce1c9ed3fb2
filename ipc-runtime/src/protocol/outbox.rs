//! The frames that wait to be written on one connection, their order, and the bytes handed to the transport.
//!
//! Frames of different calls take turns. Small frames of a call that has just begun to send go first. Calls with more to
//! send share the rest by deficit round robin (M. Shreedhar and G. Varghese, 1995), as in `FQ-CoDel` (RFC 8290,
//! section 4). So a small call waits for one large frame at most, and no call starves.
//!
//! No call waits for room that others share, because each call has its own queue. The total size is bounded by the number
//! of calls and the limit of each queue.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::call::Call;
use super::queue::{CallQueue, Chunk, INLINE_BYTES};
use super::table::{CallKey, Table};

/// About this many bytes are chosen for one write, plus one large frame.
pub(super) const TRANSMIT_BYTES: usize = 64 * 1024;

/// How much a call may send at each turn.
pub(super) const QUANTUM: usize = 16 * 1024;

/// A buffer that has grown beyond this size is freed after it is written.
const KEPT_BYTES: usize = 2 * TRANSMIT_BYTES;

/// Bytes that were chosen for writing, in order. The writer holds them and then gives them back to the connection.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    head: BytesMut,
    /// A large frame, or its large part, which follows the head.
    tail: Bytes,
    /// How many bytes the transport has taken.
    taken: usize,
    /// The positions of frames of calls that this side opened.
    marks: Vec<Mark>,
    /// How many Pongs and refusals are among the frames.
    replies: usize,
}

/// The position of a frame of a call that this side opened.
#[derive(Clone, Copy, Debug)]
struct Mark {
    key: CallKey,
    start: usize,
    end: usize,
    is_open: bool,
}

impl Transmit {
    /// The bytes that are still to be written. The second part may be empty.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        match self.taken.checked_sub(self.head.len()) {
            None => [&self.head[self.taken..], &self.tail],
            Some(taken) => [&self.tail[taken..], &[]],
        }
    }

    /// Notes that the transport has taken `taken` more bytes.
    pub(crate) const fn advance(&mut self, taken: usize) {
        self.taken += taken;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.taken >= self.len()
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// Removes all frames of a call that were not begun.
    fn remove(&mut self, key: CallKey) {
        // A frame that was begun is finished.
        let taken = self.taken;
        let is_removable = |mark: &Mark| mark.key == key && mark.start >= taken;
        while let Some(at) = self.marks.iter().position(is_removable) {
            let Mark { start, end, .. } = self.marks.remove(at);
            let in_head = end.min(self.head.len());
            if end > self.head.len() {
                self.tail = Bytes::new();
            }
            self.head.copy_within(in_head.., start);
            let removed = in_head - start;
            self.head.truncate(self.head.len() - removed);
            for mark in &mut self.marks {
                if mark.start >= end {
                    mark.start -= removed;
                    mark.end -= removed;
                }
            }
        }
    }

    fn clear(&mut self) {
        if self.head.capacity() > KEPT_BYTES {
            self.head = BytesMut::new();
        }
        self.head.clear();
        self.tail = Bytes::new();
        self.taken = 0;
        self.marks.clear();
        self.replies = 0;
    }
}

/// Everything that waits to be written on one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Frames that are chosen but not yet handed over.
    pub(super) next: Transmit,
    /// An empty `Transmit`, to be reused.
    spare: Transmit,
    /// Frames that were handed over, and then partly given back.
    blocked: Option<Transmit>,
    /// A thread writes.
    is_in_flight: bool,
    /// Frames that take no turns, while `next` is full.
    pub(super) control: BytesMut,
    control_replies: usize,
    /// How many Pongs and refusals are not written yet.
    replies: usize,
    /// Calls that have just begun to send something small.
    pub(super) fresh: VecDeque<CallKey>,
    /// Calls that take turns by deficit.
    pub(super) backlog: VecDeque<CallKey>,
    /// How many chunks are in the queues of calls whose turn may come.
    pub(super) queued: usize,
    /// How many frames were added since the last write began.
    frames: usize,
    /// About how many keys in the rings belong to calls that have nothing to send.
    stale: usize,
    /// Nothing more is written. Frames that are queued are dropped.
    pub(super) is_closed: bool,
}

impl Outbox {
    /// Whether nothing waits and no thread writes.
    pub(super) fn is_flushed(&self) -> bool {
        !self.is_in_flight && self.blocked.is_none() && !self.has_work()
    }

    /// Whether there is something that could be handed over.
    pub(super) fn has_work(&self) -> bool {
        !self.next.is_empty() || !self.control.is_empty() || self.queued > 0
    }

    /// Bytes that wait to be written and are in no call's queue.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.next.len() + self.control.len()
    }

    /// Whether frames are chosen, or wait without a turn.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn has_chosen(&self) -> bool {
        !self.next.is_empty() || !self.control.is_empty()
    }

    /// Whether all waiting frames are already chosen.
    pub(super) fn has_only_chosen(&self) -> bool {
        self.queued == 0 && self.control.is_empty()
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        self.is_in_flight
    }

    pub(super) const fn replies(&self) -> usize {
        self.replies
    }

    /// How many frames were added since the last write began, and how many bytes they have.
    pub(super) fn gathered(&self) -> (usize, usize) {
        (self.frames, self.next.len())
    }

    /// Queues a small frame that takes no turns: Ping, Pong, Credit, Cancel, `GoAway`, a refusal. If nothing more is
    /// written, `write` is not called.
    pub(super) fn put_control<E>(
        &mut self,
        is_reply: bool,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.is_closed {
            return Ok(());
        }
        let (buffer, replies) = if self.next.tail.is_empty() {
            (&mut self.next.head, &mut self.next.replies)
        } else {
            (&mut self.control, &mut self.control_replies)
        };
        write(buffer)?;
        self.frames += 1;
        self.replies += usize::from(is_reply);
        *replies += usize::from(is_reply);
        Ok(())
    }

    /// Whether a small frame may be added to the next write at once: its call has nothing waiting and there is room.
    pub(super) fn stages_at_once(&self, queue: &CallQueue, length: usize) -> bool {
        length <= INLINE_BYTES
            && queue.is_empty()
            && !self.is_closed
            && self.fresh.is_empty()
            && self.next.tail.is_empty()
            && self.next.head.len() < TRANSMIT_BYTES
    }

    /// Queues a chunk of a call. From now on, the call takes turns.
    pub(super) fn push(&mut self, key: CallKey, queue: &mut CallQueue, chunk: Chunk) {
        if self.is_closed {
            return;
        }
        queue.push(chunk);
        self.queued += 1;
        self.frames += 1;
        self.take_turns(key, queue);
    }

    /// Queues a chunk of a call that does not take turns yet.
    pub(super) fn push_waiting(queue: &mut CallQueue, chunk: Chunk) {
        queue.push(chunk);
    }

    /// Lets a call with waiting chunks take turns.
    pub(super) fn release(&mut self, key: CallKey, queue: &mut CallQueue) {
        if self.is_closed {
            return;
        }
        self.queued += queue.count();
        self.frames += queue.count();
        self.take_turns(key, queue);
    }

    fn take_turns(&mut self, key: CallKey, queue: &mut CallQueue) {
        if std::mem::replace(&mut queue.takes_turns, true) {
            return;
        }
        if queue.next_len() <= INLINE_BYTES {
            queue.deficit = QUANTUM;
            self.fresh.push_back(key);
        } else {
            queue.deficit = 0;
            self.backlog.push_back(key);
        }
    }

    /// Drops what a call has waiting. Of what was chosen, `chosen` says whether it is dropped, too.
    pub(super) fn drop_frames(&mut self, key: CallKey, queue: &mut CallQueue, chosen: bool) {
        if queue.takes_turns && !self.is_closed {
            self.queued -= queue.count();
            self.stale += 1;
        }
        queue.clear();
        if chosen {
            self.next.remove(key);
            if let Some(blocked) = &mut self.blocked {
                blocked.remove(key);
            }
            self.forget_done();
        }
    }

    /// Removes the frames that were given back if nothing of them is left to write.
    fn forget_done(&mut self) {
        if let Some(mut done) = self.blocked.take_if(|blocked| blocked.is_done()) {
            self.replies -= done.replies;
            done.clear();
            self.spare = done;
        }
    }

    /// Removes the keys of calls that have nothing to send from the rings, if there are too many. Usually such a key is
    /// removed at its turn, but turns do not come while nothing can be written.
    pub(super) fn forget_stale(&mut self, calls: &mut Table<Call>) {
        const FEW: usize = 64;
        if self.stale < FEW || self.stale * 2 < self.fresh.len() + self.backlog.len() {
            return;
        }
        self.stale = 0;
        self.fresh.retain(|key| turn(calls, *key).is_some());
        self.backlog.retain(|key| turn(calls, *key).is_some());
    }

    /// The call whose turn it is, with its chunk. `None` if nothing waits or enough is chosen.
    pub(super) fn choose(&mut self, calls: &mut Table<Call>) -> Option<(CallKey, Chunk)> {
        if !self.next.tail.is_empty() {
            return None;
        }
        if !self.control.is_empty() {
            self.next.head.extend_from_slice(&self.control);
            self.next.replies += std::mem::take(&mut self.control_replies);
            self.control.clear();
        }
        let is_full = self.next.head.len() >= TRANSMIT_BYTES;
        if !is_full && let Some(chosen) = self.choose_fresh(calls) {
            return Some(chosen);
        }
        // One turn of the others fits each write, however much is fresh.
        if is_full && self.next.head.len() >= TRANSMIT_BYTES + QUANTUM {
            return None;
        }
        self.choose_backlog(calls)
    }

    fn choose_fresh(&mut self, calls: &mut Table<Call>) -> Option<(CallKey, Chunk)> {
        loop {
            let key = *self.fresh.front()?;
            let Some(queue) = turn(calls, key) else {
                self.fresh.pop_front();
                continue;
            };
            let length = queue.next_len();
            // What is not copied ends the write: whoever is fresh goes before it.
            if length > queue.deficit || length > INLINE_BYTES {
                self.fresh.pop_front();
                self.backlog.push_back(key);
                continue;
            }
            queue.deficit -= length;
            let chunk = queue.pop()?;
            self.queued -= 1;
            if queue.is_empty() {
                queue.takes_turns = false;
                self.fresh.pop_front();
            }
            return Some((key, chunk));
        }
    }

    fn choose_backlog(&mut self, calls: &mut Table<Call>) -> Option<(CallKey, Chunk)> {
        loop {
            let key = *self.backlog.front()?;
            let Some(queue) = turn(calls, key) else {
                self.backlog.pop_front();
                continue;
            };
            let length = queue.next_len();
            if length > queue.deficit {
                queue.deficit += QUANTUM;
                self.backlog.rotate_left(1);
                continue;
            }
            queue.deficit -= length;
            let chunk = queue.pop()?;
            self.queued -= 1;
            if queue.is_empty() {
                queue.takes_turns = false;
                self.backlog.pop_front();
            }
            return Some((key, chunk));
        }
    }

    /// Adds a chosen frame to the next write. Marks its position if it belongs to a call that this side opened.
    pub(super) fn stage<E>(
        &mut self,
        owner: Option<(CallKey, bool)>,
        write: impl FnOnce(&mut BytesMut) -> Result<Bytes, E>,
    ) -> Result<(), E> {
        let start = self.next.head.len();
        match write(&mut self.next.head) {
            Ok(tail) => self.next.tail = tail,
            Err(error) => {
                self.next.head.truncate(start);
                return Err(error);
            }
        }
        self.frames += 1;
        if let Some((key, is_open)) = owner {
            let end = self.next.len();
            self.next.marks.push(Mark { key, start, end, is_open });
        }
        Ok(())
    }

    /// Hands over the chosen frames, or the rest of those that were handed over before. `handed` is called for each call
    /// whose `Open` is among them, before any byte is written.
    pub(super) fn hand_over(&mut self, mut handed: impl FnMut(CallKey)) -> Option<Transmit> {
        if self.is_in_flight {
            return None;
        }
        let transmit = match self.blocked.take() {
            Some(blocked) => blocked,
            None if self.next.is_empty() => return None,
            None => std::mem::replace(&mut self.next, std::mem::take(&mut self.spare)),
        };
        self.is_in_flight = true;
        self.frames = 0;
        for mark in transmit.marks.iter().filter(|mark| mark.is_open) {
            handed(mark.key);
        }
        Some(transmit)
    }

    /// Takes back what was handed over. Calls whose `Open` has no byte taken go to `unsent`.
    pub(super) fn take_back(&mut self, mut transmit: Transmit, mut unsent: impl FnMut(CallKey)) {
        self.is_in_flight = false;
        if transmit.is_done() {
            self.replies -= transmit.replies;
            transmit.clear();
            self.spare = transmit;
            return;
        }
        for mark in transmit.marks.iter().filter(|mark| mark.is_open && mark.start >= transmit.taken) {
            unsent(mark.key);
        }
        self.blocked = Some(transmit);
    }

    /// Whether the transport did not take all bytes of the last write.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Drops all frames. Nothing more will be written.
    pub(super) fn clear(&mut self) {
        let is_in_flight = self.is_in_flight;
        *self = Self { is_in_flight, is_closed: true, ..Self::default() };
    }
}

/// The queue of a call that takes turns, if the call still exists and its queue is not empty.
fn turn(calls: &mut Table<Call>, key: CallKey) -> Option<&mut CallQueue> {
    let queue = &mut calls.get_mut(key)?.queue;
    if queue.is_empty() {
        queue.takes_turns = false;
        return None;
    }
    Some(queue)
}
