//! The four kinds of call with their message types, and the layers around them.

use bytes::Bytes;
use futures_core::Stream;
use prost::Message;

use super::outbound::Outbound;
use super::streaming::{Beginning, Begun, beginning};
use super::{Invocation, Sending, Unanswered, UnaryResponse, single_response};
use crate::client::channel::Channel;
use crate::client::connection::ClientCall;
use crate::client::method::Method;
use crate::error::IpcError;
use crate::layer::{Boxed, CallContext, Path, unanswered};
use crate::metadata::Metadata;
use crate::request::{CallOptions, Request, Response};
use crate::streaming::Streaming;

impl Channel {
    /// A call with one message each way.
    ///
    /// # Errors
    ///
    /// The server's error, or the reason why there is no answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call. The server then drops its handler.
    #[expect(clippy::manual_async_fn, reason = "an async fn's future would have room for the request twice")]
    pub fn unary<Q, R>(
        &self,
        method: Method,
        mut request: Request<Q>,
    ) -> impl Future<Output = Result<Response<R>, IpcError>> + Send
    where
        Q: Message,
        R: Message + Default,
    {
        async move {
            let (metadata, options) = request.take_head();
            let mut call = self.unary_call(method, options);
            let mut sending = Sending::Message(request.get_ref());
            self.single(&mut call, metadata, &mut sending).await?.decode()
        }
    }

    /// A call with a stream of messages out and one message back.
    ///
    /// # Errors
    ///
    /// The server's error, or the reason why there is no answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call and drops the stream.
    pub async fn client_streaming<S, R>(
        &self,
        method: Method,
        mut request: Request<S>,
    ) -> Result<Response<R>, IpcError>
    where
        S: Stream + Send + 'static,
        S::Item: Message,
        R: Message + Default,
    {
        let (metadata, options) = request.take_head();
        let mut call = self.streaming_call(method, options);
        let mut sending = Sending::Stream(Outbound::new(request.into_inner()));
        self.single(&mut call, metadata, &mut sending).await?.decode()
    }

    /// A call with one message out and a stream of messages back. Returns when the answer begins.
    ///
    /// # Errors
    ///
    /// The server's error, or the reason why there is no answer. After the answer has begun, errors come in the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the stream that it returned, cancels the call.
    #[expect(clippy::manual_async_fn, reason = "an async fn's future would have room for the request twice")]
    pub fn server_streaming<Q, R>(
        &self,
        method: Method,
        mut request: Request<Q>,
    ) -> impl Future<Output = Result<Response<Streaming<R>>, IpcError>> + Send
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        async move {
            let (metadata, options) = request.take_head();
            let mut call = self.streaming_call(method, options);
            let mut sending = Sending::Message(request.get_ref());
            Ok(self.streamed(&mut call, metadata, &mut sending).await?.decode())
        }
    }

    /// A call with a stream of messages each way. Returns when the answer begins. Requests are sent before that and
    /// afterwards.
    ///
    /// # Errors
    ///
    /// The server's error, or the reason why there is no answer. After the answer has begun, errors come in the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the stream that it returned, cancels the call and drops the stream of requests.
    pub async fn bidi_streaming<S, R>(
        &self,
        method: Method,
        mut request: Request<S>,
    ) -> Result<Response<Streaming<R>>, IpcError>
    where
        S: Stream + Send + 'static,
        S::Item: Message,
        R: Message + Default + 'static,
    {
        let (metadata, options) = request.take_head();
        let mut call = self.streaming_call(method, options);
        let mut sending = Sending::Stream(Outbound::new(request.into_inner()));
        let begun = self.streamed(&mut call, metadata, &mut sending).await?;
        if let Sending::Stream(outbound) = sending {
            begun.send_rest(outbound);
        }
        Ok(begun.decode())
    }

    fn unary_call(&self, method: Method, options: CallOptions) -> Invocation<'_> {
        Invocation::new(self.shared(), method, options, self.shared().unary_timeout())
    }

    fn streaming_call(&self, method: Method, options: CallOptions) -> Invocation<'_> {
        Invocation::new(self.shared(), method, options, self.shared().streaming_timeout())
    }

    async fn single(
        &self,
        call: &mut Invocation<'_>,
        metadata: Metadata,
        sending: &mut Sending<'_>,
    ) -> Result<UnaryResponse, IpcError> {
        if self.layers().is_empty() {
            return Ok(call.run(&metadata, sending, single_response).await?.1);
        }
        // Boxed, so that calls without layers stay small.
        let read: ReadAnswer<UnaryResponse> = |call| Box::pin(single_response(call));
        let layered = Box::pin(self.through_layers(call, metadata, sending, read)).await?;
        let message = match layered.instead {
            Some(instead) => Bytes::from(instead.concat()),
            None => layered.received.ok_or_else(unanswered)?.1.message,
        };
        Ok(UnaryResponse { metadata: layered.metadata, message, trailers: layered.trailers })
    }

    async fn streamed(
        &self,
        call: &mut Invocation<'_>,
        metadata: Metadata,
        sending: &mut Sending<'_>,
    ) -> Result<Begun, IpcError> {
        if self.layers().is_empty() {
            let (open, beginning) = call.run(&metadata, sending, beginning).await?;
            return Ok(Begun::of(call.shared, open, beginning));
        }
        let read: ReadAnswer<Beginning> = |call| Box::pin(beginning(call));
        let layered = Box::pin(self.through_layers(call, metadata, sending, read)).await?;
        let mut begun = match (layered.instead, layered.received) {
            (Some(instead), _) => Begun::instead(instead),
            (None, Some((open, beginning))) => Begun::of(call.shared, open, beginning),
            (None, None) => return Err(unanswered().into()),
        };
        begun.metadata = layered.metadata;
        begun.trailers = layered.trailers;
        Ok(begun)
    }

    async fn through_layers<T: AnswerHead + 'static>(
        &self,
        call: &mut Invocation<'_>,
        metadata: Metadata,
        sending: &mut Sending<'_>,
        read: ReadAnswer<T>,
    ) -> Result<Layered<T>, IpcError> {
        let deadline = call.deadline;
        let mut context = CallContext::new(Path::Static(call.method.path()), metadata, deadline, None);
        let mut received = None;
        let (inner, slot) = (&mut *call, &mut received);
        let last = async move |metadata, mut begin: Metadata| {
            let (open, mut answer) = inner.run(&metadata, sending, read).await?;
            let (own, trailers) = answer.take_head();
            begin.merge(own);
            *slot = Some((open, answer));
            Ok((begin, trailers))
        };
        let work = self.layers().run(&mut context, last);
        let done = match deadline {
            None => Some(work.await),
            Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        };
        done.unwrap_or_else(|| Err(call.late()))?;
        let instead = context.take_answer();
        let (metadata, trailers) = context.into_response_metadata();
        Ok(Layered { metadata, trailers, received, instead })
    }
}

/// Reads the answer of a call. The future is boxed, because layers need that.
type ReadAnswer<T> = for<'a> fn(&'a mut ClientCall) -> Boxed<'a, Result<T, Unanswered>>;

/// The result of a call inside its layers.
struct Layered<T> {
    metadata: Metadata,
    trailers: Metadata,
    received: Option<(ClientCall, T)>,
    /// The answer of a layer.
    instead: Option<Vec<Bytes>>,
}

/// An answer with metadata that layers see.
trait AnswerHead: Send {
    /// The metadata before the first message and with the end.
    fn take_head(&mut self) -> (Metadata, Metadata);
}

impl AnswerHead for UnaryResponse {
    fn take_head(&mut self) -> (Metadata, Metadata) {
        (std::mem::take(&mut self.metadata), std::mem::take(&mut self.trailers))
    }
}

impl AnswerHead for Beginning {
    fn take_head(&mut self) -> (Metadata, Metadata) {
        (std::mem::take(&mut self.metadata), Metadata::new())
    }
}
