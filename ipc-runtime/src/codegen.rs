//! What generated code may name. Not for use by hand: it changes whenever the generator does.

mod handler;

use std::future::{Ready, ready};
pub use std::sync::Arc;

pub use futures_core::Stream;
pub use {prost, prost_types};

pub use self::handler::{Answers, Handler, Streams};
pub use crate::client::channel::Channel;
pub use crate::client::method::Method;
pub use crate::error::IpcError;
pub use crate::peer::Schema;
pub use crate::request::{IntoStreamingRequest, Request, Response};
pub use crate::server::dispatch::ServerCall;
pub use crate::server::router::Service;
pub use crate::status::Status;
pub use crate::streaming::Streaming;

/// What a client's call comes to: the server's response, or why there is none.
pub type Outcome<T> = Result<Response<T>, IpcError>;

/// What a client may pass to a method that takes one message: the message, or a [`Request`] around it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither `{T}` nor `Request<{T}>`",
    label = "not what the method takes"
)]
pub trait IntoRequest<T> {
    /// Wraps the message in a request, if it is not in one already.
    fn into_request(self) -> Request<T>;
}

impl<T, R: Into<Request<T>>> IntoRequest<T> for R {
    fn into_request(self) -> Request<T> {
        self.into()
    }
}

/// What answers for a handler that nobody has written.
pub fn unimplemented<T>(method: &str) -> Ready<Result<Response<T>, Status>> {
    ready(Err(Status::unimplemented(format!("{method} is not implemented"))))
}
