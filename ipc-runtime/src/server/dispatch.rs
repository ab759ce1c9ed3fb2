//! A call on the server: its place on its connection's books, what it reads, how it is closed.
//!
//! Which handler it is, the generated code knows; how that runs, [`task`](super::task), and what it takes and answers,
//! [`work`](super::work).

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::calls::ServerConnection;
use super::reply::{Reply, Streamed};
use super::runners;
use super::task::Answering;
use super::work::{Answer, Begin, Ended, Handling, Work};
use crate::background;
use crate::connection::call::{CallState, End, Inbox, Next};
use crate::error::IpcError;
use crate::layer::{Layers, Path};
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::request::{Request, Response};
use crate::status::Status;
use crate::streaming::Streaming;
use crate::wire::encode::Encode;

/// A call that has arrived and waits for its handler.
pub struct ServerCall {
    pub(super) slot: Slot,
    /// The whole request, where it came with the call.
    pub(super) message: Option<Bytes>,
    pub(super) metadata: Metadata,
    pub(super) around: Around,
}

/// The layers around a call, and what they are told of it.
pub(crate) struct Around {
    pub(crate) layers: Layers<Status>,
    /// Which of the router's it is.
    pub(crate) route: usize,
}

/// The call's place on its connection's books; whatever becomes of its task, the call is closed.
pub(crate) struct Slot {
    connection: Arc<ServerConnection>,
    id: u64,
    pub(super) state: Arc<CallState>,
    /// The handler has been called, so the request counts as processed.
    started: AtomicBool,
    open: bool,
}

/// Which sides of a method stream.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) requests: bool,
    pub(super) responses: bool,
}

const UNARY: Shape = Shape { requests: false, responses: false };
const CLIENT_STREAMING: Shape = Shape { requests: true, responses: false };
const SERVER_STREAMING: Shape = Shape { requests: false, responses: true };
const BIDI_STREAMING: Shape = Shape { requests: true, responses: true };

impl ServerCall {
    pub(crate) const fn new(slot: Slot, message: Option<Bytes>, metadata: Metadata, around: Around) -> Self {
        Self { slot, message, metadata, around }
    }

    /// Puts `layers` around the call, inside those it has.
    pub(crate) fn add_layers(&mut self, layers: &Layers<Status>) {
        self.around.layers = self.around.layers.with(layers);
    }

    /// Answers that there is no such method.
    pub fn unimplemented(self) {
        background::spawn(self.slot.fail(Status::unimplemented("no such method")));
    }

    /// Runs a handler with one message each way.
    pub fn unary<Q, R, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        R: Message + Default + 'static,
        F: FnOnce(Request<Q>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        self.run(UNARY, move |mut begin| {
            let message = begin.decode()?;
            Ok(handler(begin.request(message)))
        });
    }

    /// Runs a handler that reads a stream and answers once.
    pub fn client_streaming<Q, R, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        R: Message + Default + 'static,
        F: FnOnce(Request<Streaming<Q>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        self.run(CLIENT_STREAMING, move |mut begin| {
            let requests = begin.slot.requests();
            Ok(handler(begin.request(requests)))
        });
    }

    /// Runs a handler that reads one message and answers with a stream.
    pub fn server_streaming<Q, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        F: FnOnce(Request<Q>, Reply) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Response<Streamed>, Status>> + Send + 'static,
    {
        self.run(SERVER_STREAMING, move |mut begin| {
            let message = begin.decode()?;
            Ok(handler(begin.request(message), begin.reply()))
        });
    }

    /// Runs a handler that reads a stream and answers with one.
    pub fn bidi_streaming<Q, F, Fut>(self, handler: F)
    where
        Q: Message + Default + 'static,
        F: FnOnce(Request<Streaming<Q>>, Reply) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Response<Streamed>, Status>> + Send + 'static,
    {
        self.run(BIDI_STREAMING, move |mut begin| {
            let requests = begin.slot.requests();
            Ok(handler(begin.request(requests), begin.reply()))
        });
    }

    fn run<F, Fut, R>(self, shape: Shape, begin: F)
    where
        F: FnOnce(Begin<'_>) -> Result<Fut, Status> + Send + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send + 'static,
        R: Answer + 'static,
    {
        self.spawn(shape, Box::pin(Handling::new(begin)));
    }

    fn spawn(self, shape: Shape, handler: Pin<Box<dyn Work>>) {
        runners::run(Answering::new(self, shape, handler));
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

    pub(super) fn start(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    fn incoming(&self) -> Incoming {
        let (connection, state) = (Arc::clone(&self.connection), Arc::clone(&self.state));
        Incoming { connection, id: self.id, state, inbox: Inbox::default() }
    }

    pub(super) const fn connection(&self) -> &Arc<ServerConnection> {
        &self.connection
    }

    /// The path of a method.
    pub(super) fn path(&self, route: usize) -> Path {
        Path::Shared(self.connection.path(route))
    }

    pub(super) fn peer(&self) -> Arc<PeerInfo> {
        Arc::clone(&self.connection.peer)
    }

    pub(super) fn reply(&self, begin: Metadata) -> Reply {
        Reply::new(Arc::clone(&self.connection), self.id, Arc::clone(&self.state), begin)
    }

    pub(super) fn requests<Q: Message + Default>(&self) -> Streaming<Q> {
        Streaming::of_server(self.incoming())
    }

    /// The one message of a request that came in parts.
    pub(super) async fn single(&self) -> Result<Bytes, Status> {
        let wrong =
            |what| Status::invalid_argument(format!("the request has {what} where the method takes one"));
        let mut incoming = self.incoming();
        let Some(message) = poll_fn(|cx| incoming.poll_item(cx)).await? else {
            return Err(wrong("no message"));
        };
        if poll_fn(|cx| incoming.poll_item(cx)).await?.is_some() {
            return Err(wrong("more than one message"));
        }
        Ok(message)
    }

    /// Closes the call at once; `false` where that must wait for room.
    ///
    /// # Errors
    ///
    /// The answer can't be sent.
    pub(super) fn try_succeed(
        &mut self,
        ended: &Ended,
        message: Option<&dyn Encode>,
    ) -> Result<bool, IpcError> {
        let (connection, id) = (&self.connection, self.id);
        let encoder = &connection.connection.encoder;
        let write =
            |buffer: &mut BytesMut| encoder.put_close(buffer, id, &ended.headers, &ended.trailers, message);
        let closed = connection.try_close(id, write)?;
        self.open = !closed;
        Ok(closed)
    }

    /// Closes the call.
    pub(super) async fn succeed(mut self, ended: &Ended, message: Option<&dyn Encode>) {
        let (connection, id) = (&self.connection, self.id);
        let encoder = &connection.connection.encoder;
        let write =
            |buffer: &mut BytesMut| encoder.put_close(buffer, id, &ended.headers, &ended.trailers, message);
        match connection.close(id, write).await {
            Ok(()) => self.open = false,
            Err(error) => self.fail(error.into()).await,
        }
    }

    pub(super) async fn fail(mut self, status: Status) {
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
    inbox: Inbox,
}

impl Incoming {
    /// The next request; `None` after the last.
    pub(crate) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let (next, grant) = self.state.poll_next(cx, &mut self.inbox);
        self.connection.connection.grant(self.id, grant);
        Poll::Ready(match ready!(next) {
            Next::Item(item) => Ok(Some(item)),
            Next::End(End::HalfClosed) | Next::Headers(_) => Ok(None),
            Next::End(End::Cancelled(status)) => Err(*status),
            Next::End(End::Expired) => Err(Status::deadline_exceeded("the deadline passed on the server")),
            // A handler gave its requests away to somebody who still reads them.
            Next::End(End::Over) => Err(Status::cancelled("the call is over")),
            Next::End(End::Lost(_) | End::Closed(_) | End::Answered) => {
                Err(Status::cancelled("the client's connection has ended"))
            }
        })
    }
}
