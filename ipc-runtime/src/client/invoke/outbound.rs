//! A stream of requests on its way out: paced by credit, and held for as long as it may have to be sent again.
//!
//! It knows items and credit; who waits for the answer is not its affair.

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
    batch: Batch,
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

    /// Fails the call on this side, as its reader will see.
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

    /// Makes ready to send everything again on another connection; `false` if not all of it is still at hand.
    pub(super) fn rewind(&mut self) -> bool {
        self.batch = Batch::default();
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
        // Items are encoded with the call's id.
        let Some(id) = id_of(&lane.link, lane.key).await else { return Ok(()) };
        let stopped = self.send_each(lane, id).await;
        let Err(Stopped::Item(error)) = stopped else { return Ok(()) };
        // Those before it can be sent.
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

    /// Takes the stream's next item; `false` where there is none, or none is wanted any more.
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

    /// Sends what has come together, before anything is waited for.
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
        // Not for each item: one who has not waited has not been told anything either.
        if self.batch.is_empty() && lane.poll_over(cx).is_ready() {
            return Poll::Ready(Fetched::Unwanted);
        }
        if self.finished {
            return Poll::Ready(Fetched::End);
        }
        self.items.as_mut().poll_take(cx).map(|length| length.map_or(Fetched::End, Fetched::Item))
    }

    /// From here on what was sent is gone.
    fn let_go(&mut self) {
        self.complete = false;
        self.items.as_mut().let_go(self.sent);
        self.sent = 0;
        self.held_bytes = 0;
    }
}
