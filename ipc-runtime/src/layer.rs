//! Layers: code around every call, for authorisation, tracing, metrics, on either side.
//!
//! A layer sees a [`CallContext`] and runs the [`Next`]; what a call's messages are it does not know. Where no
//! layer is set, none of this is touched.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::status::Status;

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a layer knows of a call, and may change.
#[derive(Debug)]
pub struct CallContext {
    path: Path,
    metadata: Metadata,
    deadline: Option<Instant>,
    peer: Option<Arc<PeerInfo>>,
    response_metadata: Metadata,
    trailers: Metadata,
    answer: Option<Vec<Bytes>>,
}

/// A method's path, `/package.Service/Method`.
#[derive(Clone, Debug)]
pub(crate) enum Path {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Path {
    fn as_str(&self) -> &str {
        match self {
            Self::Static(path) => path,
            Self::Shared(path) => path,
        }
    }
}

impl CallContext {
    pub(crate) const fn new(
        path: Path,
        metadata: Metadata,
        deadline: Option<Instant>,
        peer: Option<Arc<PeerInfo>>,
    ) -> Self {
        Self {
            path,
            metadata,
            deadline,
            peer,
            response_metadata: Metadata::new(),
            trailers: Metadata::new(),
            answer: None,
        }
    }

    /// The full name of the service, such as `greeter.v1.Greeter`.
    #[must_use]
    pub fn service(&self) -> &str {
        self.split().0
    }

    /// The method's wire name, such as `SayHello`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.split().1
    }

    /// When the call must be over; `None` if it may take as long as it takes.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// On a server, who calls. `None` on a client, where no connection may be made yet.
    #[must_use]
    pub fn peer(&self) -> Option<&PeerInfo> {
        self.peer.as_deref()
    }

    /// The metadata of the request.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata of the request, as what comes next shall see it.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// The metadata before the answer's first message. On a client it is there after [`Next::run`].
    #[must_use]
    pub const fn response_metadata(&self) -> &Metadata {
        &self.response_metadata
    }

    /// The metadata before the answer's first message, to be changed. On a server, what a streamed answer shall
    /// begin with must be set before [`Next::run`].
    pub const fn response_metadata_mut(&mut self) -> &mut Metadata {
        &mut self.response_metadata
    }

    /// The metadata at the end of a call that succeeds. On a client they are there after [`Next::run`] of a call
    /// with a single response.
    #[must_use]
    pub const fn trailers(&self) -> &Metadata {
        &self.trailers
    }

    /// The metadata at the end, to be changed.
    pub const fn trailers_mut(&mut self) -> &mut Metadata {
        &mut self.trailers
    }

    /// Answers the call with `message`, instead of running what comes next or of what that answered. On a
    /// method that streams its answer, each use adds a message.
    pub fn answer(&mut self, message: &impl Message) {
        self.answer.get_or_insert_default().push(message.encode_to_vec().into());
    }

    fn split(&self) -> (&str, &str) {
        let path = self.path.as_str();
        path.strip_prefix('/').unwrap_or(path).rsplit_once('/').unwrap_or((path, ""))
    }

    pub(crate) fn take_answer(&mut self) -> Option<Vec<Bytes>> {
        self.answer.take()
    }

    pub(crate) fn into_response_metadata(self) -> (Metadata, Metadata) {
        (self.response_metadata, self.trailers)
    }
}

/// Code around every call that a server answers.
///
/// ```
/// use ipc_runtime::{CallContext, Next, ServerLayer, Status};
///
/// struct Token;
///
/// impl ServerLayer for Token {
///     async fn call(&self, call: &mut CallContext, next: Next<'_, Status>) -> Result<(), Status> {
///         if call.metadata().get("token") != Some("secret") {
///             return Err(Status::unauthenticated("send a token"));
///         }
///         next.run(call).await
///     }
/// }
/// # let _ = ipc_runtime::Server::builder().layer(Token);
/// ```
pub trait ServerLayer: Send + Sync + 'static {
    /// Sees one call. `next` runs the layers after this one and the handler, until the answer has been given, all
    /// of it where it streams.
    ///
    /// # Errors
    ///
    /// What the client is answered, whether or not the handler ran.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped where it stands when the call is cancelled or its deadline passes.
    fn call(
        &self,
        call: &mut CallContext,
        next: Next<'_, Status>,
    ) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Code around every call that a client makes.
pub trait ClientLayer: Send + Sync + 'static {
    /// Sees one call. `next` runs the layers after this one and makes the call, until its single response is
    /// there or its streamed one has begun.
    ///
    /// # Errors
    ///
    /// What the caller gets, whether or not the call was made.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped where it stands when the caller drops the call or its deadline passes.
    fn call(
        &self,
        call: &mut CallContext,
        next: Next<'_, IpcError>,
    ) -> impl Future<Output = Result<(), IpcError>> + Send;
}

/// A layer whose type is forgotten; `E` tells the sides apart.
pub(crate) trait Erased<E>: Send + Sync {
    fn call<'a>(&'a self, call: &'a mut CallContext, next: Next<'a, E>) -> Boxed<'a, Result<(), E>>;
}

impl<L: ServerLayer> Erased<Status> for L {
    fn call<'a>(
        &'a self,
        call: &'a mut CallContext,
        next: Next<'a, Status>,
    ) -> Boxed<'a, Result<(), Status>> {
        Box::pin(ServerLayer::call(self, call, next))
    }
}

impl<L: ClientLayer> Erased<IpcError> for L {
    fn call<'a>(
        &'a self,
        call: &'a mut CallContext,
        next: Next<'a, IpcError>,
    ) -> Boxed<'a, Result<(), IpcError>> {
        Box::pin(ClientLayer::call(self, call, next))
    }
}

/// Layers in the order in which they see a call.
///
/// Without any, copying this costs nothing, as each call does.
pub(crate) struct Layers<E>(Option<Arc<[Arc<dyn Erased<E>>]>>);

impl<E> Layers<E> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// These layers, and `other`'s inside them.
    pub(crate) fn with(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (Some(outer), Some(inner)) => Self(Some(outer.iter().chain(inner.iter()).cloned().collect())),
            (layers, None) | (None, layers) => Self(layers.clone()),
        }
    }

    pub(crate) fn one(layer: impl Erased<E> + 'static) -> Self {
        Self(Some(Arc::from([Arc::new(layer) as Arc<dyn Erased<E>>])))
    }

    /// Runs a call through the layers. `last` makes it, with the request's metadata and what the answer's
    /// shall begin with, and returns the answer's metadata and trailers.
    pub(crate) async fn run<'a, F, Fut>(&'a self, call: &'a mut CallContext, last: F) -> Result<(), E>
    where
        F: FnOnce(Metadata, Metadata) -> Fut + Send + 'a,
        Fut: Future<Output = Made<E>> + Send + 'a,
    {
        let last = Box::new(Make { make: last, outlives: PhantomData });
        Next { layers: self.0.as_deref().unwrap_or_default(), last }.run(call).await
    }
}

impl<E> Clone for Layers<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Default for Layers<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E> fmt::Debug for Layers<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.0.as_ref().map_or(0, |layers| layers.len()))
    }
}

/// What comes after all layers.
trait Last<E>: Send {
    fn run<'a>(self: Box<Self>, metadata: Metadata, begin: Metadata) -> Boxed<'a, Made<E>>
    where
        Self: 'a;
}

/// The answer's metadata and trailers.
type Made<E> = Result<(Metadata, Metadata), E>;

/// A function that makes the call, and proof that its future lives as long.
struct Make<'f, F> {
    make: F,
    outlives: PhantomData<&'f ()>,
}

impl<'f, E, F, Fut> Last<E> for Make<'f, F>
where
    F: FnOnce(Metadata, Metadata) -> Fut + Send + 'f,
    Fut: Future<Output = Made<E>> + Send + 'f,
{
    fn run<'a>(self: Box<Self>, metadata: Metadata, begin: Metadata) -> Boxed<'a, Made<E>>
    where
        Self: 'a,
    {
        Box::pin((self.make)(metadata, begin))
    }
}

/// What comes after a layer: the other layers, and the call itself.
pub struct Next<'a, E> {
    layers: &'a [Arc<dyn Erased<E>>],
    last: Box<dyn Last<E> + 'a>,
}

impl<E> Next<'_, E> {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// How the call failed; a layer may pass it on, change it, or [answer](CallContext::answer) all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the call is cancelled.
    pub async fn run(self, call: &mut CallContext) -> Result<(), E> {
        if let Some((layer, layers)) = self.layers.split_first() {
            return layer.call(call, Next { layers, last: self.last }).await;
        }
        let begin = call.response_metadata.clone();
        let (metadata, trailers) = self.last.run(call.metadata.clone(), begin).await?;
        call.response_metadata = metadata;
        call.trailers.merge(trailers);
        Ok(())
    }
}

impl<E> fmt::Debug for Next<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

pub(crate) fn unanswered() -> Status {
    Status::internal("a layer neither answered the call nor ran what comes next")
}
