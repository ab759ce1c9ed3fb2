//! What both sides keep of one call: items that wait, credit both ways, and how the call ended.
//!
//! The driver puts in what arrives; the application's side takes it out. It knows no frames' bytes, no
//! methods, and does no I/O: it says what must be sent (a `Credit`), its caller sends it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::writer::lock;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::status::Status;
use crate::wire::{Close, MAX_CREDIT};

/// What an item costs beyond its message (wire protocol, section 6).
const ITEM_OVERHEAD: u64 = 32;

/// How the other side's part of a call came to its end.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The client sends no more items.
    HalfClosed,
    /// The server closed the call with nothing but a message, which is the last item.
    Answered,
    /// The server closed the call; its message, if any, is the last item.
    Closed(Box<Close>),
    /// The connection ended first.
    Lost(Lost),
    /// The call is cancelled on this side, for this reason.
    Cancelled(Box<Status>),
    /// The deadline passed first.
    Expired,
    /// This side has closed the call.
    Over,
}

impl End {
    pub(crate) fn cancelled(status: Status) -> Self {
        Self::Cancelled(Box::new(status))
    }

    /// Whether what had arrived before this end and was not read yet is given up.
    const fn takes_back(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::Expired | Self::Over)
    }
}

/// What became of a call whose connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) cause: Arc<IpcError>,
    /// Whether the server can have seen the request.
    pub(crate) sent: bool,
    /// Headers or an item of the answer have arrived.
    pub(crate) begun: bool,
}

/// The state of a call on this side of the connection.
#[derive(Debug)]
pub(crate) struct CallState {
    inner: Mutex<Inner>,
    window: u64,
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Inner {
    headers: Option<Metadata>,
    /// The oldest item, beside the others so that a call of one message allocates no queue.
    first: Option<Waiting>,
    items: VecDeque<Waiting>,
    end: Option<End>,
    /// Nobody takes items any more: what arrives is dropped.
    abandoned: bool,
    /// The peer has said something about the call.
    answered: bool,
    /// What the peer may still send by this side's count, and what was taken and not granted again yet.
    incoming: i128,
    taken: u64,
    /// What this side may still send.
    outgoing: i128,
    reader: Option<Waker>,
    sender: Option<Waker>,
    canceller: Option<Waker>,
}

/// A message that waits for the application, and the credit it cost the peer.
#[derive(Debug)]
struct Waiting {
    message: Bytes,
    cost: u64,
}

/// What the reader of a call finds next.
#[derive(Debug)]
pub(crate) enum Next {
    Headers(Metadata),
    Item(Bytes),
    End(End),
}

impl CallState {
    /// `window` is the credit this side gives, `peer_window` the credit it gets. Past the deadline the connection's driver
    /// puts the call's end.
    pub(crate) fn new(window: u64, peer_window: u64, deadline: Option<Instant>) -> Self {
        let inner = Inner {
            headers: None,
            first: None,
            items: VecDeque::new(),
            end: None,
            abandoned: false,
            answered: false,
            incoming: i128::from(window),
            taken: 0,
            outgoing: i128::from(peer_window),
            reader: None,
            sender: None,
            canceller: None,
        };
        Self { inner: Mutex::new(inner), window, deadline }
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The peer's metadata before its first item.
    pub(crate) fn put_headers(&self, headers: Metadata) {
        let mut inner = lock(&self.inner);
        inner.headers = Some(headers);
        inner.answered = true;
        wake(&mut inner.reader);
    }

    /// An item from the peer.
    ///
    /// # Errors
    ///
    /// The peer had no credit left for it.
    pub(crate) fn put_item(&self, item: Bytes) -> Result<(), Status> {
        let mut inner = lock(&self.inner);
        if inner.end.is_some() {
            return Ok(());
        }
        inner.answered = true;
        if inner.incoming <= 0 {
            return Err(Status::internal(format!(
                "Item of {} bytes sent with a credit of {}",
                item.len(),
                inner.incoming
            )));
        }
        let cost = cost(item.len());
        inner.incoming -= i128::from(cost);
        inner.push(Waiting { message: item, cost });
        Ok(())
    }

    /// The message that came with `Open`, or after the last item with `Close`: it costs no credit.
    pub(crate) fn put_free(&self, message: Bytes) {
        lock(&self.inner).push(Waiting { message, cost: 0 });
    }

    /// The one message of the answer and its end, together.
    pub(crate) fn put_answer(&self, message: Bytes) {
        let mut inner = lock(&self.inner);
        inner.push(Waiting { message, cost: 0 });
        inner.end(End::Answered);
    }

    /// The whole request of a call that has only just begun and of which nothing more comes.
    pub(crate) fn put_request(&self, message: Bytes) {
        lock(&self.inner).first = Some(Waiting { message, cost: 0 });
    }

    /// The end of what the peer sends. The first end holds, but a cancellation overrules a `HalfClose`.
    pub(crate) fn put_end(&self, end: End) {
        lock(&self.inner).end(end);
    }

    /// Permission to send more.
    ///
    /// # Errors
    ///
    /// The sum is above 2^62.
    pub(crate) fn add_credit(&self, amount: u64) -> Result<(), Status> {
        let mut inner = lock(&self.inner);
        let sum = inner.outgoing + i128::from(amount);
        if sum > i128::from(MAX_CREDIT) {
            return Err(Status::internal(format!("Credit of {amount} brings the sum to {sum}, above 2^62")));
        }
        inner.outgoing = sum;
        inner.answered = true;
        if sum > 0 {
            wake(&mut inner.sender);
        }
        Ok(())
    }

    /// Waits for headers, then items, then the end, in this order.
    ///
    /// The second value is the credit that is due to the peer now; whatever the first is, it must be sent if it
    /// is not 0.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> (Poll<Next>, u64) {
        let mut inner = lock(&self.inner);
        if let Some(headers) = inner.headers.take() {
            return (Poll::Ready(Next::Headers(headers)), 0);
        }
        if inner.end.as_ref().is_some_and(End::takes_back) {
            inner.clear();
        }
        if let Some(item) = inner.first.take().or_else(|| inner.items.pop_front()) {
            let grant = inner.take(item.cost, self.window);
            return (Poll::Ready(Next::Item(item.message)), grant);
        }
        if let Some(end) = &inner.end {
            return (Poll::Ready(Next::End(end.clone())), 0);
        }
        register(&mut inner.reader, cx);
        (Poll::Pending, inner.ask(self.window))
    }

    /// Waits until an item may be sent; `false` once none will be wanted.
    pub(crate) fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut inner = lock(&self.inner);
        if !matches!(&inner.end, None | Some(End::HalfClosed)) || inner.abandoned {
            return Poll::Ready(false);
        }
        if inner.outgoing > 0 {
            return Poll::Ready(true);
        }
        register(&mut inner.sender, cx);
        Poll::Pending
    }

    /// An item of `length` message bytes has been sent.
    pub(crate) fn spend(&self, length: usize) {
        lock(&self.inner).outgoing -= i128::from(cost(length));
    }

    /// Waits until the call is over for the peer: closed, cancelled or its connection lost.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<End> {
        let mut inner = lock(&self.inner);
        let over = inner.over();
        if over.is_none() {
            register(&mut inner.canceller, cx);
        }
        over.map_or(Poll::Pending, Poll::Ready)
    }

    /// The application takes no more: what waits is given back and what comes is dropped.
    pub(crate) fn abandon(&self) {
        let mut inner = lock(&self.inner);
        inner.abandoned = true;
        inner.clear();
        wake(&mut inner.sender);
        wake(&mut inner.canceller);
    }

    /// Whether the peer has said anything about the call, so that it can't be repeated unseen.
    pub(crate) fn is_answered(&self) -> bool {
        lock(&self.inner).answered
    }

    /// As [`poll_over`](Self::poll_over), for one who does not wait.
    pub(crate) fn over(&self) -> Option<End> {
        let inner = lock(&self.inner);
        inner.over()
    }

    /// Whether the peer wants nothing more of this side, or this side has given the call up.
    pub(crate) fn is_over(&self) -> bool {
        let inner = lock(&self.inner);
        inner.abandoned || !matches!(&inner.end, None | Some(End::HalfClosed))
    }

    /// Whether nobody waits for the call any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.inner).abandoned
    }
}

impl Inner {
    fn over(&self) -> Option<End> {
        match &self.end {
            None | Some(End::HalfClosed) if self.abandoned => {
                Some(End::cancelled(Status::cancelled("nobody waits for the call any more")))
            }
            None | Some(End::HalfClosed) => None,
            end @ Some(_) => end.clone(),
        }
    }

    fn end(&mut self, end: End) {
        if matches!(&self.end, None | Some(End::HalfClosed)) {
            self.end = Some(end);
            wake(&mut self.reader);
            wake(&mut self.sender);
            wake(&mut self.canceller);
        }
    }

    fn push(&mut self, item: Waiting) {
        if self.end.is_some() || self.abandoned {
            return;
        }
        if self.first.is_none() && self.items.is_empty() {
            self.first = Some(item);
        } else {
            self.items.push_back(item);
        }
        wake(&mut self.reader);
    }

    fn clear(&mut self) {
        self.first = None;
        self.items = VecDeque::new();
    }

    /// Counts what the application took; returns what to grant now: at half a window, and never without one.
    fn take(&mut self, cost: u64, window: u64) -> u64 {
        self.taken = self.taken.saturating_add(cost);
        if window == 0 || self.taken < (window / 2).max(1) || self.end.is_some() {
            return 0;
        }
        let grant = std::mem::take(&mut self.taken);
        self.incoming += i128::from(grant);
        grant
    }

    /// Without a window, an application that waits is what allows the next item.
    fn ask(&mut self, window: u64) -> u64 {
        if window > 0 || self.incoming > 0 {
            return 0;
        }
        let grant = 1 - self.incoming;
        self.incoming = 1;
        u64::try_from(grant).unwrap_or(u64::MAX)
    }
}

/// Ends those of all open calls whose deadline has passed, and sets the alarm for the others.
pub(crate) fn expire<'a>(calls: impl Iterator<Item = &'a Arc<CallState>>, now: Instant, alarm: &Alarm) {
    let mut next = None;
    for call in calls {
        match call.deadline {
            Some(deadline) if deadline <= now => call.put_end(End::Expired),
            deadline => next = [next, deadline].into_iter().flatten().min(),
        }
    }
    alarm.reset(next);
}

fn cost(length: usize) -> u64 {
    length as u64 + ITEM_OVERHEAD
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(call: &CallState) -> (Poll<Next>, u64) {
        call.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn item_of(call: &CallState) -> (usize, u64) {
        match next(call) {
            (Poll::Ready(Next::Item(item)), grant) => (item.len(), grant),
            other => panic!("an item, not {other:?}"),
        }
    }

    fn put(call: &CallState, len: usize) -> Result<(), Status> {
        call.put_item(Bytes::from(vec![0; len]))
    }

    #[test]
    fn an_item_passes_while_credit_is_above_zero_and_not_at_zero() {
        let call = CallState::new(2 * 33, 0, None);
        put(&call, 1).unwrap();
        put(&call, 1).unwrap();
        let refused = put(&call, 1).unwrap_err();
        assert_eq!(refused.message(), "Item of 1 bytes sent with a credit of 0");

        let call = CallState::new(33, 0, None);
        put(&call, 0).unwrap();
        put(&call, 5000).unwrap();
        assert!(put(&call, 0).is_err());
    }

    #[test]
    fn credit_comes_back_at_half_a_window_and_only_for_what_cost_some() {
        let call = CallState::new(200, 0, None);
        call.put_free(Bytes::from_static(&[0; 500]));
        put(&call, 67).unwrap();
        put(&call, 1).unwrap();
        assert_eq!(item_of(&call), (500, 0));
        assert_eq!(item_of(&call), (67, 0));
        assert_eq!(item_of(&call), (1, 99 + 33));
    }

    #[test]
    fn without_a_window_each_wait_allows_one_item() {
        let call = CallState::new(0, 0, None);
        assert!(put(&call, 1).is_err());
        assert!(matches!(next(&call), (Poll::Pending, 1)));
        assert!(matches!(next(&call), (Poll::Pending, 0)));
        put(&call, 100).unwrap();
        assert_eq!(item_of(&call), (100, 0));
        assert!(put(&call, 1).is_err());
        assert!(matches!(next(&call), (Poll::Pending, 132)));
    }

    #[test]
    fn the_sum_of_credits_is_bounded_at_its_edge() {
        let call = CallState::new(0, MAX_CREDIT - 1, None);
        call.add_credit(1).unwrap();
        assert!(call.add_credit(1).is_err());
        call.spend(0);
        call.add_credit(32).unwrap();
    }

    #[test]
    fn what_arrived_before_the_end_is_read_first_but_not_after_a_cancellation() {
        let close = || End::Closed(Box::default());
        let call = CallState::new(100, 0, None);
        put(&call, 1).unwrap();
        call.put_end(close());
        put(&call, 2).unwrap();
        assert_eq!(item_of(&call).0, 1);
        assert!(matches!(next(&call).0, Poll::Ready(Next::End(End::Closed(_)))));

        let call = CallState::new(100, 0, None);
        put(&call, 1).unwrap();
        call.put_end(End::HalfClosed);
        call.put_end(End::cancelled(Status::cancelled("")));
        assert!(matches!(next(&call).0, Poll::Ready(Next::End(End::Cancelled(_)))));
    }
}
