//! What both sides keep of one call: items that wait, credit both ways, and how the call ended.
//!
//! The driver puts in what arrives; the application's side takes it out. It knows no frames' bytes, no
//! methods, and does no I/O: it says what must be sent (a `Credit`), its caller sends it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Items on their way from a call's state to their reader: taken together, and counted before anybody asks.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    items: VecDeque<Waiting>,
    taken: u64,
}

/// The state of a call on this side of the connection.
#[derive(Debug)]
pub(crate) struct CallState {
    inner: Mutex<Inner>,
    /// What was not read yet is given up; beside the lock for the reader of an [`Inbox`].
    given_up: AtomicBool,
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
    /// What the peer may still send by this side's count.
    incoming: i128,
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
            outgoing: i128::from(peer_window),
            reader: None,
            sender: None,
            canceller: None,
        };
        Self { inner: Mutex::new(inner), given_up: AtomicBool::new(false), window, deadline }
    }

    /// The same call, of whose request nothing more comes.
    pub(crate) fn half_closed(mut self) -> Self {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).end = Some(End::HalfClosed);
        self
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

    /// Items from the peer, in their order.
    ///
    /// # Errors
    ///
    /// The peer had no credit left for one of them.
    pub(crate) fn put_items(&self, items: impl Iterator<Item = Bytes>) -> Result<(), Status> {
        let mut inner = lock(&self.inner);
        if inner.end.is_some() {
            return Ok(());
        }
        inner.answered = true;
        for item in items {
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
        }
        wake(&mut inner.reader);
        Ok(())
    }

    /// The message that came with `Open`, or after the last item with `Close`: it costs no credit.
    pub(crate) fn put_free(&self, message: Bytes) {
        let mut inner = lock(&self.inner);
        inner.push(Waiting { message, cost: 0 });
        wake(&mut inner.reader);
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
        if end.takes_back() {
            self.given_up.store(true, Ordering::Relaxed);
        }
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
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> (Poll<Next>, u64) {
        if let Some((item, grant)) = self.unread(inbox) {
            return (Poll::Ready(Next::Item(item)), grant);
        }
        let mut inner = lock(&self.inner);
        if let Some(headers) = inner.headers.take() {
            return (Poll::Ready(Next::Headers(headers)), 0);
        }
        if inner.end.as_ref().is_some_and(End::takes_back) {
            inner.clear();
        }
        if let Some(item) = inner.first.take().or_else(|| inner.items.pop_front()) {
            // The rest without the lock.
            std::mem::swap(&mut inbox.items, &mut inner.items);
            inbox.taken = inbox.taken.saturating_add(item.cost);
            let grant = inner.grant(&mut inbox.taken, self.window);
            return (Poll::Ready(Next::Item(item.message)), grant);
        }
        if let Some(end) = &inner.end {
            return (Poll::Ready(Next::End(end.clone())), 0);
        }
        register(&mut inner.reader, cx);
        (Poll::Pending, inner.ask(self.window))
    }

    /// The next item, if it is in the inbox already: what [`poll_next`](Self::poll_next) would find.
    pub(crate) fn unread(&self, inbox: &mut Inbox) -> Option<(Bytes, u64)> {
        if !inbox.items.is_empty() && self.given_up.load(Ordering::Relaxed) {
            inbox.items.clear();
        }
        let item = inbox.items.pop_front()?;
        inbox.taken = inbox.taken.saturating_add(item.cost);
        let due = is_due(inbox.taken, self.window);
        let grant = if due { lock(&self.inner).grant(&mut inbox.taken, self.window) } else { 0 };
        Some((item.message, grant))
    }

    /// Waits until an item may be sent; returns the credit there is, `None` once no items will be wanted.
    pub(crate) fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<Option<i128>> {
        let mut inner = lock(&self.inner);
        if !matches!(&inner.end, None | Some(End::HalfClosed)) || inner.abandoned {
            return Poll::Ready(None);
        }
        if inner.outgoing > 0 {
            return Poll::Ready(Some(inner.outgoing));
        }
        register(&mut inner.sender, cx);
        Poll::Pending
    }

    /// Items that cost this are being sent.
    pub(crate) fn spend(&self, cost: u64) {
        lock(&self.inner).outgoing -= i128::from(cost);
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

    /// The application takes no more: what waits is given back and what comes is dropped. Returns whether the peer has
    /// closed the call already.
    pub(crate) fn abandon(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.abandoned = true;
        inner.clear();
        wake(&mut inner.sender);
        wake(&mut inner.canceller);
        matches!(inner.end, Some(End::Answered | End::Closed(_)))
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
    }

    fn clear(&mut self) {
        self.first = None;
        self.items = VecDeque::new();
    }

    /// What to grant now for what the application took: at half a window, and never without one.
    fn grant(&mut self, taken: &mut u64, window: u64) -> u64 {
        if !is_due(*taken, window) || self.end.is_some() {
            return 0;
        }
        let grant = std::mem::take(taken);
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

const fn is_due(taken: u64, window: u64) -> bool {
    window > 0 && taken > 0 && taken >= window / 2
}

/// What an item of `length` message bytes costs.
pub(crate) const fn cost(length: usize) -> u64 {
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

    struct Reader {
        call: CallState,
        inbox: Inbox,
    }

    impl Reader {
        fn new(window: u64) -> Self {
            Self { call: CallState::new(window, 0, None), inbox: Inbox::default() }
        }

        fn next(&mut self) -> (Poll<Next>, u64) {
            self.call.poll_next(&mut Context::from_waker(Waker::noop()), &mut self.inbox)
        }

        fn item(&mut self) -> (usize, u64) {
            match self.next() {
                (Poll::Ready(Next::Item(item)), grant) => (item.len(), grant),
                other => panic!("an item, not {other:?}"),
            }
        }
    }

    fn put(call: &CallState, len: usize) -> Result<(), Status> {
        call.put_items(std::iter::once(Bytes::from(vec![0; len])))
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
        let mut reader = Reader::new(200);
        reader.call.put_free(Bytes::from_static(&[0; 500]));
        put(&reader.call, 67).unwrap();
        put(&reader.call, 1).unwrap();
        assert_eq!(reader.item(), (500, 0));
        assert_eq!(reader.item(), (67, 0));
        assert_eq!(reader.item(), (1, 99 + 33));
    }

    #[test]
    fn without_a_window_each_wait_allows_one_item() {
        let mut reader = Reader::new(0);
        assert!(put(&reader.call, 1).is_err());
        assert!(matches!(reader.next(), (Poll::Pending, 1)));
        assert!(matches!(reader.next(), (Poll::Pending, 0)));
        put(&reader.call, 100).unwrap();
        assert_eq!(reader.item(), (100, 0));
        assert!(put(&reader.call, 1).is_err());
        assert!(matches!(reader.next(), (Poll::Pending, 132)));
    }

    #[test]
    fn the_sum_of_credits_is_bounded_at_its_edge() {
        let call = CallState::new(0, MAX_CREDIT - 1, None);
        call.add_credit(1).unwrap();
        assert!(call.add_credit(1).is_err());
        call.spend(cost(0));
        call.add_credit(32).unwrap();
    }

    #[test]
    fn what_arrived_before_the_end_is_read_first_but_not_after_a_cancellation() {
        let mut reader = Reader::new(100);
        put(&reader.call, 1).unwrap();
        reader.call.put_end(End::Closed(Box::default()));
        put(&reader.call, 2).unwrap();
        assert_eq!(reader.item().0, 1);
        assert!(matches!(reader.next().0, Poll::Ready(Next::End(End::Closed(_)))));

        let mut reader = Reader::new(100);
        for length in 1..=2 {
            put(&reader.call, length).unwrap();
        }
        reader.call.put_end(End::HalfClosed);
        // The second is on its way to the reader already.
        assert_eq!(reader.item().0, 1);
        reader.call.put_end(End::cancelled(Status::cancelled("")));
        assert!(matches!(reader.next().0, Poll::Ready(Next::End(End::Cancelled(_)))));
    }
}
