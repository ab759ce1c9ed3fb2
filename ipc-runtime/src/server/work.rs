//! A handler as a trait object. Only this code differs from method to method, so the rest is compiled once.
//!
//! It decodes the request, runs the handler, and keeps the handler's message until it is written.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pin_project_lite::pin_project;
use prost::Message;
use tokio::time::Instant;

use super::reply::{Reply, Streamed};
use super::slot::CallSlot;
use crate::message;
use crate::metadata::Metadata;
use crate::protocol::encode::Encode;
use crate::request::{Request, Response};
use crate::status::Status;
use crate::streaming::Streaming;

/// The parts of a call that its handler gets.
pub(super) struct Begin<'a> {
    pub(super) slot: &'a CallSlot,
    /// The request's message. For a method that takes a stream, it is the only message of the stream, if it came with the
    /// call.
    pub(super) message: Option<Bytes>,
    pub(super) metadata: Metadata,
    pub(super) deadline: Option<Instant>,
    /// Metadata that layers put before the handler's own.
    pub(super) headers: Metadata,
}

impl Begin<'_> {
    pub(super) fn decode<Q: Message + Default>(&mut self) -> Result<Q, Option<Status>> {
        let message = self.message.take().unwrap_or_default();
        message::decode(&message)
            .map_err(|error| Some(Status::invalid_argument(format!("the request does not decode: {error}"))))
    }

    /// The requests of a method that takes a stream.
    pub(super) fn requests<Q: Message + Default>(&mut self) -> Streaming<Q> {
        self.slot.requests(self.message.take())
    }

    /// The handler's request. From here on the call counts as processed.
    ///
    /// # Errors
    ///
    /// The call is already over, so the handler must not run.
    pub(super) fn request<T>(&mut self, message: T) -> Result<Request<T>, Option<Status>> {
        self.slot.begin().map_err(|_| None)?;
        let metadata = std::mem::take(&mut self.metadata);
        Ok(Request::received(message, metadata, self.deadline, self.slot.peer()))
    }

    pub(super) fn reply(&mut self) -> Reply {
        self.slot.reply(std::mem::take(&mut self.headers))
    }
}

/// The metadata of a handler's answer.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) headers: Metadata,
    pub(super) trailers: Metadata,
}

/// A handler that waits, runs, or has answered.
pub(super) trait Work: Send {
    /// Gives the handler its request.
    ///
    /// # Errors
    ///
    /// The request does not decode. `None` if the call is already over.
    fn begin(self: Pin<&mut Self>, begin: Begin<'_>) -> Result<(), Option<Status>>;

    /// Runs the handler. Pending for ever if it was not begun.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Ended, Status>>;

    /// The handler's message, after it has answered with one.
    fn message(&self) -> Option<&dyn Encode>;
}

/// A handler's answer: a message that is not written yet, or the end of a stream.
pub(super) trait HandlerAnswer: Send {
    fn encode(&self) -> Option<&dyn Encode>;
}

impl<R: Message> HandlerAnswer for R {
    fn encode(&self) -> Option<&dyn Encode> {
        Some(self)
    }
}

impl HandlerAnswer for Streamed {
    fn encode(&self) -> Option<&dyn Encode> {
        None
    }
}

pin_project! {
    pub(super) struct Handling<F, Fut, R> {
        begin: Option<F>,
        #[pin]
        running: Option<Fut>,
        answer: Option<R>,
    }
}

impl<F, Fut, R> Handling<F, Fut, R>
where
    F: FnOnce(Begin<'_>) -> Result<Fut, Option<Status>>,
{
    pub(super) const fn new(begin: F) -> Self {
        Self { begin: Some(begin), running: None, answer: None }
    }
}

impl<F, Fut, R> Work for Handling<F, Fut, R>
where
    F: FnOnce(Begin<'_>) -> Result<Fut, Option<Status>> + Send,
    Fut: Future<Output = Result<Response<R>, Status>> + Send,
    R: HandlerAnswer,
{
    fn begin(self: Pin<&mut Self>, begin: Begin<'_>) -> Result<(), Option<Status>> {
        let mut this = self.project();
        if let Some(handler) = this.begin.take() {
            this.running.set(Some(handler(begin)?));
        }
        Ok(())
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Ended, Status>> {
        let mut this = self.project();
        let Some(running) = this.running.as_mut().as_pin_mut() else { return Poll::Pending };
        let done = ready!(running.poll(cx));
        // What the handler held is given back before anybody hears of its answer.
        this.running.set(None);
        let (headers, answer, trailers) = done?.into_parts();
        *this.answer = Some(answer);
        Poll::Ready(Ok(Ended { headers, trailers }))
    }

    fn message(&self) -> Option<&dyn Encode> {
        self.answer.as_ref()?.encode()
    }
}
