//! One call from beginning to end: its deadline, its connections, and what may be repeated.
//!
//! The four kinds of call in terms of [`ClientCall`]s. It decides by the protocol's table (section 9); how
//! connections are made and frames written is below it.

mod outbound;
mod streaming;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use super::calls::{ClientCall, ClientConnection, Head, OpenError};
use super::channel::Channel;
use super::shared::{Shared, Wish};
use crate::codegen::{Idempotency, Method};
use crate::connection::call::{End, Lost, Next};
use crate::connection::clock::later;
use crate::deadline;
use crate::error::{Failure, IpcError};
use crate::layer::run;
use crate::layer::{CallContext, Path};
use crate::metadata::Metadata;
use crate::request::{Request, Response, Timeout};
use crate::status::{Code, Status};
use crate::wire::{self, Close};

/// A call is written to at most this many connections.
const MAX_ATTEMPTS: u32 = 3;

impl Channel {
    /// A call with one message each way.
    ///
    /// # Errors
    ///
    /// What the server answered, or why there is no answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call; the server's handler is dropped as well.
    pub async fn unary<Q, R>(&self, method: Method, request: Request<Q>) -> Result<Response<R>, IpcError>
    where
        Q: Message,
        R: Message + Default,
    {
        let shared = self.shared();
        let mut call = Invocation::new(shared, method, &request, shared.unary_timeout());
        let (metadata, message) = request.into_parts();
        let (deadline, progress) = (call.deadline, Arc::clone(&call.progress));
        let context = |metadata| call_context(method, metadata, deadline);
        let make = |metadata| async move {
            loop {
                let Some(open) = call.open(&metadata, Some(&message)).await? else { continue };
                match single_answer(&open).await {
                    Ok(response) => return Ok(response),
                    Err(unanswered) => call.may_repeat(unanswered, true).await?,
                }
            }
        };
        within(shared, deadline, &progress, async {
            if self.layers().is_empty() {
                return make(metadata).await;
            }
            Box::pin(run::single(self.layers(), context(metadata), make)).await
        })
        .await
    }
}

/// What a call keeps across the connections it is tried on.
struct Invocation {
    shared: Arc<Shared>,
    method: Method,
    deadline: Option<Instant>,
    wish: Wish,
    attempts: u32,
    progress: Arc<Progress>,
    /// An earlier attempt may have been processed: its request was written and never answered.
    perhaps_processed: bool,
    /// The last connection the call was sent on.
    connection: Option<Arc<ClientConnection>>,
}

/// How far a call has come, for the error when its deadline passes.
#[derive(Debug, Default)]
struct Progress {
    sent: AtomicBool,
}

/// Why a call that was opened has no answer.
enum Unanswered {
    Lost(Lost),
    /// The server closed the call with an error.
    Refused {
        status: Status,
        not_processed: bool,
    },
    /// Something else, that no repetition mends.
    Failed(IpcError),
}

impl Invocation {
    fn new<T>(shared: &Arc<Shared>, method: Method, request: &Request<T>, default: Option<Duration>) -> Self {
        let timeout = match request.timeout {
            Timeout::Default => default,
            Timeout::Never => None,
            Timeout::After(timeout) => Some(timeout),
        };
        Self {
            shared: Arc::clone(shared),
            method,
            deadline: deadline::within(
                timeout.map(|timeout| later(Instant::now(), timeout)),
                request.inherits_deadline,
            ),
            wish: Wish::new(request.wait_for_ready.unwrap_or(shared.options.wait_for_ready)),
            attempts: 0,
            progress: Arc::default(),
            perhaps_processed: false,
            connection: None,
        }
    }

    /// Opens the call on a connection; `None` if that closed before anything was written, and another one must
    /// be found.
    async fn open<M: Message>(
        &mut self,
        metadata: &Metadata,
        message: Option<&M>,
    ) -> Result<Option<ClientCall>, IpcError> {
        let connection = self.shared.ready(&mut self.wish).await.map_err(|error| self.confess(error))?;
        let head = Head { method: self.method.path(), metadata, deadline: self.deadline };
        match connection.open(&head, message).await {
            Ok(call) => {
                self.attempts += 1;
                self.progress.sent.store(true, Ordering::Relaxed);
                self.connection = Some(connection);
                Ok(Some(call))
            }
            Err(OpenError::Closed) => {
                self.wish.again();
                Ok(None)
            }
            Err(OpenError::Failed(error)) => Err(self.confess(error)),
            // The deadline's own timer is about to say the same.
            Err(OpenError::Expired) => std::future::pending().await,
        }
    }

    /// Returns where the call may be sent again, once it is time to; `repeatable` says whether its whole
    /// request is still at hand.
    async fn may_repeat(&mut self, unanswered: Unanswered, repeatable: bool) -> Result<(), IpcError> {
        let may = repeatable && self.attempts < MAX_ATTEMPTS;
        let error = match unanswered {
            Unanswered::Lost(lost) => {
                let harmless = self.method.level() != Idempotency::Unknown;
                if may && !lost.begun && (!lost.sent || harmless) {
                    self.perhaps_processed |= lost.sent;
                    self.wish_again();
                    return Ok(());
                }
                lost_error(&self.shared.endpoint, &lost)
            }
            Unanswered::Refused { status, not_processed: true } => {
                if may && status.code() == Code::Unavailable {
                    self.wish_again();
                    tokio::time::sleep_until(self.shared.retry_at()).await;
                    return Ok(());
                }
                IpcError::Status(self.explain(status).not_processed())
            }
            Unanswered::Refused { status, not_processed: false } => IpcError::Status(status),
            Unanswered::Failed(error) => error,
        };
        Err(self.confess(error))
    }

    fn wish_again(&mut self) {
        self.progress.sent.store(self.perhaps_processed, Ordering::Relaxed);
        self.wish.again();
    }

    /// An error that says of the last attempt that its request was not seen must not say so of the call, if an
    /// earlier attempt may have been processed.
    fn confess(&self, error: IpcError) -> IpcError {
        if !self.perhaps_processed || error.request_sent() {
            return error;
        }
        if let IpcError::Status(status) = error {
            return IpcError::Status(status.perhaps_processed());
        }
        let kind = if let IpcError::Io(error) = &error { error.kind() } else { std::io::ErrorKind::Other };
        let failure = Failure {
            endpoint: Arc::clone(&self.shared.endpoint),
            phase: "repeating a call to",
            code: error.code(),
            cause: Arc::new(error),
            remedy: "an earlier attempt may have been processed, so repeat it only if that does no harm",
            request_sent: true,
        };
        failure.into_error(kind)
    }

    /// An answer that the method is unknown says so if the server was built from another schema.
    fn explain(&self, status: Status) -> Status {
        let peer = self.connection.as_ref().map(|connection| &connection.peer);
        let theirs = peer.and_then(|peer| peer.fingerprint(self.method.service()));
        match theirs {
            Some(theirs)
                if status.code() == Code::Unimplemented
                    && self.method.fingerprint() != 0
                    && theirs != self.method.fingerprint() =>
            {
                let words = format!(
                    "{}; the server was built from another schema of {} and may be older than this client",
                    status.message(),
                    self.method.service()
                );
                Status::new(Code::Unimplemented, words).with_metadata(status.metadata().clone())
            }
            _ => status,
        }
    }
}

/// The error of a call whose connection ended before its answer.
pub(crate) fn lost_error(endpoint: &Arc<str>, lost: &Lost) -> IpcError {
    let code = if lost.cause.is_damage() { Code::DataLoss } else { Code::Unavailable };
    let failure = Failure {
        endpoint: Arc::clone(endpoint),
        phase: "lost the connection to",
        cause: Arc::clone(&lost.cause),
        remedy: if lost.sent {
            "the request may have been processed, so repeat it only if that does no harm"
        } else {
            "the request was not processed, so it can be sent again"
        },
        code,
        request_sent: lost.sent,
    };
    failure.into_error(std::io::ErrorKind::ConnectionReset)
}

/// What the layers of a call are told of it.
fn call_context(method: Method, metadata: Metadata, deadline: Option<Instant>) -> CallContext {
    CallContext::new(Path::Static(method.path()), metadata, deadline, None)
}

impl Shared {
    fn unary_timeout(&self) -> Option<Duration> {
        match self.options.unary_timeout {
            Timeout::After(timeout) => Some(timeout),
            Timeout::Default => Some(self.config.read_timeout()),
            Timeout::Never => None,
        }
    }

    fn streaming_timeout(&self) -> Option<Duration> {
        match self.options.streaming_timeout {
            Timeout::After(timeout) => Some(timeout),
            Timeout::Default | Timeout::Never => None,
        }
    }
}

/// Runs `work` until it is done or the deadline passes.
async fn within<T>(
    shared: &Arc<Shared>,
    deadline: Option<Instant>,
    progress: &Progress,
    work: impl Future<Output = Result<T, IpcError>>,
) -> Result<T, IpcError> {
    let Some(deadline) = deadline else { return work.await };
    match tokio::time::timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) if progress.sent.load(Ordering::Relaxed) => Err(IpcError::Timeout),
        Err(_) => Err(shared.never_ready()),
    }
}

/// The answer of a call whose method streams no responses: exactly one message, however it is split.
async fn single_answer<R: Message + Default>(call: &ClientCall) -> Result<Response<R>, Unanswered> {
    let (mut metadata, mut message) = (Metadata::new(), None);
    loop {
        match call.next().await {
            Next::Headers(headers) => metadata = headers,
            Next::Item(item) if message.is_none() => message = Some(item),
            Next::Item(_) => return Err(wrong_count("more than one message")),
            Next::End(end) => {
                let close = closed(end)?;
                let Some(message) = message else { return Err(wrong_count("no message")) };
                if metadata.is_empty() {
                    metadata = wire::metadata(close.headers);
                }
                let trailers = wire::metadata(close.trailers);
                for part in [&metadata, &trailers] {
                    check_keys(part).map_err(Unanswered::Failed)?;
                }
                let message = R::decode(message).map_err(|error| Unanswered::Failed(error.into()))?;
                return Ok(Response::received(message, metadata, trailers));
            }
        }
    }
}

/// The server's `Close`, if it is a success.
fn closed(end: End) -> Result<Close, Unanswered> {
    match end {
        End::Closed(mut close) => match close.status.take() {
            Some(status) if status.code != Code::Ok as i32 => Err(refused(status, close)),
            _ => Ok(close),
        },
        End::Lost(lost) => Err(Unanswered::Lost(lost)),
        End::Cancelled(status) => Err(Unanswered::Failed(IpcError::Status(status))),
        End::HalfClosed => Err(Unanswered::Failed(IpcError::PeerClosed)),
    }
}

fn refused(status: wire::WireStatus, close: Close) -> Unanswered {
    let mut metadata = wire::metadata(close.headers);
    metadata.merge(wire::metadata(close.trailers));
    if let Err(error) = check_keys(&metadata) {
        return Unanswered::Failed(error);
    }
    let status = status.into_status().with_metadata(metadata);
    Unanswered::Refused { status, not_processed: close.not_processed }
}

fn check_keys(metadata: &Metadata) -> Result<(), IpcError> {
    match metadata.first_bad_key() {
        None => Ok(()),
        Some(why) => Err(IpcError::Status(Status::internal(format!("the server sent bad metadata: {why}")))),
    }
}

fn wrong_count(what: &str) -> Unanswered {
    let words = format!("the server sent {what} where the method has exactly one");
    Unanswered::Failed(IpcError::Status(Status::internal(words)))
}
