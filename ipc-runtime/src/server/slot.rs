//! A call's slot on its connection: how its handler begins, reads, answers, and hears that the call is over.
//!
//! It knows no handlers. Whatever becomes of them, the call is closed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::connection::ServerConnection;
use super::growth::{Budget, Charge};
use super::reply::Reply;
use crate::error::IpcError;
use crate::link::Link;
use crate::link::reader::{CallReader, Received};
use crate::link::scratch;
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::protocol::call::End;
use crate::protocol::callee::Finish;
use crate::protocol::encode::Encode;
use crate::protocol::growth;
use crate::protocol::table::CallKey;
use crate::status::Status;
use crate::streaming::{Messages, Streaming};

/// The call's place on its connection. Dropping it closes the call, however its task ended.
pub(crate) struct CallSlot {
    connection: Arc<ServerConnection>,
    key: CallKey,
    pub(super) id: u64,
    pub(super) deadline: Option<Instant>,
    is_open: bool,
    /// The estimated memory of its request.
    charge: Charge,
}

impl CallSlot {
    pub(super) fn new(
        connection: Arc<ServerConnection>,
        key: CallKey,
        id: u64,
        deadline: Option<std::time::Instant>,
        charge: Charge,
    ) -> Self {
        let deadline = deadline.map(Instant::from_std);
        Self { connection, key, id, deadline, is_open: true, charge }
    }

    pub(super) fn peer(&self) -> Arc<PeerInfo> {
        Arc::clone(&self.connection.peer)
    }

    pub(super) fn reply(&self, begin: Metadata) -> Reply {
        Reply::new(Arc::clone(&self.connection.link), self.key, self.id, begin)
    }

    /// The requests of the call. `first` came with it.
    pub(super) fn requests<Q: Message + Default>(&self, first: Option<Bytes>) -> Streaming<Q> {
        Streaming::of_messages(Box::new(self.incoming(first)))
    }

    fn incoming(&self, first: Option<Bytes>) -> Incoming {
        let reader = CallReader::new(Arc::clone(&self.connection.link), self.key);
        Incoming { first, reader, budget: self.connection.growth.clone(), charge: None, held: None }
    }

    /// Waits for room in the budget of decoded requests, until the call ends.
    pub(super) async fn charge(&mut self, amount: u64) -> Result<(), Status> {
        let time = self.connection.link.terms().write_timeout;
        self.charge = Charge::wait(self.connection.growth.clone(), amount, time).await?;
        Ok(())
    }

    /// The one message of a request that came in parts.
    pub(super) async fn single(&mut self) -> Result<Bytes, Status> {
        let wrong =
            |what| Status::invalid_argument(format!("the request has {what} where the method takes one"));
        let mut incoming = self.incoming(None);
        let Some(message) = poll_fn(|cx| incoming.poll_message(cx)).await? else {
            return Err(wrong("no message"));
        };
        // It is charged until the call ends, like a request that came with the call.
        if let Some(charge) = incoming.charge.take() {
            self.charge = charge;
        }
        if poll_fn(|cx| incoming.poll_message(cx)).await?.is_some() {
            return Err(wrong("more than one message"));
        }
        Ok(message)
    }

    /// Notes that the handler is about to be called. From here on the call counts as processed.
    ///
    /// # Errors
    ///
    /// The call is already over.
    pub(super) fn begin(&self) -> Result<(), End> {
        self.connection.link.peek(|core| core.begin(Instant::now().into_std(), self.key))
    }

    /// Whether the call is over while its handler runs.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<End> {
        let over = self.connection.link.peek(|core| core.poll_over(self.key, cx.waker()));
        over.map_or(Poll::Pending, Poll::Ready)
    }

    /// A handle to watch for the call's end while the call itself is borrowed.
    pub(super) fn watched(&self) -> WatchedCall {
        WatchedCall { link: Arc::clone(&self.connection.link), key: self.key, deadline: self.deadline }
    }

    /// Closes the call with the handler's answer.
    pub(super) fn succeed(mut self, headers: &Metadata, trailers: &Metadata, message: Option<&dyn Encode>) {
        if let Err(error) = self.try_succeed(headers, trailers, message) {
            self.fail(&error.into());
        }
    }

    fn try_succeed(
        &mut self,
        headers: &Metadata,
        trailers: &Metadata,
        message: Option<&dyn Encode>,
    ) -> Result<(), IpcError> {
        let (link, key, id) = (&self.connection.link, self.key, self.id);
        let message = message.map(|message| (message, message.length()));
        let length = message.map_or(0, |(_, length)| length);
        scratch::encode(
            length,
            |buffer| link.encoder().put_close(buffer, id, headers, trailers, message),
            |frame| {
                let now = Instant::now().into_std();
                link.update(now, |core, now| core.finish(now, key, Finish::Answered(frame)));
            },
        )?;
        self.is_open = false;
        Ok(())
    }

    /// Closes the call with an error.
    pub(super) fn fail(mut self, status: &Status) {
        self.close_with(status);
    }

    fn close_with(&mut self, status: &Status) {
        self.is_open = false;
        let now = Instant::now().into_std();
        self.connection.link.update(now, |core, now| core.finish(now, self.key, Finish::Failed(status)));
    }
}

impl Drop for CallSlot {
    fn drop(&mut self) {
        self.connection.calls.end();
        if !self.is_open {
            return;
        }
        // The task panicked, or was dropped with the runtime or the connection.
        let status = if std::thread::panicking() {
            Status::internal("the handler panicked")
        } else {
            Status::unavailable("the server stopped working on the call")
        };
        self.close_with(&status);
    }
}

/// The requests of a call as they arrive.
struct Incoming {
    first: Option<Bytes>,
    reader: CallReader,
    budget: Budget,
    /// The estimated memory of the last message.
    charge: Option<Charge>,
    /// A message that waits for room in the budget.
    held: Option<Held>,
}

/// A message that is not charged yet.
struct Held {
    message: Bytes,
    charge: Pin<Box<dyn Future<Output = Result<Charge, Status>> + Send>>,
}

impl Incoming {
    fn poll_charge(&mut self, message: Bytes, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let amount = growth::estimate(&message);
        if let Some(charge) = Charge::take(&self.budget, amount) {
            self.charge = Some(charge);
            return Poll::Ready(Ok(Some(message)));
        }
        let charge = Box::pin(Charge::wait(self.budget.clone(), amount, self.reader.write_timeout()));
        self.held = Some(Held { message, charge });
        self.poll_held(cx)
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let Some(held) = &mut self.held else { return Poll::Ready(Ok(None)) };
        let charge = ready!(held.charge.as_mut().poll(cx));
        let message = self.held.take().map(|held| held.message);
        self.charge = Some(charge?);
        Poll::Ready(Ok(message))
    }
}

impl Messages for Incoming {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        self.charge = None;
        if self.held.is_some() {
            return self.poll_held(cx);
        }
        let received = match self.first.take() {
            Some(first) => return Poll::Ready(Ok(Some(first))),
            None => ready!(self.reader.poll_next(cx)),
        };
        Poll::Ready(match received {
            Received::Item(item) => return self.poll_charge(item, cx),
            Received::Headers(_) | Received::End(End::HalfClosed) => Ok(None),
            Received::End(End::Cancelled(status)) => Err(*status),
            Received::End(End::Expired { .. }) => {
                Err(Status::deadline_exceeded("the deadline passed on the server"))
            }
            // The handler gave its requests to another task, which still reads them.
            Received::End(End::Over) => Err(Status::cancelled("the call is over")),
            Received::End(End::Lost(_) | End::Closed(_) | End::Unsendable(_)) => {
                Err(Status::cancelled("the client's connection has ended"))
            }
        })
    }

    fn decode_error(&self, error: &prost::DecodeError) -> Status {
        Status::invalid_argument(format!("a request does not decode: {error}"))
    }

    fn take_trailers(&mut self) -> Metadata {
        Metadata::new()
    }
}

/// Watches for the end of a call without borrowing the call.
pub(super) struct WatchedCall {
    link: Arc<Link>,
    key: CallKey,
    pub(super) deadline: Option<Instant>,
}

impl WatchedCall {
    /// Whether the call is over while its handler runs.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<End> {
        let over = self.link.peek(|core| core.poll_over(self.key, cx.waker()));
        over.map_or(Poll::Pending, Poll::Ready)
    }
}
