//! [`Streaming`]: the messages of a call as the application reads them, on both sides.
//!
//! It decodes messages. An implementation of [`Messages`] knows where they come from and how the call ends.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use prost::{DecodeError, Message};

use crate::message;
use crate::metadata::Metadata;
use crate::status::Status;

/// The messages of a call as bytes, in order.
pub(crate) trait Messages: Send {
    /// The next message; `None` after the last message of a successful call.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>>;

    /// The status that the reader gets for a message that does not decode.
    fn decode_error(&self, error: &DecodeError) -> Status;

    /// The metadata that came with the end.
    fn take_trailers(&mut self) -> Metadata;
}

/// A stream of messages: the answers a client reads, or the requests a handler reads.
///
/// Read it with [`message`](Self::message) or as a [`Stream`]. Messages come in the order in which they were sent. The
/// sender may only be ahead by the initial credit, so a stream that is not read delays no other call. On a client,
/// dropping the stream cancels the call. On a server, the client then gets no more credit to send requests.
///
/// For tests, make one from any stream or from a list:
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
    Call(Box<dyn Messages>, Decode<T>),
    Made(Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>),
    Ended,
}

type Decode<T> = fn(&Bytes) -> Result<T, DecodeError>;

impl<T> Streaming<T> {
    /// Wraps another stream, for tests.
    pub fn from_stream(stream: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Self {
        Self::new(Source::Made(Box::pin(stream)))
    }

    /// A stream of these messages that then ends, for tests.
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

    /// The next message; `None` after the last message of a successful call.
    ///
    /// # Errors
    ///
    /// The status with which the call failed. After an error or the end, there are no more messages.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no message is lost.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        poll_fn(|cx| self.poll_message(cx)).await.transpose()
    }

    /// The metadata that came with the end of the call. Empty before the end, and on a server.
    #[must_use]
    pub const fn trailers(&self) -> &Metadata {
        &self.trailers
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let next = match &mut self.source {
            Source::Call(messages, decode) => match ready!(messages.poll_message(cx)) {
                Ok(Some(message)) => {
                    decode(&message).map(Some).map_err(|error| messages.decode_error(&error))
                }
                Ok(None) => {
                    self.trailers = messages.take_trailers();
                    Ok(None)
                }
                Err(status) => Err(status),
            },
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
    pub(crate) fn of_messages(messages: Box<dyn Messages>) -> Self {
        Self::new(Source::Call(messages, message::decode))
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

/// A stream of messages that are all available.
struct List<T>(VecDeque<T>);

impl<T> Unpin for List<T> {}

impl<T> Stream for List<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
