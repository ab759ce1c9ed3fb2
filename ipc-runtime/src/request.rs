//! [`Request`] and [`Response`]: a message with what travels beside it; [`IntoStreamingRequest`].
//!
//! Plain data; how a call is made with it is the client's and the server's affair.

use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Instant;

use crate::metadata::Metadata;
use crate::peer::PeerInfo;

/// How long a call may take, from its future's first poll to its last message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// What the channel and the kind of call say.
    #[default]
    Default,
    /// As long as it takes.
    Never,
    /// This long.
    After(Duration),
}

/// How a client wants a call to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Timeout,
    pub(crate) wait_for_ready: Option<bool>,
    pub(crate) inherits_deadline: bool,
}

/// A message on its way to the server, or in the hands of a handler.
///
/// A client may pass a bare message wherever a `Request` is asked for:
///
/// ```
/// # use std::time::Duration;
/// use ipc_runtime::Request;
///
/// let plain: Request<String> = "hello".to_owned().into();
/// let patient = Request::new("hello".to_owned()).with_timeout(Duration::from_secs(60));
/// assert_eq!(plain.into_inner(), patient.into_inner());
/// ```
#[derive(Clone, Debug)]
pub struct Request<T> {
    message: T,
    metadata: Metadata,
    options: CallOptions,
    deadline: Option<Instant>,
    peer: Option<Arc<PeerInfo>>,
}

impl<T> Request<T> {
    /// A request with no metadata and the channel's settings.
    pub const fn new(message: T) -> Self {
        Self {
            message,
            metadata: Metadata::new(),
            options: CallOptions { timeout: Timeout::Default, wait_for_ready: None, inherits_deadline: true },
            deadline: None,
            peer: None,
        }
    }

    pub(crate) fn received(
        message: T,
        metadata: Metadata,
        deadline: Option<Instant>,
        peer: Arc<PeerInfo>,
    ) -> Self {
        Self { metadata, deadline, peer: Some(peer), ..Self::new(message) }
    }

    /// The message.
    pub const fn get_ref(&self) -> &T {
        &self.message
    }

    /// The message, to be changed.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The message alone.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The metadata.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata, to be changed.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// Gives the call this long in all: waiting for a connection, sending, the handler, and every message of the
    /// answer. The clock starts when the call's future is first polled. Default: `read_timeout_ms` for unary
    /// calls, none for streaming ones. Inside a handler, the handler's own deadline holds as well.
    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.options.timeout = Timeout::After(timeout);
    }

    /// As [`set_timeout`](Self::set_timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.set_timeout(timeout);
        self
    }

    /// Gives the call as long as it takes.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.options.timeout = Timeout::Never;
        self
    }

    /// Whether the call waits, within its timeout, for a server that does not serve it now. `true`: for any, also for
    /// one that can't be reached. `false`: for none, it fails after one attempt. Default: what the channel says, see
    /// [`ChannelBuilder::wait_for_ready`](crate::ChannelBuilder::wait_for_ready).
    #[must_use]
    pub fn with_wait_for_ready(mut self, wait: bool) -> Self {
        self.options.wait_for_ready = Some(wait);
        self
    }

    /// Lets the call go on after the deadline of the handler that makes it. Without this, a call made inside a
    /// handler, in the handler's own task, is over when the handler's own caller stops waiting.
    #[must_use]
    pub fn without_inherited_deadline(mut self) -> Self {
        self.options.inherits_deadline = false;
        self
    }

    /// In a handler: when the caller stops waiting. `None` if it waits for ever, and on requests that a client
    /// made.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// In a handler: who calls. `None` on requests that a client made.
    pub fn peer_info(&self) -> Option<&PeerInfo> {
        self.peer.as_deref()
    }

    /// The same request around another message.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Request<U> {
        let Self { message, metadata, options, deadline, peer } = self;
        Request { message: change(message), metadata, options, deadline, peer }
    }

    /// What goes before the message, which stays.
    pub(crate) fn take_head(&mut self) -> (Metadata, CallOptions) {
        (std::mem::take(&mut self.metadata), self.options)
    }
}

impl<T> From<T> for Request<T> {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}

/// A message on its way back, or in the hands of the client.
#[derive(Clone, Debug)]
pub struct Response<T> {
    message: T,
    metadata: Metadata,
    trailers: Metadata,
}

impl<T> Response<T> {
    /// A response with no metadata.
    pub const fn new(message: T) -> Self {
        Self { message, metadata: Metadata::new(), trailers: Metadata::new() }
    }

    pub(crate) const fn received(message: T, metadata: Metadata, trailers: Metadata) -> Self {
        Self { message, metadata, trailers }
    }

    /// The message.
    pub const fn get_ref(&self) -> &T {
        &self.message
    }

    /// The message, to be changed.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The message alone.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The metadata that comes before the first message (gRPC's initial metadata).
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata before the first message, to be changed.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// The metadata that comes with the end of a call that succeeds (gRPC's trailing metadata). On a client, a
    /// response that streams has them in [`Streaming::trailers`](crate::Streaming::trailers) once it has ended.
    pub const fn trailers(&self) -> &Metadata {
        &self.trailers
    }

    /// The metadata that comes with the end, to be changed. A call that fails sends its
    /// [`Status::metadata`](crate::Status::metadata) instead.
    pub const fn trailers_mut(&mut self) -> &mut Metadata {
        &mut self.trailers
    }

    /// The same response around another message.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Response<U> {
        Response { message: change(self.message), metadata: self.metadata, trailers: self.trailers }
    }

    pub(crate) fn into_parts(self) -> (Metadata, T, Metadata) {
        (self.metadata, self.message, self.trailers)
    }
}

impl<T> From<T> for Response<T> {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}

/// What a client may pass to a method that takes a stream of messages: the stream, or a [`Request`] around it.
pub trait IntoStreamingRequest {
    /// The stream.
    type Stream: Stream<Item = Self::Message> + Send + 'static;
    /// Its messages.
    type Message;

    /// Wraps the stream in a request, if it is not in one already.
    fn into_streaming_request(self) -> Request<Self::Stream>;
}

impl<S: Stream + Send + 'static> IntoStreamingRequest for S {
    type Stream = S;
    type Message = S::Item;

    fn into_streaming_request(self) -> Request<S> {
        Request::new(self)
    }
}

impl<S: Stream + Send + 'static> IntoStreamingRequest for Request<S> {
    type Stream = S;
    type Message = S::Item;

    fn into_streaming_request(self) -> Self {
        self
    }
}
