//! A stream of requests on its way out: paced by credit, and held for as long as it may have to be sent again.
//!
//! It knows items and credit; who waits for the answer is not its affair.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures_core::Stream;
use pin_project_lite::pin_project;
use prost::Message;

use crate::client::calls::{ClientCall, ClientConnection};
use crate::connection::call::{CallState, End};
use crate::connection::writer::{Class, Refusal};
use crate::error::IpcError;
use crate::status::Status;
use crate::wire::encode::Encode;
use crate::wire::{Body, Empty};

/// Items held beyond this are let go, and with them the chance to repeat the call.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// What the application sends, and how much of it was sent already.
pub(super) struct Outbound {
    items: Pin<Box<dyn Items>>,
    finished: bool,
    /// The server has been told, on this connection.
    half_closed: bool,
    /// How much of what is held is worth.
    held_bytes: usize,
    /// How many of the held were sent on this connection.
    sent: usize,
    /// All items so far are held.
    complete: bool,
}

/// The application's stream, and those of its items that were sent on an earlier connection, or on this one while the
/// server has not reacted yet. Its type is forgotten, so that sending is compiled once.
trait Items: Send {
    /// Takes the stream's next item and holds it; returns its length, `None` at the stream's end.
    fn poll_take(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>>;

    fn held(&self) -> usize;

    fn get(&self, index: usize) -> Option<&dyn Encode>;

    /// Lets go of the first so many.
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

/// What the application's stream gave.
enum Fetched {
    /// One more is held, of this length.
    Item(usize),
    End,
    /// The call is over: nobody wants items any more.
    Unwanted,
}

/// The parts of a call that sending needs; it does not keep the call from being cancelled.
#[derive(Clone)]
pub(super) struct Lane {
    connection: Arc<ClientConnection>,
    id: u64,
    state: Arc<CallState>,
}

impl Lane {
    pub(super) fn of(call: &ClientCall) -> Self {
        Self { connection: Arc::clone(&call.connection), id: call.id, state: Arc::clone(&call.state) }
    }

    /// Fails the call on this side, as its reader will see.
    pub(super) fn fail(&self, status: Status) {
        self.state.put_end(End::cancelled(status));
        self.connection.cancel(self.id);
    }
}

impl Outbound {
    pub(super) fn new<S>(stream: S) -> Self
    where
        S: Stream + Send + 'static,
        S::Item: Message,
    {
        let items = Box::pin(Held { stream, held: VecDeque::new() });
        Self { items, finished: false, half_closed: false, held_bytes: 0, sent: 0, complete: true }
    }

    /// Makes ready to send everything again on another connection; `false` if not all of it is still at hand.
    pub(super) const fn rewind(&mut self) -> bool {
        self.sent = 0;
        self.half_closed = false;
        self.complete
    }

    /// Whether everything has been sent on this connection, the end included.
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
    /// Dropped before it is ready, it can be called again; no item is lost or sent twice on a connection.
    pub(super) async fn send_all(&mut self, lane: &Lane) -> Result<(), IpcError> {
        loop {
            if self.complete && lane.state.is_answered() {
                self.let_go();
            }
            if self.sent == self.items.held() && !self.fetch(lane).await {
                return Ok(());
            }
            // The end of the stream needs no credit, so it is known first.
            let ready = poll_fn(|cx| {
                let ready = lane.state.poll_credit(cx);
                flush_if_pending(lane, &ready);
                ready
            });
            if !ready.await {
                return Ok(());
            }
            if !self.send_next(lane).await? {
                return Ok(());
            }
        }
    }

    /// Takes the stream's next item into `held`; `false` where there is none, or none is wanted any more.
    async fn fetch(&mut self, lane: &Lane) -> bool {
        if self.half_closed {
            return false;
        }
        match poll_fn(|cx| self.poll_item(cx, lane)).await {
            Fetched::Item(length) => {
                self.held_bytes += length;
                true
            }
            Fetched::Unwanted => false,
            Fetched::End => {
                self.finished = true;
                self.half_closed = true;
                lane.connection.connection.send(Class::Control, lane.id, Body::HalfClose(Empty {}));
                false
            }
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>, lane: &Lane) -> Poll<Fetched> {
        if lane.state.poll_over(cx).is_ready() {
            return Poll::Ready(Fetched::Unwanted);
        }
        if self.finished {
            return Poll::Ready(Fetched::End);
        }
        let item = self.items.as_mut().poll_take(cx);
        flush_if_pending(lane, &item);
        item.map(|item| item.map_or(Fetched::End, Fetched::Item))
    }

    /// Sends the next of `held`; `false` where the connection takes nothing any more.
    async fn send_next(&mut self, lane: &Lane) -> Result<bool, IpcError> {
        let Some(item) = self.items.get(self.sent) else { return Ok(true) };
        let connection = &lane.connection.connection;
        let (mut length, mut over) = (0, false);
        let put = |buffer: &mut BytesMut, _| {
            // Asked here, so that no item follows the Cancel of a call that is dropped meanwhile.
            over = lane.state.is_over();
            if !over {
                length = connection.encoder.put_item(buffer, lane.id, item)?;
            }
            Ok(())
        };
        match connection.append_call(put).await {
            Ok(_) if !over => {}
            Err(Refusal::Frame(error)) => return Err(error),
            Ok(_) | Err(Refusal::Ended | Refusal::Full) => return Ok(false),
        }
        lane.state.spend(length);
        self.sent += 1;
        if !self.complete || self.held_bytes > MAX_HELD_BYTES {
            self.let_go();
        }
        Ok(true)
    }

    /// From here on what was sent is gone.
    fn let_go(&mut self) {
        self.complete = false;
        self.items.as_mut().let_go(self.sent);
        self.sent = 0;
        self.held_bytes = 0;
    }
}

/// Items are written together: when nothing more can be appended now, they leave.
fn flush_if_pending<T>(lane: &Lane, poll: &Poll<T>) {
    if poll.is_pending() {
        lane.connection.connection.writer.flush();
    }
}
