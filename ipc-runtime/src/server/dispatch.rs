//! A call on the server: what it is when it arrives, its slot on the connection, and what its handler reads.
//!
//! Which handler it is, the generated code knows. How that runs is in [`task`](super::task), and what it takes and answers
//! in [`work`](super::work).

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::connection::ServerConnection;
use super::growth::{Budget, Charge};
use super::reply::{Reply, Streamed};
use super::runners;
use super::task::{CallTask, WatchedCall};
use super::work::{Begin, Ended, HandlerAnswer, Handling, Work};
use crate::error::IpcError;
use crate::layer::{Layers, Path};
use crate::link::reader::{CallReader, Received};
use crate::link::scratch;
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::protocol::call::End;
use crate::protocol::callee::Finish;
use crate::protocol::encode::Encode;
use crate::protocol::growth;
use crate::protocol::table::CallKey;
use crate::request::{Request, Response};
use crate::status::Status;
use crate::streaming::{Messages, Streaming};

/// A call that has arrived and waits for its handler.
pub struct ServerCall {
    pub(super) slot: CallSlot,
    /// The whole request, where it came with the call.
    pub(super) message: Option<Bytes>,
    pub(super) metadata: Metadata,
    pub(super) layers: Layers<Status>,
    /// Which of the router's methods it is.
    pub(super) route: usize,
}

/// The call's place on its connection. Whatever becomes of its task, the call is closed when this is dropped.
pub(crate) struct CallSlot {
    connection: Arc<ServerConnection>,
    key: CallKey,
    id: u64,
    pub(super) deadline: Option<Instant>,
    is_open: bool,
    /// What its request may have grown to.
    charge: Charge,
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
    /// Puts `layers` around the call, inside those it has.
    pub(crate) fn add_layers(&mut self, layers: &Layers<Status>) {
        self.layers = self.layers.with(layers);
    }

    /// Answers that there is no such method.
    pub fn unimplemented(self) {
        self.slot.fail(&Status::unimplemented("no such method"));
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
            Ok(handler(begin.request(message)?))
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
            let requests = begin.requests();
            Ok(handler(begin.request(requests)?))
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
            Ok(handler(begin.request(message)?, begin.reply()))
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
            let requests = begin.requests();
            Ok(handler(begin.request(requests)?, begin.reply()))
        });
    }

    fn run<F, Fut, R>(self, shape: Shape, begin: F)
    where
        F: FnOnce(Begin<'_>) -> Result<Fut, Option<Status>> + Send + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send + 'static,
        R: HandlerAnswer + 'static,
    {
        self.spawn(shape, Box::pin(Handling::new(begin)));
    }

    fn spawn(self, shape: Shape, handler: Pin<Box<dyn Work>>) {
        runners::run(CallTask::new(self, shape, handler));
    }
}

impl fmt::Debug for ServerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCall").field("id", &self.slot.id).finish_non_exhaustive()
    }
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

    pub(super) const fn connection(&self) -> &Arc<ServerConnection> {
        &self.connection
    }

    /// The path of a method.
    pub(super) fn path(&self, route: usize) -> Path {
        Path::Shared(self.connection.core.router.path(route))
    }

    pub(super) fn peer(&self) -> Arc<PeerInfo> {
        Arc::clone(&self.connection.peer)
    }

    pub(super) fn reply(&self, begin: Metadata) -> Reply {
        Reply::new(Arc::clone(&self.connection.link), self.key, self.id, begin)
    }

    /// The requests of the call; `first` came with it.
    pub(super) fn requests<Q: Message + Default>(&self, first: Option<Bytes>) -> Streaming<Q> {
        Streaming::of_messages(Box::new(self.incoming(first)))
    }

    fn incoming(&self, first: Option<Bytes>) -> Incoming {
        let reader = CallReader::new(Arc::clone(&self.connection.link), self.key);
        Incoming { first, reader, budget: self.connection.growth.clone(), charge: None }
    }

    /// The one message of a request that came in parts.
    pub(super) async fn single(&mut self) -> Result<Bytes, Status> {
        let wrong =
            |what| Status::invalid_argument(format!("the request has {what} where the method takes one"));
        let mut incoming = self.incoming(None);
        let Some(message) = poll_fn(|cx| incoming.poll_message(cx)).await? else {
            return Err(wrong("no message"));
        };
        // It is charged until the call ends, as a request that came in one piece.
        if let Some(charge) = incoming.charge.take() {
            self.charge = charge;
        }
        if poll_fn(|cx| incoming.poll_message(cx)).await?.is_some() {
            return Err(wrong("more than one message"));
        }
        Ok(message)
    }

    /// The handler is about to be called. From here on the call counts as processed.
    ///
    /// # Errors
    ///
    /// The call is over already.
    pub(super) fn begin(&self) -> Result<(), End> {
        self.connection.link.peek(|core| core.begin(Instant::now().into_std(), self.key))
    }

    /// Whether the call is over while its handler runs.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<End> {
        let over = self.connection.link.peek(|core| core.poll_over(self.key, cx.waker()));
        over.map_or(Poll::Pending, Poll::Ready)
    }

    /// What hears the call's end while the call is lent to somebody.
    pub(super) fn watched(&self) -> WatchedCall {
        WatchedCall { link: Arc::clone(&self.connection.link), key: self.key, deadline: self.deadline }
    }

    /// Closes the call with what the handler answered.
    pub(super) fn succeed(mut self, ended: &Ended, message: Option<&dyn Encode>) {
        if let Err(error) = self.try_succeed(ended, message) {
            self.fail(&error.into());
        }
    }

    fn try_succeed(&mut self, ended: &Ended, message: Option<&dyn Encode>) -> Result<(), IpcError> {
        let (link, key, id) = (&self.connection.link, self.key, self.id);
        let message = message.map(|message| (message, message.length()));
        let length = message.map_or(0, |(_, length)| length);
        let Ended { headers, trailers } = ended;
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
        self.connection.core.call_ended();
        if !self.is_open {
            return;
        }
        // A panic took the task, or the end of the runtime or of the connection.
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
    /// What the last message may have grown to.
    charge: Option<Charge>,
}

impl Messages for Incoming {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        self.charge = None;
        let received = match self.first.take() {
            Some(first) => return Poll::Ready(Ok(Some(first))),
            None => ready!(self.reader.poll_next(cx)),
        };
        Poll::Ready(match received {
            Received::Item(item) => Charge::take(&self.budget, growth::estimate(&item)).map(|charge| {
                self.charge = Some(charge);
                Some(item)
            }),
            Received::Headers(_) | Received::End(End::HalfClosed) => Ok(None),
            Received::End(End::Cancelled(status)) => Err(*status),
            Received::End(End::Expired { .. }) => {
                Err(Status::deadline_exceeded("the deadline passed on the server"))
            }
            // A handler gave its requests away to somebody who still reads them.
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
