//! What an application does with a call in either role: sends items within its credit, and reads what has arrived.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use super::call::{self, End, Next, Side, Waiting};
use super::connection::{Connection, Phase};
use super::queue::Payload;
use super::table::CallKey;

impl Connection {
    /// Ready when items may be sent, with the credit for them. `None` if no more items are needed.
    pub(crate) fn poll_send(&mut self, key: CallKey, waker: &Waker) -> Poll<Option<i64>> {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.is_over()) else {
            return Poll::Ready(None);
        };
        if call.outgoing > 0 && call.queue.has_room() {
            return Poll::Ready(Some(call.outgoing));
        }
        self.retired.extend(call.wakers.register_sender(waker));
        Poll::Pending
    }

    /// Waits until the call's queue has room, or nothing will be queued any more.
    pub(crate) fn poll_room(&mut self, key: CallKey, waker: &Waker) -> Poll<()> {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.is_over()) else {
            return Poll::Ready(());
        };
        if call.queue.has_room() {
            return Poll::Ready(());
        }
        self.retired.extend(call.wakers.register_sender(waker));
        Poll::Pending
    }

    /// Sends items that were encoded as frames, and charges their cost; `false` where the call is over.
    pub(crate) fn send(&mut self, key: CallKey, frames: Payload<'_>, cost: u64) -> bool {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.is_over()) else { return false };
        call.outgoing = call.outgoing.saturating_sub_unsigned(cost);
        self.send_frames(key, frames);
        true
    }

    /// The next part of a call: headers, then items, then the end. If there is none yet, `waker` is registered, and a peer
    /// without credit may send one item.
    ///
    /// Reading the end of a call that this side opened removes the call from the table.
    pub(crate) fn next(
        &mut self,
        key: CallKey,
        items: &mut VecDeque<Waiting>,
        waker: &Waker,
    ) -> Option<Next> {
        let Some(call) = self.calls.get_mut(key) else { return Some(Next::End(End::Over)) };
        if let Some(next) = call.take_next(items) {
            let is_end = matches!(next, Next::End(_) | Next::Item(_, Some(_)) | Next::Items(Some(_)));
            if is_end && call.side == Side::Caller {
                // One that the peer still counts goes when its `Close` arrives.
                call.abandoned = true;
                if !call.holds_place {
                    self.discard(key);
                }
            }
            return Some(next);
        }
        self.retired.extend(call.wakers.register_reader(waker));
        self.allow_one(key);
        None
    }

    /// With a window of 0, a waiting reader allows the next item.
    pub(super) fn allow_one(&mut self, key: CallKey) {
        if self.terms.window == 0
            && let Some(call) = self.calls.get_mut(key)
        {
            let amount = call.grant_one();
            self.put_credit(key, amount);
        }
    }

    /// Notes that the application has taken items worth `taken`. Returns `true` if this is now accounted for. Otherwise the
    /// caller must repeat it later, together with more.
    pub(crate) fn taken(&mut self, key: CallKey, taken: u64) -> bool {
        if !call::is_grant_due(taken, self.terms.window) {
            return false;
        }
        if let Some(call) = self.calls.get_mut(key) {
            let amount = call.grant(taken);
            self.put_credit(key, amount);
        }
        true
    }

    fn put_credit(&mut self, key: CallKey, amount: u64) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if amount == 0 || call.id == 0 || self.phase != Phase::Open || self.has_write_failed {
            return;
        }
        // A peer that reads slowly gets one frame for all of it.
        if call.credit_due == 0 {
            self.credits.push(key);
        }
        call.credit_due = call.credit_due.saturating_add(amount);
    }

    /// Drops the credit that a call has not sent yet, because the call is over.
    pub(super) fn forget_credit(&mut self, key: CallKey, due: u64) {
        if due > 0 {
            self.credits.retain(|with_credit| *with_credit != key);
        }
    }
}
