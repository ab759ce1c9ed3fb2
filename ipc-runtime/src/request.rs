//! [`Request`] and [`Response`]: a message with its metadata; [`IntoStreamingRequest`].
//!
//! Plain data. The client and the server make calls with it.

use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Instant;

use crate::metadata::Metadata;
use crate::peer::PeerInfo;

/// How long a call may take, from its future's first poll to its last message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// The default of the channel for the kind of call.
    #[default]
    Default,
    /// No timeout.
    Never,
    /// This long.
    After(Duration),
}

/// A client's settings for one call.
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

    /// A mutable reference to the message.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// Takes the message out.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The metadata.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A mutable reference to the metadata.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// Sets the timeout of the whole call: waiting for a connection, sending, the handler, and every message of the
    /// answer. The time starts when the call's future is first polled. Default: `read_timeout_ms` for unary calls, none
    /// for streaming calls. For a call made in a handler, the handler's own deadline holds as well.
    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.options.timeout = Timeout::After(timeout);
    }

    /// Like [`set_timeout`](Self::set_timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.set_timeout(timeout);
        self
    }

    /// Makes the call without a timeout.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.options.timeout = Timeout::Never;
        self
    }

    /// Whether the call waits, within its timeout, for a server that does not serve it now. `true`: it waits for any
    /// server, even if none can be reached. `false`: it waits for none and fails after one attempt. Default: the
    /// channel's setting, see [`ChannelBuilder::wait_for_ready`](crate::ChannelBuilder::wait_for_ready).
    #[must_use]
    pub fn with_wait_for_ready(mut self, wait: bool) -> Self {
        self.options.wait_for_ready = Some(wait);
        self
    }

    /// Lets the call go on after the deadline of the handler that makes it. Otherwise, a call that a handler makes in its
    /// own task ends at the handler's deadline.
    #[must_use]
    pub fn without_inherited_deadline(mut self) -> Self {
        self.options.inherits_deadline = false;
        self
    }

    /// In a handler: when the caller stops waiting. `None` if it waits for ever. Also `None` on a request that a client
    /// made itself.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// In a handler: who calls. `None` on a request that a client made itself.
    pub fn peer_info(&self) -> Option<&PeerInfo> {
        self.peer.as_deref()
    }

    /// The same request with another message.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Request<U> {
        let Self { message, metadata, options, deadline, peer } = self;
        Request { message: change(message), metadata, options, deadline, peer }
    }

    /// Takes out the metadata and the options. The message stays.
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

    /// A mutable reference to the message.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// Takes the message out.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The metadata that comes before the first message (gRPC's initial metadata).
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A mutable reference to the metadata before the first message.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// The metadata that comes with the end of a successful call (gRPC's trailing metadata). On a client, a streamed
    /// response has it in [`Streaming::trailers`](crate::Streaming::trailers) after the stream has ended.
    pub const fn trailers(&self) -> &Metadata {
        &self.trailers
    }

    /// A mutable reference to the metadata that comes with the end. A call that fails sends
    /// [`Status::metadata`](crate::Status::metadata) instead.
    pub const fn trailers_mut(&mut self) -> &mut Metadata {
        &mut self.trailers
    }

    /// The same response with another message.
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
