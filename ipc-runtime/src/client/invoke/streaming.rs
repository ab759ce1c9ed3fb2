//! Streams around a call: answers that have begun, requests that go on meanwhile.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use prost::Message;

use super::outbound::{Lane, Outbound};
use super::{Unanswered, check_keys, closed};
use crate::background;
use crate::client::calls::ClientCall;
use crate::client::shared::Shared;
use crate::connection::call::{End, Inbox, Next};
use crate::error::{Failure, IpcError};
use crate::metadata::Metadata;
use crate::request::Response;
use crate::status::Status;
use crate::streaming::{Answers, Streaming};
use crate::wire;

/// The beginning of a streamed answer.
pub(super) struct Beginning {
    pub(super) metadata: Metadata,
    /// What arrived instead of headers.
    first: Option<Next>,
    inbox: Inbox,
}

/// A streamed answer that has begun.
pub(super) struct Begun {
    pub(super) metadata: Metadata,
    pub(super) trailers: Metadata,
    messages: Messages,
}

enum Messages {
    Arriving(Box<Answers>),
    /// What a layer has answered.
    Given(VecDeque<Bytes>),
}

impl Begun {
    pub(super) fn of(shared: &Shared, call: ClientCall, beginning: Beginning) -> Self {
        let Beginning { metadata, first, inbox } = beginning;
        let answers = Answers::new(call, first, inbox, Arc::clone(&shared.endpoint));
        Self { metadata, trailers: Metadata::new(), messages: Messages::Arriving(Box::new(answers)) }
    }

    pub(super) fn instead(messages: Vec<Bytes>) -> Self {
        let (metadata, trailers) = (Metadata::new(), Metadata::new());
        Self { metadata, trailers, messages: Messages::Given(messages.into()) }
    }

    /// Goes on sending what is left of the requests, if the call was made.
    pub(super) fn send_rest(&self, outbound: Outbound) {
        if let Messages::Arriving(answers) = &self.messages
            && !outbound.is_sent()
        {
            background::spawn(send_rest(Lane::of(answers.call()), outbound));
        }
    }

    pub(super) fn decode<R: Message + Default>(self) -> Response<Streaming<R>> {
        let stream = match self.messages {
            Messages::Arriving(answers) => Streaming::of_client(answers),
            Messages::Given(messages) => Streaming::of_layer(messages),
        };
        Response::received(stream, self.metadata, self.trailers)
    }
}

/// Waits for the answer to begin: headers, a first message, or a successful end.
pub(super) async fn beginning(call: &ClientCall) -> Result<Beginning, Unanswered> {
    let mut inbox = Inbox::default();
    let begun = match poll_fn(|cx| call.poll_next(cx, &mut inbox)).await {
        Next::Headers(metadata) => Beginning { metadata, first: None, inbox },
        item @ Next::Item(_) => Beginning { metadata: Metadata::new(), first: Some(item), inbox },
        Next::End(end) => {
            let end = closed(end)?.map_or(End::Answered, End::Closed);
            let metadata = match &end {
                End::Closed(close) => wire::metadata(close.headers.clone()),
                _ => Metadata::new(),
            };
            Beginning { metadata, first: Some(Next::End(end)), inbox }
        }
    };
    check_keys(&begun.metadata).map_err(Unanswered::Failed)?;
    Ok(begun)
}

/// Sends requests until `answer` is there; an item that can't be sent is the answer, too.
pub(super) async fn while_sending<T>(
    shared: &Shared,
    call: &ClientCall,
    outbound: &mut Outbound,
    answer: impl Future<Output = Result<T, Unanswered>>,
) -> Result<T, Unanswered> {
    let lane = Lane::of(call);
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

/// The error of a call one of whose requests can't be sent: unlike where that is the only one, the server may have
/// worked on those before it.
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

/// Sends what is left of the requests of a call whose answer has begun.
async fn send_rest(lane: Lane, mut outbound: Outbound) {
    let guard = FailOnDrop { lane: Some(&lane) };
    let result = outbound.send_all(&lane).await;
    guard.disarm();
    if let Err(error) = result {
        lane.fail(error.into());
    }
}

/// A stream of requests that panics, or a runtime that ends, must not leave the call waiting.
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
