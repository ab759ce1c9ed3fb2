//! One call on the server: reads the request, runs the handler in a task of its own, sends the answer.
//!
//! It keeps the call's deadline and hears its cancellation. Which handler it is, the generated code knows.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::time::Instant;

use super::calls::ServerConnection;
use super::reply::{self, Reply, Streamed};
use crate::connection::call::{CallState, End, Next};
use crate::deadline;
use crate::layer::run;
use crate::layer::{CallContext, Layers, Path};
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::request::{Request, Response};
use crate::status::Status;
use crate::streaming::Streaming;

/// A call that has arrived and waits for its handler.
pub struct ServerCall {
    slot: Slot,
    metadata: Metadata,
    deadline: Option<Instant>,
    around: Around,
}

/// The layers around a call, and what they are told of it.
pub(crate) struct Around {
    pub(crate) layers: Layers<Status>,
    pub(crate) path: Path,
    pub(crate) peer: Arc<PeerInfo>,
}

impl Around {
    fn context(self, metadata: Metadata, deadline: Option<Instant>) -> (Layers<Status>, CallContext) {
        (self.layers, CallContext::new(self.path, metadata, deadline, Some(self.peer)))
    }
}

/// The call's place on its connection's books; whatever becomes of its task, the call is closed.
pub(crate) struct Slot {
    connection: Arc<ServerConnection>,
    id: u64,
    state: Arc<CallState>,
    /// The handler has been called, so the request counts as processed.
    started: AtomicBool,
    open: bool,
}

/// How the work on a call came to its end.
enum Outcome<T> {
    Done(Result<T, Status>),
    Cancelled(Status),
    Expired,
    Lost,
}

impl ServerCall {
    pub(crate) const fn new(
        slot: Slot,
        metadata: Metadata,
        deadline: Option<Instant>,
        around: Around,
    ) -> Self {
        Self { slot, metadata, deadline, around }
    }

    /// Puts `layers` around the call, inside those it has.
    pub(crate) fn add_layers(&mut self, layers: &Layers<Status>) {
        self.around.layers = self.around.layers.with(layers);
    }

    /// Answers that there is no such method.
    pub fn unimplemented(self) {
        tokio::spawn(self.slot.fail(Status::unimplemented("no such method")));
    }

    /// Runs a handler with one message each way.
    pub fn unary<Q, R, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        R: Message + Default + 'static,
        F: FnOnce(Request<Q>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send,
    {
        tokio::spawn(async move {
            let Self { slot, metadata, deadline, around } = self;
            let make = |metadata| async {
                let message = slot.single().await?;
                slot.start();
                handler(Request::received(message, metadata, deadline, slot.peer())).await
            };
            let work = async {
                if around.layers.is_empty() {
                    return make(metadata).await;
                }
                let (layers, context) = around.context(metadata, deadline);
                // Boxed, so that calls without layers stay small.
                Box::pin(run::single(&layers, context, make)).await
            };
            let outcome = slot.watch(deadline, work).await;
            slot.answer(outcome).await;
        });
    }

    /// Runs a handler that reads a stream and answers once.
    pub fn client_streaming<Q, R, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        R: Message + Default + 'static,
        F: FnOnce(Request<Streaming<Q>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send,
    {
        tokio::spawn(async move {
            let Self { slot, metadata, deadline, around } = self;
            let make = |metadata| async {
                slot.start();
                handler(Request::received(slot.requests(), metadata, deadline, slot.peer())).await
            };
            let work = async {
                if around.layers.is_empty() {
                    return make(metadata).await;
                }
                let (layers, context) = around.context(metadata, deadline);
                // Boxed, so that calls without layers stay small.
                Box::pin(run::single(&layers, context, make)).await
            };
            let outcome = slot.watch(deadline, work).await;
            slot.answer(outcome).await;
        });
    }

    /// Runs a handler that reads one message and answers with a stream.
    pub fn server_streaming<Q, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        F: FnOnce(Request<Q>, Reply) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Streamed, Status>> + Send,
    {
        tokio::spawn(async move {
            let Self { slot, metadata, deadline, around } = self;
            let make = |metadata, begin| async {
                let message = slot.single().await?;
                slot.start();
                handler(Request::received(message, metadata, deadline, slot.peer()), slot.reply(begin)).await
            };
            let work = async {
                if around.layers.is_empty() {
                    return make(metadata, Metadata::new()).await;
                }
                let (layers, context) = around.context(metadata, deadline);
                Box::pin(reply::run_streamed(&layers, context, slot.reply(Metadata::new()), make)).await
            };
            let outcome = slot.watch(deadline, work).await;
            slot.finish(outcome).await;
        });
    }

    /// Runs a handler that reads a stream and answers with one.
    pub fn bidi_streaming<Q, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        F: FnOnce(Request<Streaming<Q>>, Reply) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Streamed, Status>> + Send,
    {
        tokio::spawn(async move {
            let Self { slot, metadata, deadline, around } = self;
            let make = |metadata, begin| async {
                slot.start();
                handler(
                    Request::received(slot.requests(), metadata, deadline, slot.peer()),
                    slot.reply(begin),
                )
                .await
            };
            let work = async {
                if around.layers.is_empty() {
                    return make(metadata, Metadata::new()).await;
                }
                let (layers, context) = around.context(metadata, deadline);
                Box::pin(reply::run_streamed(&layers, context, slot.reply(Metadata::new()), make)).await
            };
            let outcome = slot.watch(deadline, work).await;
            slot.finish(outcome).await;
        });
    }
}

impl fmt::Debug for ServerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCall").field("id", &self.slot.id).finish_non_exhaustive()
    }
}

impl Slot {
    pub(crate) const fn new(connection: Arc<ServerConnection>, id: u64, state: Arc<CallState>) -> Self {
        Self { connection, id, state, started: AtomicBool::new(false), open: true }
    }

    fn start(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    fn incoming(&self) -> Incoming {
        Incoming { connection: Arc::clone(&self.connection), id: self.id, state: Arc::clone(&self.state) }
    }

    fn peer(&self) -> Arc<PeerInfo> {
        Arc::clone(&self.connection.peer)
    }

    fn reply(&self, begin: Metadata) -> Reply {
        Reply::new(Arc::clone(&self.connection), self.id, Arc::clone(&self.state), begin)
    }

    fn requests<Q: Message + Default>(&self) -> Streaming<Q> {
        Streaming::of_server(self.incoming())
    }

    /// The one message of a request, however it is split.
    async fn single<Q: Message + Default>(&self) -> Result<Q, Status> {
        let wrong =
            |what| Status::invalid_argument(format!("the request has {what} where the method takes one"));
        let incoming = self.incoming();
        let Some(message) = poll_fn(|cx| incoming.poll_item(cx)).await? else {
            return Err(wrong("no message"));
        };
        if poll_fn(|cx| incoming.poll_item(cx)).await?.is_some() {
            return Err(wrong("more than one message"));
        }
        Q::decode(message)
            .map_err(|error| Status::invalid_argument(format!("the request does not decode: {error}")))
    }

    /// Runs `work` until it is done, the call is cancelled, or its deadline passes. The work is dropped before
    /// this returns. Work that did not hear that it was cancelled or late is so all the same.
    async fn watch<T>(
        &self,
        deadline: Option<Instant>,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Outcome<T> {
        let mut work = pin!(work);
        let over = |cx: &mut Context<'_>| {
            self.state.poll_over(cx).map(|end| match end {
                End::Cancelled(status) => Outcome::Cancelled(status),
                _ => Outcome::Lost,
            })
        };
        let work = poll_fn(|cx| {
            if let Poll::Ready(over) = over(cx) {
                return Poll::Ready(over);
            }
            let done = ready!(work.as_mut().poll(cx));
            match over(cx) {
                Poll::Pending => Poll::Ready(Outcome::Done(done)),
                over @ Poll::Ready(_) => over,
            }
        });
        match deadline {
            None => work.await,
            Some(deadline) => {
                let work = deadline::scope(deadline, work);
                match tokio::time::timeout_at(deadline, work).await {
                    Ok(Outcome::Done(_)) if Instant::now() >= deadline => Outcome::Expired,
                    Ok(outcome) => outcome,
                    Err(_) => Outcome::Expired,
                }
            }
        }
    }

    /// Ends a call whose method streams no responses.
    async fn answer<R: Message>(self, outcome: Outcome<Response<R>>) {
        let response = match Self::settle(outcome) {
            Ok(response) => response,
            Err(Some(status)) => return self.fail(status).await,
            Err(None) => return,
        };
        let (headers, message, trailers) = response.into_parts();
        self.succeed(&headers, &trailers, Some(&message)).await;
    }

    /// Ends a call whose method streams its responses.
    async fn finish(self, outcome: Outcome<Streamed>) {
        match Self::settle(outcome) {
            Ok(Streamed(trailers)) => self.succeed::<()>(&Metadata::new(), &trailers, None).await,
            Err(Some(status)) => self.fail(status).await,
            Err(None) => {}
        }
    }

    /// The result of a call, its failure, or nothing where nobody can be told.
    fn settle<T>(outcome: Outcome<T>) -> Result<T, Option<Status>> {
        match outcome {
            Outcome::Done(Ok(result)) => Ok(result),
            Outcome::Done(Err(status)) | Outcome::Cancelled(status) => Err(Some(status)),
            Outcome::Expired => Err(Some(Status::deadline_exceeded("the deadline passed on the server"))),
            Outcome::Lost => Err(None),
        }
    }

    async fn succeed<M: Message>(mut self, headers: &Metadata, trailers: &Metadata, message: Option<&M>) {
        let (connection, id) = (&self.connection, self.id);
        let encoder = &connection.connection.encoder;
        let write = |buffer: &mut BytesMut| encoder.put_close(buffer, id, headers, trailers, message);
        match connection.close(id, write).await {
            Ok(()) => self.open = false,
            Err(error) => self.fail(error.into()).await,
        }
    }

    async fn fail(mut self, status: Status) {
        let not_processed = !self.started.load(Ordering::Relaxed);
        let (connection, id) = (&self.connection, self.id);
        let encoder = &connection.connection.encoder;
        let write =
            |buffer: &mut BytesMut| encoder.put_error(buffer, id, &Metadata::new(), &status, not_processed);
        match connection.close(id, write).await {
            Ok(()) => self.open = false,
            Err(error) => tracing::error!(%error, "Close not sent"),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // A panic took the task, or the end of the runtime or of the connection.
        let status = if std::thread::panicking() {
            Status::internal("the handler panicked")
        } else {
            Status::unavailable("the server stopped working on the call")
        };
        self.connection.abort(self.id, &status);
    }
}

/// The requests of a call as they arrive.
pub(crate) struct Incoming {
    connection: Arc<ServerConnection>,
    id: u64,
    state: Arc<CallState>,
}

impl Incoming {
    /// The next request; `None` after the last.
    pub(crate) fn poll_item(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let (next, grant) = self.state.poll_next(cx);
        self.connection.connection.grant(self.id, grant);
        Poll::Ready(match ready!(next) {
            Next::Item(item) => Ok(Some(item)),
            Next::End(End::HalfClosed) | Next::Headers(_) => Ok(None),
            Next::End(End::Cancelled(status)) => Err(status),
            Next::End(End::Lost(_) | End::Closed(_)) => {
                Err(Status::cancelled("the client's connection has ended"))
            }
        })
    }
}
