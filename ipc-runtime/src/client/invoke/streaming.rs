//! The kinds of call in which the client, the server or both stream.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_core::Stream;
use prost::Message;

use super::outbound::{Lane, Outbound};
use super::{Invocation, Unanswered, call_context, check_keys, closed, single_answer, within};
use crate::client::calls::ClientCall;
use crate::client::channel::Channel;
use crate::codegen::Method;
use crate::connection::call::{End, Next};
use crate::error::IpcError;
use crate::layer::run;
use crate::metadata::Metadata;
use crate::request::{Request, Response};
use crate::status::Status;
use crate::streaming::Streaming;
use crate::wire;

/// The beginning of a streamed answer.
struct Beginning {
    metadata: Metadata,
    /// What arrived instead of headers.
    first: Option<Next>,
}

impl Channel {
    /// A call with one message out and a stream of messages back. Returns when the answer begins.
    ///
    /// # Errors
    ///
    /// What the server answered, or why there is no answer. Once it has begun, errors come in the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the stream it gave, cancels the call.
    pub async fn server_streaming<Q, R>(
        &self,
        method: Method,
        request: Request<Q>,
    ) -> Result<Response<Streaming<R>>, IpcError>
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        let shared = self.shared();
        let mut call = Invocation::new(shared, method, &request, shared.streaming_timeout());
        let (metadata, message) = request.into_parts();
        let (deadline, progress) = (call.deadline, Arc::clone(&call.progress));
        let context = |metadata| call_context(method, metadata, deadline);
        let make = |metadata| async move {
            loop {
                let Some(open) = call.open(&metadata, Some(&message)).await? else { continue };
                match beginning(&open).await {
                    Ok(begun) => return Ok(streamed(self, open, begun, deadline)),
                    Err(unanswered) => call.may_repeat(unanswered, true).await?,
                }
            }
        };
        within(shared, deadline, &progress, async {
            if self.layers().is_empty() {
                return make(metadata).await;
            }
            Box::pin(run::streaming(self.layers(), context(metadata), make)).await
        })
        .await
    }

    /// A call with a stream of messages out and one message back.
    ///
    /// # Errors
    ///
    /// What the server answered, or why there is no answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call and drops the stream.
    pub async fn client_streaming<S, R>(
        &self,
        method: Method,
        request: Request<S>,
    ) -> Result<Response<R>, IpcError>
    where
        S: Stream + Send + 'static,
        S::Item: Message,
        R: Message + Default,
    {
        let shared = self.shared();
        let mut call = Invocation::new(shared, method, &request, shared.streaming_timeout());
        let (metadata, stream) = request.into_parts();
        let (deadline, progress) = (call.deadline, Arc::clone(&call.progress));
        let context = |metadata| call_context(method, metadata, deadline);
        let mut outbound = Outbound::new(stream);
        let make = |metadata| async move {
            loop {
                let Some(open) = call.open::<S::Item>(&metadata, None).await? else { continue };
                match while_sending(&open, &mut outbound, single_answer(&open)).await {
                    Ok(response) => return Ok(response),
                    Err(unanswered) => call.may_repeat(unanswered, outbound.is_repeatable()).await?,
                }
                outbound.rewind();
            }
        };
        within(shared, deadline, &progress, async {
            if self.layers().is_empty() {
                return make(metadata).await;
            }
            Box::pin(run::single(self.layers(), context(metadata), make)).await
        })
        .await
    }

    /// A call with a stream of messages each way. Returns when the answer begins; the requests go on being sent
    /// meanwhile and afterwards.
    ///
    /// # Errors
    ///
    /// What the server answered, or why there is no answer. Once it has begun, errors come in the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the stream it gave, cancels the call and drops the stream of requests.
    pub async fn bidi_streaming<S, R>(
        &self,
        method: Method,
        request: Request<S>,
    ) -> Result<Response<Streaming<R>>, IpcError>
    where
        S: Stream + Send + 'static,
        S::Item: Message,
        R: Message + Default + 'static,
    {
        let shared = self.shared();
        let mut call = Invocation::new(shared, method, &request, shared.streaming_timeout());
        let (metadata, stream) = request.into_parts();
        let (deadline, progress) = (call.deadline, Arc::clone(&call.progress));
        let context = |metadata| call_context(method, metadata, deadline);
        let mut outbound = Outbound::new(stream);
        let make = |metadata| async move {
            loop {
                let Some(open) = call.open::<S::Item>(&metadata, None).await? else { continue };
                match while_sending(&open, &mut outbound, beginning(&open)).await {
                    Ok(begun) => {
                        if !outbound.is_sent() {
                            tokio::spawn(send_rest(Lane::of(&open), outbound));
                        }
                        return Ok(streamed(self, open, begun, deadline));
                    }
                    Err(unanswered) => call.may_repeat(unanswered, outbound.is_repeatable()).await?,
                }
                outbound.rewind();
            }
        };
        within(shared, deadline, &progress, async {
            if self.layers().is_empty() {
                return make(metadata).await;
            }
            Box::pin(run::streaming(self.layers(), context(metadata), make)).await
        })
        .await
    }
}

/// Waits for the answer to begin: headers, a first message, or a successful end.
async fn beginning(call: &ClientCall) -> Result<Beginning, Unanswered> {
    let begun = match call.next().await {
        Next::Headers(metadata) => Beginning { metadata, first: None },
        item @ Next::Item(_) => Beginning { metadata: Metadata::new(), first: Some(item) },
        Next::End(end) => {
            let mut close = closed(end)?;
            let metadata = wire::metadata(std::mem::take(&mut close.headers));
            Beginning { metadata, first: Some(Next::End(End::Closed(close))) }
        }
    };
    check_keys(&begun.metadata).map_err(Unanswered::Failed)?;
    Ok(begun)
}

fn streamed<R: Message + Default + 'static>(
    channel: &Channel,
    call: ClientCall,
    begun: Beginning,
    deadline: Option<tokio::time::Instant>,
) -> Response<Streaming<R>> {
    let endpoint = Arc::clone(&channel.shared().endpoint);
    let stream = Streaming::of_client(call, begun.first, deadline, endpoint);
    Response::received(stream, begun.metadata, Metadata::new())
}

/// Sends requests until `answer` is there; an item that can't be sent is the answer, too.
async fn while_sending<S, T>(
    call: &ClientCall,
    outbound: &mut Outbound<S>,
    answer: impl Future<Output = Result<T, Unanswered>>,
) -> Result<T, Unanswered>
where
    S: Stream,
    S::Item: Message,
{
    let lane = Lane::of(call);
    let mut sending = pin!(outbound.send_all(&lane));
    let mut answer = pin!(answer);
    let mut sent = false;
    poll_fn(|cx| {
        if !sent {
            match sending.as_mut().poll(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Unanswered::Failed(error))),
                Poll::Ready(Ok(())) => sent = true,
                Poll::Pending => {}
            }
        }
        answer.as_mut().poll(cx)
    })
    .await
}

/// Sends what is left of the requests of a call whose answer has begun.
async fn send_rest<S>(lane: Lane, mut outbound: Outbound<S>)
where
    S: Stream,
    S::Item: Message,
{
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
