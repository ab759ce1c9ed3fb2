//! One call: the messages that wait for the application, the frames that wait to be written, credit in both directions,
//! and the end.
//!
//! It is the same for both roles. The rules for one role are in `caller` and `callee`. It does not know the bytes of
//! frames, or methods.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;

use super::envelope::{CloseDetails, MAX_CREDIT};
use super::queue::CallQueue;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::status::Status;

/// The credit that an item costs in addition to its message bytes (wire protocol, section 6).
const ITEM_OVERHEAD: u64 = 32;

/// The credit that an item of `length` message bytes costs.
pub(crate) const fn cost(length: usize) -> u64 {
    length as u64 + ITEM_OVERHEAD
}

/// How the other side's part of a call ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The caller sends no more items.
    HalfClosed,
    /// The callee closed the call. Its message, if any, was the last item.
    Closed(Option<Box<CloseDetails>>),
    /// The connection ended first.
    Lost(Lost),
    /// This side gave up the call, for this reason.
    Cancelled(Box<Status>),
    /// The deadline passed first.
    Expired {
        /// Whether the callee can have seen the request.
        sent: bool,
        /// Whether the callee's limits admitted the call.
        admitted: bool,
    },
    /// The request can't be put on the wire; nothing was sent.
    Unsendable(Arc<IpcError>),
    /// This side has closed the call.
    Over,
}

impl End {
    /// Whether what had arrived before this end and was not read yet is given up.
    const fn takes_back(&self) -> bool {
        match self {
            Self::Cancelled(_) | Self::Expired { .. } | Self::Over | Self::Unsendable(_) => true,
            Self::HalfClosed | Self::Closed(_) | Self::Lost(_) => false,
        }
    }
}

/// The state of a call whose connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) cause: Arc<IpcError>,
    /// Whether the callee can have seen the request.
    pub(crate) sent: bool,
    /// Headers or an item of the answer have arrived.
    pub(crate) begun: bool,
}

/// A message that waits for the application, and the credit it cost the sender.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) message: Bytes,
    pub(crate) cost: u64,
}

/// What the reader of a call finds next.
#[derive(Debug)]
pub(crate) enum Next {
    Headers(Metadata),
    /// The only item. Also the end, if it follows directly.
    Item(Waiting, Option<End>),
    /// Several items, in the reader's queue. Also the end, if it follows directly.
    Items(Option<End>),
    End(End),
}

/// Which role this side has in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Callee,
}

/// How much of a call that this side opened was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The call waits until the peer admits another call. It has no id.
    Waiting,
    /// The peer has a place for the call, but no byte of its `Open` was handed to the transport.
    Admitted,
    /// A byte of its `Open` was handed to the transport, so the peer may have seen the request.
    Handed,
}

/// The state of one call.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(super) struct Call {
    /// 0 until its `Open` is chosen for writing.
    pub(super) id: u64,
    pub(super) side: Side,
    pub(super) sent: Sent,
    pub(super) deadline: Option<Instant>,
    /// The size of the message in its `Open`.
    pub(super) request_bytes: u64,
    /// Credit for the peer that is not sent yet.
    pub(super) credit_due: u64,
    /// The peer, or this side, counts it among the open calls.
    pub(super) holds_place: bool,
    /// Frames were sent after its `Open`.
    pub(super) has_sent_frames: bool,
    /// The peer has sent a frame about the call, so it has seen the call.
    pub(super) answered: bool,
    /// Headers or an item of the answer have arrived.
    pub(super) begun: bool,
    /// No reader takes items any more. Arriving items are dropped.
    pub(super) abandoned: bool,
    /// The handler was called, so the request counts as processed.
    pub(super) started: bool,
    /// Its `Close` waits to be written, or was written.
    pub(super) closing: bool,
    pub(super) end: Option<End>,
    headers: Option<Metadata>,
    /// The oldest item. It is not in `items`, so that a call with one message allocates no queue.
    first: Option<Waiting>,
    items: VecDeque<Waiting>,
    /// The credit that the peer still has, as this side counts it.
    incoming: i64,
    /// The credit that this side still has.
    pub(super) outgoing: i64,
    pub(super) queue: CallQueue,
    pub(super) wakers: CallWakers,
}

/// The wakers of a call.
#[derive(Debug, Default)]
pub(super) struct CallWakers {
    /// Waits for headers, items, or the end.
    reader: Option<Waker>,
    /// Waits for credit, or for room in the call's queue.
    sender: Option<Waker>,
    /// Waits until the call is over for this side.
    watcher: Option<Waker>,
}

impl CallWakers {
    pub(super) fn register_reader(&mut self, waker: &Waker) -> Option<Waker> {
        register(&mut self.reader, waker)
    }

    pub(super) const fn has_reader(&self) -> bool {
        self.reader.is_some()
    }

    pub(super) fn register_sender(&mut self, waker: &Waker) -> Option<Waker> {
        register(&mut self.sender, waker)
    }

    pub(super) fn register_watcher(&mut self, waker: &Waker) -> Option<Waker> {
        register(&mut self.watcher, waker)
    }

    pub(super) fn wake_reader(&mut self, wakeups: &mut Vec<Waker>) {
        wakeups.extend(self.reader.take());
    }

    pub(super) fn wake_sender(&mut self, wakeups: &mut Vec<Waker>) {
        wakeups.extend(self.sender.take());
    }

    pub(super) fn wake_all(&mut self, wakeups: &mut Vec<Waker>) {
        self.take_into(wakeups);
    }

    /// Moves all wakers to `wakers`.
    pub(super) fn take_into(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.sender.take());
        wakers.extend(self.watcher.take());
    }
}

/// Returns the previous waker, if it was a different one.
fn register(slot: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    if slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
        return None;
    }
    slot.replace(waker.clone())
}

/// Credit as a number that can go below 0. The protocol allows no more than 2^62.
const fn credit(amount: u64) -> i64 {
    if amount > MAX_CREDIT { MAX_CREDIT.cast_signed() } else { amount.cast_signed() }
}

impl Call {
    /// `window` is the credit this side gives, `peer_window` the credit it gets.
    pub(super) fn new(side: Side, window: u64, peer_window: u64, deadline: Option<Instant>) -> Self {
        Self {
            id: 0,
            side,
            sent: Sent::Waiting,
            deadline,
            request_bytes: 0,
            credit_due: 0,
            holds_place: false,
            has_sent_frames: false,
            answered: false,
            begun: false,
            abandoned: false,
            started: false,
            closing: false,
            end: None,
            headers: None,
            first: None,
            items: VecDeque::new(),
            incoming: credit(window),
            outgoing: credit(peer_window),
            queue: CallQueue::default(),
            wakers: CallWakers::default(),
        }
    }

    /// Whether the peer needs nothing more from this side, or this side has given up the call.
    pub(super) const fn is_over(&self) -> bool {
        self.abandoned || self.closing || !matches!(&self.end, None | Some(End::HalfClosed))
    }

    /// Notes an end, unless there already was one. Only a `HalfClose` may be followed by another end.
    pub(super) fn put_end(&mut self, end: End, wakeups: &mut Vec<Waker>) {
        if matches!(&self.end, None | Some(End::HalfClosed)) {
            self.end = Some(end);
            self.wakers.wake_all(wakeups);
        }
    }

    pub(super) fn put_headers(&mut self, headers: Metadata, wakeups: &mut Vec<Waker>) {
        if !self.abandoned && self.end.is_none() {
            self.headers = Some(headers);
            self.wakers.wake_reader(wakeups);
        }
    }

    /// Adds items from the peer, in order.
    ///
    /// # Errors
    ///
    /// The peer had no credit left for one of them.
    pub(super) fn put_items(
        &mut self,
        messages: impl IntoIterator<Item = Bytes>,
        wakeups: &mut Vec<Waker>,
    ) -> Result<(), Status> {
        if self.end.is_some() {
            return Ok(());
        }
        for message in messages {
            if self.incoming <= 0 {
                return Err(Status::internal(format!(
                    "Item of {} bytes sent with a credit of {}",
                    message.len(),
                    self.incoming
                )));
            }
            let cost = cost(message.len());
            self.incoming -= credit(cost);
            if !self.abandoned {
                self.push(Waiting { message, cost });
            }
        }
        self.wakers.wake_reader(wakeups);
        Ok(())
    }

    /// Adds the message that came with `Open` or `Close`. It costs no credit.
    pub(super) fn put_free(&mut self, message: Bytes) {
        if !self.abandoned {
            self.push(Waiting { message, cost: 0 });
        }
    }

    fn push(&mut self, item: Waiting) {
        if self.first.is_none() && self.items.is_empty() {
            self.first = Some(item);
        } else {
            self.items.push_back(item);
        }
    }

    /// Adds credit for sending.
    ///
    /// # Errors
    ///
    /// The sum is above 2^62.
    pub(super) fn add_credit(&mut self, amount: u64, wakeups: &mut Vec<Waker>) -> Result<(), Status> {
        let sum = i128::from(self.outgoing) + i128::from(amount);
        if sum > i128::from(MAX_CREDIT) {
            return Err(Status::internal(format!("Credit of {amount} brings the sum to {sum}, above 2^62")));
        }
        self.outgoing += credit(amount);
        if sum > 0 {
            self.wakers.wake_sender(wakeups);
        }
        Ok(())
    }

    /// The reader's next part: headers, then items, then the end. Several items go to `items`, which must be empty.
    pub(super) fn take_next(&mut self, items: &mut VecDeque<Waiting>) -> Option<Next> {
        if self.end.as_ref().is_some_and(End::takes_back) {
            self.give_up_items();
        } else if let Some(headers) = self.headers.take() {
            return Some(Next::Headers(headers));
        }
        if let Some(first) = self.first.take() {
            if self.items.is_empty() {
                return Some(Next::Item(first, self.end.clone()));
            }
            self.items.push_front(first);
        }
        if !self.items.is_empty() {
            std::mem::swap(items, &mut self.items);
            return Some(Next::Items(self.end.clone()));
        }
        self.end.clone().map(Next::End)
    }

    /// How much credit to grant after the application has taken items worth `taken`. 0: none now.
    pub(super) fn grant(&mut self, taken: u64) -> u64 {
        if self.end.is_some() || self.closing {
            return 0;
        }
        self.incoming += credit(taken);
        taken
    }

    /// With a window of 0, a waiting reader allows the next item. The call must have an id, to send the credit.
    pub(super) fn grant_one(&mut self) -> u64 {
        if !self.wakers.has_reader()
            || self.id == 0
            || self.incoming > 0
            || self.end.is_some()
            || self.closing
        {
            return 0;
        }
        let grant = 1 - self.incoming;
        self.incoming = 1;
        u64::try_from(grant).unwrap_or(u64::MAX)
    }

    /// Drops the items that wait for the application.
    pub(super) fn give_up_items(&mut self) {
        self.headers = None;
        self.first = None;
        self.items = VecDeque::new();
    }

    /// Bytes of messages that wait for the application.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.first.iter().chain(&self.items).map(|item| item.message.len()).sum()
    }

    /// Whether a part is ready for the reader.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn has_next(&self) -> bool {
        self.headers.is_some() || self.first.is_some() || !self.items.is_empty() || self.end.is_some()
    }

    /// Whether the call has not ended for the application.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) const fn is_open_for_application(&self) -> bool {
        matches!(&self.end, None | Some(End::HalfClosed))
    }

    /// Whether its turn to send may come.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn may_send(&self) -> bool {
        self.side == Side::Callee || self.sent != Sent::Waiting
    }
}

/// Whether it is time to give credit back: when half a window was taken.
pub(crate) const fn is_grant_due(taken: u64, window: u64) -> bool {
    window > 0 && taken > 0 && taken >= window / 2
}
