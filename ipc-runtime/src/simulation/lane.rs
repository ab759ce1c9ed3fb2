//! Both directions of one call as the application sees them: items that are read one by one, and items that are encoded
//! together and sent as credit allows. The same for clients and handlers.

use std::collections::VecDeque;
use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::message::{Direction, Message, Name};
use super::plan::Plan;
use super::report::Event;
use super::task::{Task, Wait};
use super::world::{At, World};
use crate::metadata::Metadata;
use crate::protocol::call::{self, End, Next, Waiting};
use crate::protocol::queue::{INLINE_BYTES, Payload};
use crate::protocol::table::CallKey;

/// A batch of this many bytes is full.
const BATCH_BYTES: usize = 16 * 1024;

/// Which call it is, on which connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) at: At,
    pub(super) key: CallKey,
    pub(super) call: u32,
    pub(super) attempt: u8,
}

/// What a reader got.
#[derive(Debug)]
pub(super) enum Got {
    Nothing,
    Headers(Metadata),
    Item(Bytes),
    End(End),
}

/// The reading half.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    items: VecDeque<Waiting>,
    /// What follows them, where that is known already.
    end: Option<End>,
    taken: u64,
    /// How many items the application has.
    pub(super) received: u32,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    direction: Direction,
    id: Option<u64>,
    /// The next item.
    index: u32,
    total: u32,
    batch: BytesMut,
    batched: u32,
    cost: u64,
    credit: i64,
    /// The pause before the next item is over.
    has_paused: bool,
    /// How many items the connection has taken.
    pub(super) accepted: u32,
}

/// How sending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    Waits,
    /// All was sent; a client has said so.
    Finished,
    /// No more is wanted.
    Over,
    /// An item is too large.
    BadItem,
}

impl Inbox {
    /// Whether the call has ended, though not everything was read.
    pub(super) const fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// Takes the next of what has arrived, and registers the task where there is nothing.
    pub(super) fn poll(&mut self, world: &mut World<'_>, lane: Lane, task: &mut Task) -> Got {
        if let Some(item) = self.unread(world, lane) {
            return Got::Item(item);
        }
        if let Some(end) = self.end.take() {
            return Got::End(end);
        }
        let waker = task.waker.clone();
        let items = &mut self.items;
        match world.update(lane.at, |core, _| core.next(lane.key, items, &waker)) {
            None => {
                task.wait = Wait::Next;
                Got::Nothing
            }
            Some(Next::Headers(headers)) => Got::Headers(headers),
            Some(Next::End(end)) => Got::End(end),
            Some(Next::Item(item, end)) => {
                self.end = end;
                Got::Item(self.note_taken(item, world, lane))
            }
            Some(Next::Items(end)) => {
                self.end = end;
                match self.unread(world, lane) {
                    Some(item) => Got::Item(item),
                    None => world.violation("items were announced, and there are none"),
                }
            }
        }
    }

    fn unread(&mut self, world: &mut World<'_>, lane: Lane) -> Option<Bytes> {
        let item = self.items.pop_front()?;
        Some(self.note_taken(item, world, lane))
    }

    fn note_taken(&mut self, item: Waiting, world: &mut World<'_>, lane: Lane) -> Bytes {
        let Waiting { message, cost } = item;
        self.taken += cost;
        if self.end.is_none() && call::is_grant_due(self.taken, world.window(lane.at)) {
            let taken = std::mem::take(&mut self.taken);
            world.update(lane.at, |core, _| core.taken(lane.key, taken));
        }
        message
    }

    /// Checks that an item of a stream is the one whose turn it is.
    pub(super) fn check(
        &mut self,
        world: &mut World<'_>,
        lane: Lane,
        plan: &Plan,
        direction: Direction,
        item: &[u8],
    ) {
        let name = Name { call: lane.call, attempt: lane.attempt, direction, index: self.received };
        let length = name.length(plan.sizes, world.settings.max_frame_bytes);
        if !(Message { name, length }).matches(item) {
            world
                .violation(&format!("an item of {} bytes instead of {name:?} of {length} bytes", item.len()));
        }
        if item.is_empty() {
            world.report.count(Event::EmptyMessage);
        }
        self.received += 1;
    }
}

impl Sender {
    pub(super) fn new(direction: Direction, total: u32, id: Option<u64>) -> Self {
        Self {
            direction,
            id,
            index: 0,
            total,
            batch: BytesMut::new(),
            batched: 0,
            cost: 0,
            credit: 0,
            has_paused: false,
            accepted: 0,
        }
    }

    /// Sends until something must be waited for.
    pub(super) fn poll(
        &mut self,
        world: &mut World<'_>,
        lane: Lane,
        plan: &Plan,
        task: &mut Task,
    ) -> SendState {
        let waker = task.waker.clone();
        let id = match self.id {
            Some(id) => id,
            None => match world.update(lane.at, |core, _| core.poll_id(lane.key, &waker)) {
                Poll::Ready(Some(id)) => *self.id.insert(id),
                Poll::Ready(None) => return SendState::Over,
                Poll::Pending => {
                    task.wait = Wait::Id;
                    return SendState::Waits;
                }
            },
        };
        loop {
            if self.index == self.total {
                return if self.send(world, lane) { SendState::Finished } else { SendState::Over };
            }
            if let Some(pause) = plan.send_pause
                && !std::mem::replace(&mut self.has_paused, true)
            {
                world.report.count(Event::SentSlowly);
                if !self.send(world, lane) {
                    return SendState::Over;
                }
                // A handler's own task hears the end of the call.
                if self.direction == Direction::Request {
                    if world.update(lane.at, |core, _| core.poll_over(lane.key, &waker)).is_some() {
                        return SendState::Over;
                    }
                    task.wait = Wait::Over;
                }
                task.sleep = Some(world.now + pause);
                return SendState::Waits;
            }
            match self.put(world, lane, plan, id, task) {
                Some(SendState::Finished) => {
                    self.index += 1;
                    self.has_paused = false;
                }
                Some(state) => return state,
                None => return SendState::Waits,
            }
        }
    }

    /// Adds the next item to the batch, or sends it by itself; `None` where credit must be waited for.
    fn put(
        &mut self,
        world: &mut World<'_>,
        lane: Lane,
        plan: &Plan,
        id: u64,
        task: &mut Task,
    ) -> Option<SendState> {
        let name =
            Name { call: lane.call, attempt: lane.attempt, direction: self.direction, index: self.index };
        let max = world.settings.max_frame_bytes;
        let is_bad = plan.bad_item == Some(self.index);
        let length = if is_bad { max + 1 } else { name.length(plan.sizes, max) };
        let message = Message { name, length };
        let fits = self.credit > 0 && self.batch.len() < BATCH_BYTES && length <= INLINE_BYTES;
        let batches = fits && !world.random.chance(100);
        if !batches {
            if !self.send(world, lane) {
                return Some(SendState::Over);
            }
            let waker = task.waker.clone();
            match world.update(lane.at, |core, _| core.poll_send(lane.key, &waker)) {
                Poll::Ready(Some(credit)) => self.credit = credit,
                Poll::Ready(None) => return Some(SendState::Over),
                Poll::Pending => {
                    task.wait = Wait::Send;
                    return None;
                }
            }
        }
        let cost = call::cost(length);
        let encoder = world.encoder(lane.at);
        if encoder.put_item(&mut self.batch, id, &message, length).is_err() {
            if !is_bad {
                world.violation(&format!("an item of {length} bytes can't be sent"));
            }
            world.report.count(Event::ItemTooLarge);
            return Some(if self.send(world, lane) { SendState::BadItem } else { SendState::Over });
        }
        self.batched += 1;
        self.cost += cost;
        self.credit = self.credit.saturating_sub_unsigned(cost);
        if length > INLINE_BYTES {
            world.report.count(Event::LargeMessage);
            if !self.send(world, lane) {
                return Some(SendState::Over);
            }
        }
        Some(SendState::Finished)
    }

    /// Hands the connection what has come together.
    fn send(&mut self, world: &mut World<'_>, lane: Lane) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let frames = self.batch.split().freeze();
        let cost = std::mem::take(&mut self.cost);
        let items = std::mem::take(&mut self.batched);
        let payload = if frames.len() <= INLINE_BYTES {
            Payload::Small(&frames)
        } else {
            Payload::Large(frames.clone())
        };
        let is_sent = world.update(lane.at, |core, _| core.send(lane.key, payload, cost));
        if is_sent {
            self.accepted += items;
            world.note_items(lane, self.direction, self.accepted);
        }
        world.maybe_flush(lane.at);
        is_sent
    }
}
