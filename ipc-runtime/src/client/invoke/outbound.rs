//! Sends a stream of requests: as credit allows, and held for as long as it may have to be sent again.
//!
//! It knows items and credit. It does not know what waits for the answer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;
use prost::Message;

use tokio::time::Instant;

use crate::client::connection::ClientCall;
use crate::error::IpcError;
use crate::link::batch::{Batch, Outgoing, Stopped, id_of};
use crate::link::{Link, scratch};
use crate::protocol::encode::Encode;
use crate::protocol::envelope::wire::{Empty, WireBody};
use crate::protocol::table::CallKey;
use crate::status::Status;

/// If more bytes than this are held, all items are dropped. The call can then not be repeated.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// The application's stream, and how much of it was already sent.
pub(super) struct Outbound {
    items: Pin<Box<dyn Items>>,
    finished: bool,
    /// The server was told of the stream's end, on this connection.
    half_closed: bool,
    /// The size of the held items in bytes.
    held_bytes: usize,
    /// How many of the held items were sent on this connection.
    sent: usize,
    /// All items so far are held.
    complete: bool,
    batch: Batch,
}

/// The application's stream, and the items that may have to be sent again. These were sent on an earlier connection, or on
/// this one before the server reacted. The trait hides the stream's type, so that sending is compiled once.
trait Items: Send {
    /// Takes the stream's next item and holds it. Returns its length, or `None` at the stream's end.
    fn poll_take(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>>;

    fn held(&self) -> usize;

    fn get(&self, index: usize) -> Option<&dyn Encode>;

    /// Drops the first `count` held items.
    fn let_go(self: Pin<&mut Self>, count: usize);
}

pin_project! {
    struct Held<S: Stream> {
        #[pin]
        stream: S,
        held: VecDeque<S::Item>,
    }
}

impl<S> Items for Held<S>
where
    S: Stream + Send,
    S::Item: Message,
{
    fn poll_take(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let this = self.project();
        let Some(item) = ready!(this.stream.poll_next(cx)) else { return Poll::Ready(None) };
        let length = item.encoded_len();
        this.held.push_back(item);
        Poll::Ready(Some(length))
    }

    fn held(&self) -> usize {
        self.held.len()
    }

    fn get(&self, index: usize) -> Option<&dyn Encode> {
        self.held.get(index).map(|item| item as &dyn Encode)
    }

    fn let_go(self: Pin<&mut Self>, count: usize) {
        self.project().held.drain(..count);
    }
}

/// The result of polling the application's stream.
enum Fetched {
    /// One more item of this length is held.
    Item(usize),
    End,
    /// The call is over, so no more items are needed.
    Unwanted,
}

/// The parts of a call that sending needs. The call can still be cancelled while this exists.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    link: Arc<Link>,
    key: CallKey,
}

impl Lane {
    pub(super) fn of(call: &ClientCall) -> Self {
        Self { link: Arc::clone(&call.connection.link), key: call.key() }
    }

    fn outgoing(&self, id: u64) -> Outgoing<'_> {
        Outgoing { link: &self.link, key: self.key, id }
    }

    /// Fails the call on this side. Its reader gets `status`.
    pub(super) fn fail(&self, status: Status) {
        self.link.update(Instant::now().into_std(), |core, now| core.fail(now, self.key, status));
    }

    fn is_answered(&self) -> bool {
        self.link.peek(|core| core.is_answered(self.key))
    }

    fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        self.link.peek(|core| core.poll_over(self.key, cx.waker())).map_or(Poll::Pending, |_| Poll::Ready(()))
    }

    fn half_close(&self, id: u64) {
        let put = scratch::encode(
            0,
            |buffer| self.link.encoder().put(buffer, id, WireBody::HalfClose(Empty {})),
            |frame| {
                let now = Instant::now().into_std();
                self.link.update(now, |core, _| core.half_close(self.key, frame));
            },
        );
        if let Err(error) = put {
            tracing::error!(%error, "HalfClose not sent");
        }
    }
}

impl Outbound {
    pub(super) fn new<S>(stream: S) -> Self
    where
        S: Stream + Send + 'static,
        S::Item: Message,
    {
        let items = Box::pin(Held { stream, held: VecDeque::new() });
        let batch = Batch::default();
        Self { items, finished: false, half_closed: false, held_bytes: 0, sent: 0, complete: true, batch }
    }

    /// Prepares to send everything again on another connection. Returns `false` if some items were already dropped.
    pub(super) fn rewind(&mut self) -> bool {
        self.batch = Batch::default();
        self.sent = 0;
        self.half_closed = false;
        self.complete
    }

    /// Whether all items and the end of the stream were sent on this connection.
    pub(super) const fn is_sent(&self) -> bool {
        self.half_closed
    }

    /// Sends items until the stream ends or the call is over.
    ///
    /// # Errors
    ///
    /// An item can't be sent, which fails the call.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, this can be called again. No item is lost, or sent twice on one
    /// connection.
    pub(super) async fn send_all(&mut self, lane: &Lane) -> Result<(), IpcError> {
        // Items are encoded with the call's id.
        let Some(id) = id_of(&lane.link, lane.key).await else { return Ok(()) };
        let stopped = self.send_each(lane, id).await;
        let Err(Stopped::Item(error)) = stopped else { return Ok(()) };
        // The items before it can be sent.
        _ = self.send(lane, id);
        Err(error)
    }

    async fn send_each(&mut self, lane: &Lane, id: u64) -> Result<(), Stopped> {
        loop {
            if self.batch.is_full() {
                self.batch.send(lane.outgoing(id))?;
            }
            if self.batch.is_empty() {
                self.let_go_if_answered(lane);
            }
            if self.sent == self.items.held() && !self.fetch(lane, id).await? {
                return Ok(());
            }
            let Some(item) = self.items.get(self.sent) else { continue };
            self.batch.put(lane.outgoing(id), item).await?;
            self.sent += 1;
            if !self.complete || self.held_bytes > MAX_HELD_BYTES {
                self.let_go();
            }
        }
    }

    /// Takes the stream's next item. Returns `false` if there is none, or if no more items are needed.
    async fn fetch(&mut self, lane: &Lane, id: u64) -> Result<bool, Stopped> {
        if self.half_closed {
            return Ok(false);
        }
        let fetched = match poll_fn(|cx| Poll::Ready(self.poll_item(cx, lane))).await {
            Poll::Ready(fetched) => fetched,
            Poll::Pending => {
                self.send(lane, id)?;
                poll_fn(|cx| self.poll_item(cx, lane)).await
            }
        };
        match fetched {
            Fetched::Item(length) => {
                self.held_bytes += length;
                Ok(true)
            }
            Fetched::Unwanted => Ok(false),
            Fetched::End => {
                self.finished = true;
                self.send(lane, id)?;
                self.half_closed = true;
                lane.half_close(id);
                Ok(false)
            }
        }
    }

    /// Sends the batch. This is done before waiting for anything.
    fn send(&mut self, lane: &Lane, id: u64) -> Result<(), Stopped> {
        self.batch.send(lane.outgoing(id))?;
        self.let_go_if_answered(lane);
        Ok(())
    }

    fn let_go_if_answered(&mut self, lane: &Lane) {
        if self.complete && lane.is_answered() {
            self.let_go();
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>, lane: &Lane) -> Poll<Fetched> {
        // It is not checked for each item: without waiting in between, nothing new can have arrived.
        if self.batch.is_empty() && lane.poll_over(cx).is_ready() {
            return Poll::Ready(Fetched::Unwanted);
        }
        if self.finished {
            return Poll::Ready(Fetched::End);
        }
        self.items.as_mut().poll_take(cx).map(|length| length.map_or(Fetched::End, Fetched::Item))
    }

    /// Drops the items that were sent.
    fn let_go(&mut self) {
        self.complete = false;
        self.items.as_mut().let_go(self.sent);
        self.sent = 0;
        self.held_bytes = 0;
    }
}
