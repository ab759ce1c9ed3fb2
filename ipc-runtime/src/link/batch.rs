//! Collects the items of one outgoing stream. Many small items are encoded together before the connection takes them.
//!
//! It knows the call's credit and its frames. Its owner knows where the items come from. Before the owner waits for
//! anything else, it must send the batch.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::time::Instant;

use super::Link;
use crate::error::IpcError;
use crate::protocol::call::cost;
use crate::protocol::encode::Encode;
use crate::protocol::queue::{INLINE_BYTES, Payload};
use crate::protocol::table::CallKey;

/// A batch of this many bytes is full. A larger item is sent alone.
const BATCH_BYTES: usize = 16 * 1024;

/// Items that are encoded but not yet handed to the connection.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    frames: BytesMut,
    /// The credit that they cost.
    cost: u64,
    /// The credit left after them, as last known.
    credit: i64,
    /// A large item was sent, and may still wait in the call's queue.
    is_behind: bool,
}

/// The call that a batch belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) link: &'a Link,
    pub(crate) key: CallKey,
    pub(crate) id: u64,
}

/// Why no more items are sent.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The peer or the connection takes no more items.
    Over,
    /// This item can't be sent.
    Item(IpcError),
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether it is time to [`send`](Self::send).
    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_BYTES
    }

    /// Waits until the call's queue has room, if a large item may fill it. Otherwise an item that the application makes
    /// meanwhile would be held beside the one in the queue.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing changes.
    pub(crate) async fn room(&mut self, call: Outgoing<'_>) {
        if self.is_behind {
            poll_fn(|cx| poll_room(call, cx)).await;
            self.is_behind = false;
        }
    }

    /// Adds an item when the call has credit.
    ///
    /// # Errors
    ///
    /// [`Stopped`]. Items before this one may still be sent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the item is not sent. Nothing else is lost.
    pub(crate) async fn put(&mut self, call: Outgoing<'_>, item: &dyn Encode) -> Result<(), Stopped> {
        if self.try_put(call, item)? {
            return Ok(());
        }
        self.send(call)?;
        // Frames that leave one after the other must not keep the task from others.
        tokio::task::coop::consume_budget().await;
        self.credit = poll_fn(|cx| poll_credit(call, cx)).await.ok_or(Stopped::Over)?;
        if self.try_put(call, item)? { Ok(()) } else { self.put_alone(call, item) }
    }

    /// Like [`put`](Self::put), without waiting. Returns `false` if the item must wait. Most items need not.
    ///
    /// # Errors
    ///
    /// [`Stopped::Item`].
    pub(crate) fn try_put(&mut self, call: Outgoing<'_>, item: &dyn Encode) -> Result<bool, Stopped> {
        if self.credit <= 0 || self.is_full() {
            return Ok(false);
        }
        let length = item.length();
        if length > INLINE_BYTES {
            return Ok(false);
        }
        let put = call.link.encoder().put_item(&mut self.frames, call.id, item, length);
        put.map_err(Stopped::Item)?;
        self.cost += cost(length);
        self.credit = self.credit.saturating_sub_unsigned(cost(length));
        Ok(true)
    }

    /// Hands the batch to the connection.
    ///
    /// # Errors
    ///
    /// [`Stopped::Over`].
    pub(crate) fn send(&mut self, call: Outgoing<'_>) -> Result<(), Stopped> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let cost = std::mem::take(&mut self.cost);
        let sent = if self.frames.len() <= INLINE_BYTES {
            let sent = hand_in(call, Payload::Small(&self.frames), cost);
            self.frames.clear();
            sent
        } else {
            let frames = self.frames.split().freeze();
            hand_in(call, Payload::Large(frames), cost)
        };
        if sent { Ok(()) } else { Err(Stopped::Over) }
    }

    /// Sends a large item by itself.
    fn put_alone(&mut self, call: Outgoing<'_>, item: &dyn Encode) -> Result<(), Stopped> {
        self.is_behind = true;
        let length = item.length();
        let mut frame = BytesMut::new();
        call.link.encoder().put_item(&mut frame, call.id, item, length).map_err(Stopped::Item)?;
        self.credit = self.credit.saturating_sub_unsigned(cost(length));
        if hand_in(call, Payload::Large(frame.freeze()), cost(length)) { Ok(()) } else { Err(Stopped::Over) }
    }
}

fn poll_credit(call: Outgoing<'_>, cx: &mut Context<'_>) -> Poll<Option<i64>> {
    let credit = call.link.peek(|core| core.poll_send(call.key, cx.waker()));
    if credit.is_pending() {
        // What was queued without a write leaves before anything is waited for.
        call.link.flush();
    }
    credit
}

fn poll_room(call: Outgoing<'_>, cx: &mut Context<'_>) -> Poll<()> {
    let room = call.link.peek(|core| core.poll_room(call.key, cx.waker()));
    if room.is_pending() {
        call.link.flush();
    }
    room
}

fn hand_in(call: Outgoing<'_>, frames: Payload<'_>, cost: u64) -> bool {
    let Outgoing { link, key, .. } = call;
    link.update(Instant::now().into_std(), |core, _| core.send(key, frames, cost))
}

/// Waits until a call has its id. Items can't be encoded without it. `None` if the call will never have one.
///
/// # Cancel safety
///
/// If the future is dropped before it is ready, nothing changes.
pub(crate) async fn id_of(link: &Link, key: CallKey) -> Option<u64> {
    let mut wait = pin!(poll_fn(|cx| { link.peek(|core| core.poll_id(key, cx.waker())) }));
    wait.as_mut().await
}
