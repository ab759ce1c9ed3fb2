//! The items of one stream on their way out: many are encoded, and paid for, before the queue is asked to take them.
//!
//! It knows the call's credit and its frames; where the items come from is its owner's affair. Whoever waits for something
//! else sends what is in here first.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::Connection;
use super::call::{CallState, cost};
use super::writer::Refusal;
use crate::error::IpcError;
use crate::wire::encode::Encode;

/// A batch of this many bytes is full; larger items go into the queue directly.
const BATCH_BYTES: usize = 16 * 1024;

/// From here on the queue is written while more is encoded.
const WRITE_BYTES: usize = 16 * 1024;

/// Items that were encoded and not handed to the queue yet.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    frames: BytesMut,
    /// What they cost.
    cost: u64,
    /// What may be sent beyond them, as far as is known.
    credit: i128,
}

/// The call that a batch belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) id: u64,
    pub(crate) state: &'a CallState,
}

/// Why no more items are sent.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The peer, or the connection, takes no more.
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

    /// Adds an item, once the call has credit.
    ///
    /// # Errors
    ///
    /// [`Stopped`]; items before this one may still be sent.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the item is not sent, and nothing else is lost.
    pub(crate) async fn put(&mut self, call: Outgoing<'_>, item: &dyn Encode) -> Result<(), Stopped> {
        if self.try_put(call, item)? {
            return Ok(());
        }
        self.send(call).await?;
        if self.credit <= 0 {
            self.credit = poll_fn(|cx| poll_credit(call, cx)).await.ok_or(Stopped::Over)?;
        }
        if self.try_put(call, item)? { Ok(()) } else { self.put_directly(call, item).await }
    }

    /// As [`put`](Self::put), for most items: `false` where something must be waited for.
    pub(crate) fn try_put(&mut self, call: Outgoing<'_>, item: &dyn Encode) -> Result<bool, Stopped> {
        if self.credit <= 0 || self.is_full() {
            return Ok(false);
        }
        let length = item.length();
        if length > BATCH_BYTES {
            return Ok(false);
        }
        let put = call.connection.encoder.put_item(&mut self.frames, call.id, item, length);
        put.map_err(Stopped::Item)?;
        self.cost += cost(length);
        self.credit -= i128::from(cost(length));
        Ok(true)
    }

    /// Hands the queue what is in here; whether that is written now is up to the queue.
    ///
    /// # Errors
    ///
    /// [`Stopped::Over`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, everything is still in here.
    pub(crate) async fn send(&mut self, call: Outgoing<'_>) -> Result<(), Stopped> {
        if self.frames.is_empty() {
            return Ok(());
        }
        // Before the peer can give any of it back.
        call.state.spend(std::mem::take(&mut self.cost));
        let frames = &self.frames;
        append(call, |buffer| {
            buffer.extend_from_slice(frames);
            Ok(())
        })
        .await?;
        self.frames.clear();
        Ok(())
    }

    async fn put_directly(&mut self, call: Outgoing<'_>, item: &dyn Encode) -> Result<(), Stopped> {
        let length = item.length();
        append(call, |buffer| {
            call.connection.encoder.put_item(buffer, call.id, item, length)?;
            call.state.spend(cost(length));
            Ok(())
        })
        .await?;
        self.credit -= i128::from(cost(length));
        Ok(())
    }
}

fn poll_credit(call: Outgoing<'_>, cx: &mut Context<'_>) -> Poll<Option<i128>> {
    let credit = call.state.poll_credit(cx);
    if credit.is_pending() {
        call.connection.writer.flush();
    }
    credit
}

async fn append(
    call: Outgoing<'_>,
    mut write: impl FnMut(&mut BytesMut) -> Result<(), IpcError>,
) -> Result<(), Stopped> {
    let writer = &call.connection.writer;
    let mut over = false;
    let put = |buffer: &mut BytesMut, _| {
        // Asked here, so that no item follows the Cancel of a call that is dropped meanwhile.
        over = call.state.is_over();
        if over { Ok(()) } else { write(buffer) }
    };
    match call.connection.append_call(put).await {
        Ok(_) if !over => {}
        Err(Refusal::Frame(error)) => return Err(Stopped::Item(error)),
        Ok(_) | Err(Refusal::Ended | Refusal::Full) => return Err(Stopped::Over),
    }
    writer.flush_from(WRITE_BYTES);
    Ok(())
}
