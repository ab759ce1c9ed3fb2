//! A call on the server as it arrives, and the four ways in which a handler can be called.
//!
//! The generated code knows the handler. [`task`](super::task) runs the handler. Its request and its answer are in
//! [`work`](super::work).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::reply::{Reply, Streamed};
use super::runners::Runners;
use super::running::{RunningCall, Shape};
use super::slot::CallSlot;
use super::task::{CallTask, Unstarted};
use super::work::{Begin, HandlerAnswer, Handling, Work};
use crate::layer::{Layers, Path};
use crate::metadata::Metadata;
use crate::request::{Request, Response};
use crate::status::Status;
use crate::streaming::Streaming;

/// A call that has arrived and waits for its handler.
pub struct ServerCall {
    pub(super) slot: CallSlot,
    /// The whole request, if it came with the call.
    pub(super) message: Option<Bytes>,
    /// The budget of decoded requests has no room for it yet: so much it needs.
    pub(super) waits_for: u64,
    pub(super) metadata: Metadata,
    pub(super) layers: Layers<Status>,
    /// The index of its method in the router.
    pub(super) route: usize,
    pub(super) dispatcher: Arc<Dispatcher>,
}

/// What runs the calls of one connection.
#[derive(Debug)]
pub(super) struct Dispatcher {
    runners: Arc<Runners<CallTask>>,
    /// Of all methods, as the router numbers them.
    paths: Arc<[Arc<str>]>,
}

impl Dispatcher {
    pub(super) fn new(paths: &Arc<[Arc<str>]>) -> Self {
        Self { runners: Arc::default(), paths: Arc::clone(paths) }
    }

    /// No more calls come.
    pub(super) fn close(&self) {
        self.runners.close();
    }
}

const UNARY: Shape = Shape { requests: false, responses: false };
const CLIENT_STREAMING: Shape = Shape { requests: true, responses: false };
const SERVER_STREAMING: Shape = Shape { requests: false, responses: true };
const BIDI_STREAMING: Shape = Shape { requests: true, responses: true };

impl ServerCall {
    /// Puts `layers` around the call, inside its existing layers.
    pub(crate) fn add_layers(&mut self, layers: &Layers<Status>) {
        self.layers = self.layers.with(layers);
    }

    /// Answers with `UNIMPLEMENTED`.
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

    /// Runs a handler that reads a stream and answers with one message.
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

    /// Runs a handler that reads a stream and answers with a stream.
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
        let Self { slot, message, waits_for, metadata, layers, route, dispatcher } = self;
        let path = (!layers.is_empty()).then(|| Path::Shared(Arc::clone(&dispatcher.paths[route])));
        let unstarted = Unstarted { message, waits_for, metadata, layers, path };
        dispatcher.runners.run(CallTask::new(RunningCall { slot, shape, handler }, unstarted));
    }
}

impl fmt::Debug for ServerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCall").field("id", &self.slot.id).finish_non_exhaustive()
    }
}
