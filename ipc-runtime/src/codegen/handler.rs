//! What the functions of a service's trait are, and how the server runs one: [`Answers`], [`Streams`], [`Handler`].
//!
//! These have names so that generated code is short and can be read; nothing here does more than give them.

use std::sync::Arc;

use futures_core::Stream;
use prost::Message;

use crate::request::{Request, Response};
use crate::server::dispatch::ServerCall;
use crate::status::Status;
use crate::streaming::Streaming;

/// What the functions of a service's trait return: a future of one response.
///
/// Implement them as `async fn`s that return a `Result`. This is a handler of
/// `fn append(&self, request: Request<Entry>) -> impl Answers<Summary>`:
///
/// ```
/// # use ipc_runtime::{Answers, Request, Response, Status};
/// # struct Entry { line: String }
/// # struct Summary { bytes: usize }
/// # trait Log { fn append(&self, request: Request<Entry>) -> impl Answers<Summary>; }
/// # struct MyLog;
/// impl Log for MyLog {
///     async fn append(&self, request: Request<Entry>) -> Result<Response<Summary>, Status> {
///         let entry = request.into_inner();
///         Ok(Response::new(Summary { bytes: entry.line.len() }))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler answers `Result<Response<{T}>, Status>`, and is an `async fn`",
    label = "not what a handler answers",
    note = "write `async fn name(&self, request: Request<..>) -> Result<Response<{T}>, Status>`"
)]
pub trait Answers<T>: Future<Output = Result<Response<T>, Status>> + Send {}

impl<T, F> Answers<T> for F where F: Future<Output = Result<Response<T>, Status>> + Send {}

/// What the functions of a service's trait return whose responses are streams: a future of one stream.
///
/// Implement them as `async fn`s that return a `Result`, and name the stream's type or write `impl Stream`; it may borrow
/// from the service. This is a handler of `fn tail(&self, request: Request<Position>) -> impl Streams<Entry>`:
///
/// ```
/// # use ipc_runtime::{Request, Response, Status, Stream, Streaming, Streams};
/// # struct Entry;
/// # struct Position { number: usize }
/// # trait Log { fn tail(&self, request: Request<Position>) -> impl Streams<Entry>; }
/// # struct MyLog;
/// # impl MyLog {
/// #     fn entries_from(&self, _: usize) -> impl Stream<Item = Result<Entry, Status>> + Send {
/// #         Streaming::of([Entry])
/// #     }
/// # }
/// impl Log for MyLog {
///     async fn tail(
///         &self,
///         request: Request<Position>,
///     ) -> Result<Response<impl Stream<Item = Result<Entry, Status>> + Send>, Status> {
///         Ok(Response::new(self.entries_from(request.into_inner().number)))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler answers `Result<Response<impl Stream<Item = Result<{T}, Status>>>, Status>`, and is an `async fn`",
    label = "not what a handler answers",
    note = "write `async fn name(&self, request: Request<..>) \
            -> Result<Response<impl Stream<Item = Result<{T}, Status>> + Send>, Status>`"
)]
pub trait Streams<T>: Future<Output = Result<Response<Self::Stream>, Status>> + Send {
    /// The stream.
    type Stream: Stream<Item = Result<T, Status>> + Send;
}

impl<T, S, F> Streams<T> for F
where
    F: Future<Output = Result<Response<S>, Status>> + Send,
    S: Stream<Item = Result<T, Status>> + Send,
{
    type Stream = S;
}

/// A function of a service's trait, such as `T::append`: of the service and a request. A closure can't be one, for its
/// future couldn't be seen to borrow the service.
pub trait Handler<'a, T: 'a, Q>: FnOnce(&'a T, Request<Q>) -> Self::Answer {
    /// [`Answers`] or [`Streams`].
    type Answer;
}

impl<'a, T: 'a, Q, A, F> Handler<'a, T, Q> for F
where
    F: FnOnce(&'a T, Request<Q>) -> A,
{
    type Answer = A;
}

impl ServerCall {
    /// Runs a function with one message each way.
    pub fn run_unary<T, Q, R, F>(self, service: Arc<T>, function: F)
    where
        T: Send + Sync + 'static,
        Q: Message + Default + 'static,
        R: Message + Default + 'static,
        F: for<'a> Handler<'a, T, Q, Answer: Answers<R>> + Send + 'static,
    {
        self.unary(async move |request| function(&service, request).await);
    }

    /// Runs a function that reads one message and answers with a stream.
    pub fn run_server_streaming<T, Q, R, F>(self, service: Arc<T>, function: F)
    where
        T: Send + Sync + 'static,
        Q: Message + Default + 'static,
        R: Message + 'static,
        F: for<'a> Handler<'a, T, Q, Answer: Streams<R>> + Send + 'static,
    {
        self.server_streaming(async move |request, reply| {
            reply.stream(function(&service, request).await).await
        });
    }

    /// Runs a function that reads a stream and answers once.
    pub fn run_client_streaming<T, Q, R, F>(self, service: Arc<T>, function: F)
    where
        T: Send + Sync + 'static,
        Q: Message + Default + 'static,
        R: Message + Default + 'static,
        F: for<'a> Handler<'a, T, Streaming<Q>, Answer: Answers<R>> + Send + 'static,
    {
        self.client_streaming(async move |request| function(&service, request).await);
    }

    /// Runs a function that reads a stream and answers with one.
    pub fn run_bidi_streaming<T, Q, R, F>(self, service: Arc<T>, function: F)
    where
        T: Send + Sync + 'static,
        Q: Message + Default + 'static,
        R: Message + 'static,
        F: for<'a> Handler<'a, T, Streaming<Q>, Answer: Streams<R>> + Send + 'static,
    {
        self.bidi_streaming(async move |request, reply| {
            reply.stream(function(&service, request).await).await
        });
    }
}
