//! [`Streaming`]: the messages of a call as the application reads them, on either side.
//!
//! It decodes, gives credit back and reports how the stream ended; it neither sends nor retries.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use prost::{DecodeError, Message};

use crate::client::calls::ClientCall;
use crate::client::invoke::lost_error;
use crate::connection::call::{End, Inbox, Next};
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::server::dispatch::Incoming;
use crate::status::{Code, Status};
use crate::wire::{self, Close, message};

/// A stream of messages: the answers a client reads, or the requests a handler reads.
///
/// Read it with [`message`](Self::message) or as a [`Stream`]. Messages come in the order they were sent. The
/// sender may be ahead by the initial credit and no more, so a stream that nobody reads stalls itself alone.
/// Dropping it cancels the call on a client; on a server the rest of the requests is not asked for.
///
/// A fake for tests is made from any stream, or from a list:
///
/// ```
/// # use ipc_runtime::{Status, Streaming};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Status> {
/// let mut stream = Streaming::of([1_u32, 2]);
/// assert_eq!(stream.message().await?, Some(1));
/// assert_eq!(stream.message().await?, Some(2));
/// assert_eq!(stream.message().await?, None);
/// # Ok(())
/// # }
/// ```
pub struct Streaming<T> {
    source: Source<T>,
    trailers: Metadata,
}

enum Source<T> {
    Client(Box<Answers>, Decode<T>),
    /// What a client's layer has answered.
    Layer(VecDeque<Bytes>, Decode<T>),
    Server(Incoming, Decode<T>),
    Made(Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>),
    Ended,
}

type Decode<T> = fn(&Bytes) -> Result<T, DecodeError>;

/// What a client keeps of a call that streams its answer.
pub(crate) struct Answers {
    call: ClientCall,
    first: Option<Next>,
    inbox: Inbox,
    endpoint: Arc<str>,
}

impl<T> Streaming<T> {
    /// A stream of the caller's own, for fakes.
    pub fn from_stream(stream: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Self {
        Self::new(Source::Made(Box::pin(stream)))
    }

    /// A stream of these messages that then ends, for fakes.
    pub fn of(messages: impl IntoIterator<Item = T>) -> Self
    where
        T: Send + 'static,
    {
        Self::of_list(messages.into_iter().collect())
    }

    pub(crate) fn of_list(messages: Vec<T>) -> Self
    where
        T: Send + 'static,
    {
        Self::from_stream(List(messages.into()))
    }

    fn new(source: Source<T>) -> Self {
        Self { source, trailers: Metadata::new() }
    }

    /// The next message; `None` once all have come and the call has ended well.
    ///
    /// # Errors
    ///
    /// How the call failed. After an error, as after the end, there is nothing more.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, no message is lost.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        poll_fn(|cx| self.poll_message(cx)).await.transpose()
    }

    /// The metadata that came with the end of the call; empty before, and on a server.
    #[must_use]
    pub const fn trailers(&self) -> &Metadata {
        &self.trailers
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let next = match &mut self.source {
            Source::Client(answers, decode) => match ready!(answers.poll(cx)) {
                Ok(Answer::Item(item)) => {
                    decode(&item).map(Some).map_err(|error| IpcError::from(error).into())
                }
                Ok(Answer::End(trailers)) => {
                    self.trailers = trailers;
                    Ok(None)
                }
                Err(status) => Err(status),
            },
            Source::Server(incoming, decode) => match ready!(incoming.poll_item(cx)) {
                Ok(Some(item)) => decode(&item)
                    .map(Some)
                    .map_err(|error| Status::invalid_argument(format!("a request does not decode: {error}"))),
                Ok(None) => Ok(None),
                Err(status) => Err(status),
            },
            Source::Layer(messages, decode) => messages
                .pop_front()
                .map(|message| decode(&message))
                .transpose()
                .map_err(|error| Status::internal(format!("a layer's answer does not decode: {error}"))),
            Source::Made(stream) => ready!(stream.as_mut().poll_next(cx)).transpose(),
            Source::Ended => Ok(None),
        };
        if !matches!(next, Ok(Some(_))) {
            self.source = Source::Ended;
        }
        Poll::Ready(next.transpose())
    }
}

impl<T: Message + Default> Streaming<T> {
    pub(crate) fn of_client(answers: Box<Answers>) -> Self {
        Self::new(Source::Client(answers, message::decode))
    }

    pub(crate) fn of_layer(messages: VecDeque<Bytes>) -> Self {
        Self::new(Source::Layer(messages, message::decode))
    }

    pub(crate) fn of_server(incoming: Incoming) -> Self {
        Self::new(Source::Server(incoming, message::decode))
    }
}

enum Answer {
    Item(Bytes),
    End(Metadata),
}

impl Answers {
    pub(crate) const fn new(call: ClientCall, first: Option<Next>, inbox: Inbox, endpoint: Arc<str>) -> Self {
        Self { call, first, inbox, endpoint }
    }

    pub(crate) const fn call(&self) -> &ClientCall {
        &self.call
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        if self.first.is_none()
            && let Some(item) = self.call.unread(&mut self.inbox)
        {
            return Poll::Ready(Ok(Answer::Item(item)));
        }
        loop {
            let next = match self.first.take() {
                Some(next) => next,
                None => ready!(self.call.poll_next(cx, &mut self.inbox)),
            };
            match next {
                Next::Item(item) => return Poll::Ready(Ok(Answer::Item(item))),
                Next::End(end) => return Poll::Ready(self.end(end).map(Answer::End)),
                // They came after the answer had begun, which the connection does not let pass.
                Next::Headers(_) => {}
            }
        }
    }

    fn end(&self, end: End) -> Result<Metadata, Status> {
        match end {
            End::Answered => Ok(Metadata::new()),
            End::Closed(close) => {
                let Close { status, trailers, .. } = *close;
                let trailers = wire::metadata(trailers);
                if let Some(why) = trailers.first_bad_key() {
                    return Err(Status::internal(format!("the server sent bad metadata: {why}")));
                }
                match status {
                    Some(status) if status.code != Code::Ok as i32 => {
                        Err(status.into_status().with_metadata(trailers))
                    }
                    _ => Ok(trailers),
                }
            }
            End::Cancelled(status) => Err(*status),
            End::Expired => Err(IpcError::Timeout.into()),
            End::Lost(lost) => Err(lost_error(&self.endpoint, &lost).into()),
            End::HalfClosed | End::Over => Err(Status::internal("a server does not half-close")),
        }
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

impl<T> Unpin for Streaming<T> {}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}

/// Messages that are all there already.
struct List<T>(VecDeque<T>);

impl<T> Unpin for List<T> {}

impl<T> Stream for List<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
