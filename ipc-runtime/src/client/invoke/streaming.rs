//! The streams of a call: answers that have begun, and requests that are sent at the same time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::outbound::{Lane, Outbound};
use super::outcome::{Unanswered, check_keys, closed, lost_error, unsendable};
use crate::background;
use crate::client::connection::ClientCall;
use crate::client::shared::Shared;
use crate::error::{Failure, IpcError};
use crate::link::reader::Received;
use crate::metadata::Metadata;
use crate::protocol::call::End;
use crate::protocol::envelope::{CloseDetails, CloseMetadata, Limited};
use crate::request::Response;
use crate::status::Status;
use crate::streaming::{Messages, Streaming};

/// The beginning of a streamed answer.
pub(super) struct Beginning {
    pub(super) metadata: Metadata,
    /// The first part of the answer if it has no headers.
    first: Option<First>,
}

/// The first part of a streamed answer without headers.
enum First {
    Item(Bytes),
    End(Metadata),
}

/// A streamed answer that has begun.
pub(super) struct Begun {
    pub(super) metadata: Metadata,
    pub(super) trailers: Metadata,
    source: Source,
}

enum Source {
    Call(Box<Answers>),
    /// The answer of a layer.
    Layer(VecDeque<Bytes>),
}

/// The client's state of a call that streams its answer.
struct Answers {
    call: ClientCall,
    first: Option<First>,
    trailers: Metadata,
    endpoint: Arc<str>,
}

impl Messages for Answers {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        match self.first.take() {
            Some(First::Item(item)) => return Poll::Ready(Ok(Some(item))),
            Some(First::End(trailers)) => {
                self.trailers = trailers;
                return Poll::Ready(Ok(None));
            }
            None => {}
        }
        loop {
            match ready!(self.call.poll_next(cx)) {
                Received::Item(item) => return Poll::Ready(Ok(Some(item))),
                Received::End(end) => return Poll::Ready(self.end(end).map(|()| None)),
                // Headers after the beginning of an answer are rejected by the connection.
                Received::Headers(_) => {}
            }
        }
    }

    fn decode_error(&self, error: &DecodeError) -> Status {
        IpcError::from(error.clone()).into()
    }

    fn take_trailers(&mut self) -> Metadata {
        std::mem::take(&mut self.trailers)
    }
}

impl Answers {
    fn end(&mut self, end: End) -> Result<(), Status> {
        match end {
            End::Closed(None) => Ok(()),
            End::Closed(Some(details)) => {
                let CloseDetails { error, metadata, .. } = *details;
                let trailers = match metadata {
                    Limited::Within(CloseMetadata { trailers, .. }) => trailers,
                    Limited::TooLarge => Metadata::new(),
                };
                check_keys(&trailers)?;
                if let Some(status) = error {
                    return Err(status.with_metadata(trailers));
                }
                self.trailers = trailers;
                Ok(())
            }
            End::Cancelled(status) => Err(*status),
            End::Expired { .. } => Err(IpcError::Timeout.into()),
            End::Lost(lost) => Err(lost_error(&self.endpoint, &lost).into()),
            End::Unsendable(error) => Err(unsendable(&error).into()),
            End::HalfClosed | End::Over => Err(Status::internal("a server does not half-close")),
        }
    }
}

/// The messages of a layer's answer.
struct LayerMessages(VecDeque<Bytes>);

impl Messages for LayerMessages {
    fn poll_message(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        Poll::Ready(Ok(self.0.pop_front()))
    }

    fn decode_error(&self, error: &DecodeError) -> Status {
        Status::internal(format!("a layer's answer does not decode: {error}"))
    }

    fn take_trailers(&mut self) -> Metadata {
        Metadata::new()
    }
}

impl Begun {
    pub(super) fn of(shared: &Shared, call: ClientCall, beginning: Beginning) -> Self {
        let Beginning { metadata, first } = beginning;
        let endpoint = Arc::clone(&shared.endpoint);
        let answers = Answers { call, first, trailers: Metadata::new(), endpoint };
        Self { metadata, trailers: Metadata::new(), source: Source::Call(Box::new(answers)) }
    }

    pub(super) fn instead(messages: Vec<Bytes>) -> Self {
        let source = Source::Layer(messages.into());
        Self { metadata: Metadata::new(), trailers: Metadata::new(), source }
    }

    /// Goes on sending the remaining requests, if the call was made.
    pub(super) fn send_rest(&self, outbound: Outbound) {
        if let Source::Call(answers) = &self.source
            && !outbound.is_sent()
        {
            background::spawn(send_rest(Lane::of(&answers.call), outbound));
        }
    }

    pub(super) fn decode<R: Message + Default>(self) -> Response<Streaming<R>> {
        let stream = match self.source {
            Source::Call(answers) => Streaming::of_messages(answers),
            Source::Layer(messages) => Streaming::of_messages(Box::new(LayerMessages(messages))),
        };
        Response::received(stream, self.metadata, self.trailers)
    }
}

/// Waits for the beginning of the answer: headers, a first message, or a successful end.
pub(super) async fn beginning(call: &mut ClientCall) -> Result<Beginning, Unanswered> {
    let begun = match poll_fn(|cx| call.poll_next(cx)).await {
        Received::Headers(metadata) => Beginning { metadata, first: None },
        Received::Item(item) => Beginning { metadata: Metadata::new(), first: Some(First::Item(item)) },
        Received::End(end) => {
            let CloseMetadata { headers, trailers } = closed(end)?;
            check_keys(&trailers).map_err(Unanswered::Failed)?;
            Beginning { metadata: headers, first: Some(First::End(trailers)) }
        }
    };
    check_keys(&begun.metadata).map_err(Unanswered::Failed)?;
    Ok(begun)
}

/// Sends requests until `answer` is ready. An item that can't be sent also ends it, with an error.
pub(super) async fn while_sending<T>(
    shared: &Shared,
    lane: Lane,
    outbound: &mut Outbound,
    answer: impl Future<Output = Result<T, Unanswered>>,
) -> Result<T, Unanswered> {
    let mut sending = pin!(outbound.send_all(&lane));
    let mut answer = pin!(answer);
    let mut sent = false;
    poll_fn(|cx| {
        if !sent {
            match sending.as_mut().poll(cx) {
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Unanswered::Failed(broken_off(shared, error))));
                }
                Poll::Ready(Ok(())) => sent = true,
                Poll::Pending => {}
            }
        }
        answer.as_mut().poll(cx)
    })
    .await
}

/// The error of a call that failed because one of its streamed requests can't be sent. The server may have processed the
/// requests before it.
fn broken_off(shared: &Shared, cause: IpcError) -> IpcError {
    let failure = Failure {
        endpoint: Arc::clone(&shared.endpoint),
        phase: "streaming requests to",
        code: cause.code(),
        cause: Arc::new(cause),
        remedy: "the call was cancelled, and the requests before this one may have been processed",
        request_sent: true,
    };
    failure.into_error(std::io::ErrorKind::InvalidInput)
}

/// Sends the remaining requests of a call whose answer has begun.
async fn send_rest(lane: Lane, mut outbound: Outbound) {
    let guard = FailOnDrop { lane: Some(&lane) };
    let result = outbound.send_all(&lane).await;
    guard.disarm();
    if let Err(error) = result {
        lane.fail(error.into());
    }
}

/// Fails the call if the stream of requests panics or the runtime ends. Otherwise the call would wait for ever.
struct FailOnDrop<'a> {
    lane: Option<&'a Lane>,
}

impl FailOnDrop<'_> {
    fn disarm(mut self) {
        self.lane = None;
    }
}

impl Drop for FailOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane {
            lane.fail(Status::internal("the stream of requests ended by a panic"));
        }
    }
}
